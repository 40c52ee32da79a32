//! The losses section of a manifest (`docs/format.md` section 9): rows and values that could not be read or stored. It is
//! of the data tier, because it names rows.

use serde::{Deserialize, Serialize};

use crate::base::limit::{LOSS_TEXT_BYTES_MAX, LOSSES_MAX};

/// What could not be read or stored.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Losses {
    /// In order. No two are alike.
    pub entries: Vec<Loss>,
    /// Losses for which there was no room.
    pub left_out: u64,
}

/// A row or value that could not be read or stored.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Loss {
    /// Number of its table.
    pub table: u32,
    /// The placement key of the row in base64, if it is known.
    pub key: Option<String>,
    /// Otherwise, how the source names the row.
    pub row: Option<String>,
    /// Number of the column. `None` if the whole row was lost for another reason than a value.
    pub column: Option<u32>,
    /// What the source said.
    pub text: String,
}

impl Losses {
    /// Orders losses, drops repeated ones, and leaves out those beyond the limit.
    #[must_use]
    pub fn new(mut entries: Vec<Loss>) -> Self {
        entries.iter_mut().for_each(|loss| loss.text = shortened(std::mem::take(&mut loss.text)));
        entries.sort_unstable();
        entries.dedup();
        let left_out = entries.len().saturating_sub(LOSSES_MAX) as u64;
        entries.truncate(LOSSES_MAX);
        Self { entries, left_out }
    }
}

/// The beginning of a text that is too long.
fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LOSS_TEXT_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::{Loss, Losses};

    #[test]
    fn losses_are_in_order_unique_and_limited() {
        let loss = |row: u32| Loss {
            table: 1,
            key: None,
            row: Some(format!("ctid (0,{row})")),
            column: Some(2),
            text: "\u{e9}".repeat(1000),
        };
        let two = Losses::new(vec![loss(2), loss(1), loss(2)]);
        assert_eq!((two.entries.len(), two.left_out), (2, 0));
        assert!(two.entries.is_sorted() && two.entries[0].text.len() == 1024);
        let many = Losses::new((0..10_007).map(loss).collect());
        assert_eq!((many.entries.len(), many.left_out), (10_000, 7));
    }
}
