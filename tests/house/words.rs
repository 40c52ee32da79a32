//! Text that must not occur in any file: output outside `cli`, unfinished work, paths of one machine.

use crate::findings::Findings;
use crate::source::{File, root, rust_files, text_files};

#[test]
fn only_the_cli_does_terminal_io_and_reads_the_environment() {
    const OUTPUT: &[&str] = &["print!(", "println!(", "eprint!(", "eprintln!(", "io::stdout(", "io::stderr("];
    const INPUT: &[&str] = &["process::exit(", "std::env", "env::var", "env::args", "env::temp_dir", "io::stdin("];
    let mut found = Findings::default();
    for file in rust_files("src").iter().filter(|file| file.folder() != "cli" && file.folder() != "main.rs") {
        for word in OUTPUT.iter().chain(INPUT) {
            for (at, _) in file.code.match_indices(word) {
                let is_word = !file.code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
                if is_word && !file.is_test(at) {
                    found.add(file, at, &format!("`{word}` outside cli"));
                }
            }
        }
    }
    found.none();
}

#[test]
fn no_work_is_unfinished() {
    let mut found = Findings::default();
    for file in rust_files("src") {
        for word in [".unwrap()", "todo!(", "unimplemented!(", "dbg!("] {
            for (at, _) in file.code.match_indices(word).filter(|(at, _)| !file.is_test(*at)) {
                found.add(&file, at, &format!("`{word}`"));
            }
        }
        for word in ["TODO", "FIXME", "XXX"] {
            for (at, _) in file.text.match_indices(word) {
                found.add(&file, at, word);
            }
        }
    }
    found.none();
}

#[test]
fn no_file_depends_on_one_machine() {
    // Each is split in two, so that this file does not violate its own rule.
    let paths = [concat!("/wo", "rk/"), concat!("/fa", "rm/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let registries =
        [concat!("index-", "url"), concat!("extra-", "index"), concat!("replace-", "with"), concat!("_auth", "Token")];
    let mut found = Findings::default();
    for (path, text) in text_files(root()) {
        let file = File::new(path, text);
        for word in paths {
            let is_root = |at: usize| {
                !file.text[..at].ends_with(|before: char| before.is_alphanumeric() || "._-}".contains(before))
            };
            for (at, _) in file.text.match_indices(word).filter(|(at, _)| is_root(*at)) {
                found.add(&file, at, &format!("a path of one machine: {word}"));
            }
        }
        for word in registries {
            for (at, _) in file.text.match_indices(word) {
                found.add(&file, at, &format!("a registry's address: {word}"));
            }
        }
        if file.path == "Cargo.lock" {
            for (at, _) in file.text.match_indices("source = ") {
                if !file.line_text(at).contains("\"registry+") {
                    found.add(&file, at, "a dependency that is not from a registry");
                }
            }
        }
    }
    found.none();
}

#[test]
fn property_tests_save_failed_cases_below_tests() {
    let mut found = Findings::default();
    for file in rust_files("src") {
        for (at, word) in file.code.match_indices("proptest! {") {
            if !file.code[at + word.len()..].trim_start().starts_with("#![proptest_config(crate::base::property::") {
                found.add(&file, at, "must begin with `#![proptest_config(crate::base::property::config())]`");
            }
        }
    }
    found.none();
}
