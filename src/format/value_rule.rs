//! The form in which a path compares a value of the child or of the parent (`docs/format.md` section 9).

use std::borrow::Cow;

use crate::format::affinity::Affinity;
use crate::format::cell::{Cell, Encoding};
use crate::format::key::{Fold, foldable_text, without_trailing};

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
        if matches!(cell, Cell::Null | Cell::Absent) {
            return Comparable::No;
        }
        if self.prefix.is_empty() && self.suffix.is_empty() {
            self.affinity.push(out, cell, self.fold);
            return Comparable::Yes;
        }
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
