//! The form in which a path compares a value of the child or of the parent (`docs/format.md` section 9).

use std::borrow::Cow;

use crate::format::affinity::Affinity;
use crate::format::cell::{Cell, Encoding};
use crate::format::key::{Fold, foldable_text, push_folded, without_trailing};

/// What is compared of a value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ValueRule {
    /// Text before the part that is compared. If the value does not begin with it, the value matches nothing.
    pub prefix: String,
    /// Text after that part.
    pub suffix: String,
    pub fold: Fold,
    pub affinity: Affinity,
}

/// Whether a value can match anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparable {
    Yes,
    No,
}

impl ValueRule {
    /// Appends the component by which the value is compared. Appends nothing if it matches nothing.
    pub fn push(&self, out: &mut Vec<u8>, cell: &Cell<'_>) -> Comparable {
        if matches!(cell, Cell::Null | Cell::Absent | Cell::Lost) {
            return Comparable::No;
        }
        if self.is_whole() {
            self.push_whole(out, cell);
            return Comparable::Yes;
        }
        self.push_inner(out, cell)
    }

    fn push_whole(&self, out: &mut Vec<u8>, cell: &Cell<'_>) {
        match self.affinity {
            Affinity::None => push_folded(out, cell, self.fold),
            affinity => affinity.push(out, cell, self.fold),
        }
    }

    /// Whether the whole value is compared.
    fn is_whole(&self) -> bool {
        self.prefix.is_empty() && self.suffix.is_empty()
    }

    /// Appends the component of the text between prefix and suffix.
    fn push_inner(&self, out: &mut Vec<u8>, cell: &Cell<'_>) -> Comparable {
        let Some(text) = foldable_text(cell).map(|text| self.folded(text)) else { return Comparable::No };
        let Some(inner) = self.without_ends(&text) else { return Comparable::No };
        self.affinity.push(out, &text_cell(inner), self.fold);
        Comparable::Yes
    }

    fn folded<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        match self.fold {
            Fold::Exact => Cow::Borrowed(text),
            Fold::AsciiCase => Cow::Owned(text.to_ascii_lowercase()),
            Fold::TrailingSpace => Cow::Borrowed(without_trailing(text, b' ')),
        }
    }

    /// The text between prefix and suffix.
    fn without_ends<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let prefix = self.prefix.as_bytes();
        // Spaces at the end of a prefix are not at the end of the value.
        let prefix = if self.fold == Fold::TrailingSpace { Cow::Borrowed(prefix) } else { self.folded(prefix) };
        text.strip_prefix(&*prefix)?.strip_suffix(&*self.folded(self.suffix.as_bytes()))
    }
}

/// Text whose encoding does not matter to its component.
fn text_cell(bytes: &[u8]) -> Cell<'_> {
    std::str::from_utf8(bytes).map_or(Cell::Encoded(Encoding::Utf8Invalid, bytes), Cell::Text)
}

#[cfg(test)]
mod tests {
    use super::{Comparable, ValueRule};
    use crate::format::affinity::Affinity;
    use crate::format::cell::{Cell, Encoding};
    use crate::format::key::{Fold, push_component};

    fn compared(rule: &ValueRule, cell: &Cell<'_>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let comparable = rule.push(&mut out, cell);
        assert!(comparable == Comparable::Yes || out.is_empty());
        (comparable == Comparable::Yes).then_some(out)
    }

    fn component(cell: &Cell<'_>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        push_component(&mut out, cell);
        Some(out)
    }

    fn between(prefix: &str, suffix: &str) -> ValueRule {
        ValueRule { prefix: prefix.to_owned(), suffix: suffix.to_owned(), ..ValueRule::default() }
    }

    #[test]
    fn null_matches_nothing_and_empty_text_is_a_value() {
        for rule in [ValueRule::default(), between("a", ""), ValueRule { affinity: Affinity::Text, ..between("", "") }]
        {
            assert_eq!(compared(&rule, &Cell::Null), None);
            assert_eq!(compared(&rule, &Cell::Absent), None);
        }
        assert_eq!(compared(&ValueRule::default(), &Cell::Text("")), component(&Cell::Text("")));
        assert_eq!(compared(&between("a", "b"), &Cell::Text("ab")), component(&Cell::Text("")));
    }

    #[test]
    fn only_text_with_the_prefix_and_the_suffix_is_compared() {
        let rule = between("principals/", "/self");
        let ann = component(&Cell::Text("ann"));
        assert_eq!(compared(&rule, &Cell::Text("principals/ann/self")), ann);
        assert_eq!(compared(&rule, &Cell::Encoded(Encoding::SqlAscii, b"principals/ann/self")), ann);
        let odd = Cell::Encoded(Encoding::Utf8Invalid, b"principals/\xff/self");
        assert_eq!(compared(&rule, &odd), component(&Cell::Encoded(Encoding::Utf8Invalid, b"\xff")));
        for text in ["principals/ann", "ann/self", "Principals/ann/self", "principals/self", "p", ""] {
            assert_eq!(compared(&rule, &Cell::Text(text)), None, "{text:?}");
        }
        for cell in [
            Cell::Bytes(b"principals/ann/self"),
            Cell::Output(b"principals/ann/self"),
            Cell::Encoded(Encoding::Utf16Le, b"principals/ann/self"),
            Cell::Integer(7),
        ] {
            assert_eq!(compared(&rule, &cell), None, "{cell:?}");
        }
    }

    #[test]
    fn the_ends_are_folded_like_the_value() {
        let folded = |fold, prefix, suffix| ValueRule { fold, ..between(prefix, suffix) };
        let ann = component(&Cell::Text("ann"));
        let no_case = folded(Fold::AsciiCase, "Principals/", "/SELF");
        assert_eq!(compared(&no_case, &Cell::Text("PRINCIPALS/Ann/self")), ann);
        let no_spaces = folded(Fold::TrailingSpace, "user ", " x");
        assert_eq!(compared(&no_spaces, &Cell::Text("user ann  x  ")), ann);
        assert_eq!(compared(&no_spaces, &Cell::Text("user x ")), None);
        assert_eq!(compared(&folded(Fold::AsciiCase, "É", ""), &Cell::Text("éa")), None);
    }

    #[test]
    fn what_is_left_of_a_text_is_converted() {
        let rule = |affinity| ValueRule { affinity, ..between("user-", "") };
        assert_eq!(compared(&rule(Affinity::Numeric), &Cell::Text("user-07")), component(&Cell::Integer(7)));
        assert_eq!(compared(&rule(Affinity::Numeric), &Cell::Text("user-7x")), component(&Cell::Text("7x")));
        assert_eq!(compared(&rule(Affinity::Numeric), &Cell::Text("user-")), component(&Cell::Text("")));
        assert_eq!(compared(&rule(Affinity::Text), &Cell::Text("user-07")), component(&Cell::Text("07")));
        assert_eq!(compared(&rule(Affinity::None), &Cell::Text("user-7")), component(&Cell::Text("7")));
    }
}
