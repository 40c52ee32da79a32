//! Phrases of a dialect that `docs/style.md` replaces by plain English. None is in comments, messages, names of tests,
//! documents or scripts.

use std::collections::BTreeMap;

use crate::findings::Findings;
use crate::lex::{TokenKind, tokens};
use crate::source::{File, root, text_files};

const PHRASES: &[&str] = &[
    "anew",
    "afresh",
    "whoever",
    "lay aside",
    "lays aside",
    "laid aside",
    "let go",
    "lets go",
    "go on with",
    "goes on with",
    "went on with",
    "going on with",
    "gone on with",
    "that of",
    "those of",
    "what stands",
    "stands in",
    "stands at",
    "stands there",
    "stands before",
    "stands after",
    "stands twice",
    "stood in",
    "lies",
    "lie in",
    "lie at",
    "lie where",
    "in vain",
    "be it",
    "for the time that",
    "came to its end",
    "come to its end",
    "comes to its end",
    "has not the",
    "have not the",
    "had not the",
    "is none",
    "are none",
    "was none",
    "is no",
    "told apart",
    "told from",
    "tell apart",
    "tells apart",
    "became of",
    "becomes of",
    "mend",
    "mends",
    "mended",
    "of no use",
    "not the least",
    "save for",
    "nor does",
    "so that none",
    "none ever",
    "of whom",
    "to be had",
    "knows nothing of",
    "knows no",
    "has no need",
    "have no need",
];

/// Files that quote the phrases.
const QUOTING: &[&str] = &["docs/style.md", "tests/house/prose.rs"];

/// A word of prose and where it begins. An empty word ends a sentence or a clause.
struct Word<'a> {
    text: &'a str,
    at: usize,
}

#[test]
fn prose_is_plain_english() {
    let mut found = Findings::default();
    for (path, text) in text_files(root()).into_iter().filter(|(path, _)| is_prose(path)) {
        let file = File::new(path, text);
        for (at, phrase) in phrases(&file) {
            found.add(&file, at, &format!("\"{phrase}\": see docs/style.md"));
        }
    }
    found.none();
}

fn is_prose(path: &str) -> bool {
    let has_prose = [".rs", ".md", ".toml", ".yml", ".py", ".sql"].iter().any(|end| path.ends_with(end));
    (has_prose || path.starts_with("scripts/")) && !QUOTING.contains(&path)
}

fn phrases(file: &File) -> Vec<(usize, &'static str)> {
    let words = if file.path.ends_with(".rs") { words_of_rust(&file.text) } else { words(&file.text, 0) };
    let mut by_first_word: BTreeMap<&str, Vec<&'static str>> = BTreeMap::new();
    for phrase in PHRASES {
        by_first_word.entry(phrase.split(' ').next().unwrap_or_default()).or_default().push(phrase);
    }
    let mut found = Vec::new();
    for (start, word) in words.iter().enumerate() {
        let Some(phrases) = by_first_word.get(word.text.to_ascii_lowercase().as_str()) else { continue };
        let matching = phrases.iter().filter(|phrase| begins_with(&words, start, phrase));
        found.extend(matching.map(|phrase| (word.at, *phrase)));
    }
    found
}

fn begins_with(words: &[Word<'_>], start: usize, phrase: &str) -> bool {
    let is_there = start > 0 && words[start - 1].text.eq_ignore_ascii_case("there");
    let mut end = start;
    for expected in phrase.split(' ') {
        let Some(word) = words.get(end) else { return false };
        // A capital begins a sentence. Elsewhere it is a name, such as Python's None.
        let is_capital = end == start && word.text.eq_ignore_ascii_case(expected);
        if word.text != expected && !is_capital {
            return false;
        }
        end += 1;
    }
    let is_no_longer = phrase == "is no" && words.get(end).is_some_and(|word| ["longer", "more"].contains(&word.text));
    // "There is none" is plain.
    let is_existence = phrase.starts_with("is no") && is_there;
    !is_existence && !is_no_longer
}

/// The words of comments and literals, and of names of functions.
fn words_of_rust(text: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let mut is_name = false;
    for token in tokens(text) {
        match token.kind {
            TokenKind::Space => {}
            TokenKind::Comment => found.extend(words(token.text, token.at)),
            TokenKind::Literal => {
                found.push(Word { text: "", at: token.at });
                found.extend(words(token.text, token.at));
            }
            TokenKind::Word if is_name => found.extend(words_of_name(token.text, token.at)),
            _ => found.push(Word { text: "", at: token.at }),
        }
        if token.kind != TokenKind::Space {
            is_name = token.text == "fn";
        }
    }
    found
}

fn words_of_name(name: &str, at: usize) -> Vec<Word<'_>> {
    name.split('_').map(|text| Word { text, at }).collect()
}

/// Words, and an empty one for each mark of punctuation. Marks at the beginning of a line belong to comments or lists.
fn words(text: &str, at: usize) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let mut line_at = at;
    for line in text.split_inclusive('\n') {
        let content = line.trim_start().trim_start_matches(['/', '!', '#', '*']);
        words_of_line(content, line_at + line.len() - content.len(), &mut found);
        line_at += line.len();
    }
    found
}

fn words_of_line<'a>(line: &'a str, at: usize, found: &mut Vec<Word<'a>>) {
    let mut start = 0;
    for (i, mark) in line.char_indices().chain([(line.len(), ' ')]) {
        if mark.is_alphanumeric() || "_'".contains(mark) {
            continue;
        }
        if start < i {
            found.push(Word { text: &line[start..i], at: at + start });
        }
        if !mark.is_whitespace() {
            found.push(Word { text: "", at: at + i });
        }
        start = i + mark.len_utf8();
    }
}

#[test]
fn phrases_are_found_in_prose_only() {
    let found = |path: &str, text: &str| -> Vec<&str> {
        phrases(&File::new(path.to_owned(), text.to_owned())).into_iter().map(|(_, phrase)| phrase).collect()
    };
    assert_eq!(
        found("a.rs", "// Rows are laid\n    // aside.\nfn it_lies() { x.is_none(); \"is None\"; }"),
        ["laid aside", "lies"]
    );
    assert_eq!(
        found("a.rs", "/// If there is none. It is no longer that. Of it.\nfn f() { \"Whoever\" }"),
        ["whoever"]
    );
    assert_eq!(found("a.md", "A row is no value, and the pack lies there."), ["is no", "lies"]);
}
