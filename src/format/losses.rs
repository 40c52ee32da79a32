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

/// A row or value that could not be read or stored. Ordered by its members, texts by their bytes: also the key, whose base64
/// has another order than the key itself.
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
    /// Whether these are losses as a writer stores them: in order, not more than the limit, and each names its row in one
    /// way.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.entries.len() <= LOSSES_MAX
            && self.entries.is_sorted_by(|one, next| one < next)
            && self.entries.iter().all(|loss| loss.key.is_some() != loss.row.is_some() && has_short_text(loss))
    }

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

fn has_short_text(loss: &Loss) -> bool {
    loss.text.len() <= LOSS_TEXT_BYTES_MAX
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

        let keyed = |key: &[u8]| Loss {
            key: Some(data_encoding::BASE64.encode(key)),
            row: None,
            text: String::new(),
            ..loss(1)
        };
        let by_text = Losses::new(vec![keyed(&[0x00]), keyed(&[0xff]), keyed(&[0x68])]);
        let keys: Vec<_> = by_text.entries.iter().filter_map(|loss| loss.key.as_deref()).collect();
        assert_eq!(keys, ["/w==", "AA==", "aA=="]);
        assert!(by_text.is_sound() && two.is_sound() && many.is_sound());
        let of = |entries: Vec<Loss>| Losses { entries, left_out: 0 };
        let long = Loss { text: "x".repeat(1025), ..loss(1) };
        let twice = Loss { key: Some(String::new()), text: String::new(), ..loss(1) };
        let short = |row| Loss { text: String::new(), ..loss(row) };
        let unsound = [vec![short(2), short(1)], vec![short(1), short(1)], vec![long], vec![twice]];
        assert!(unsound.into_iter().all(|entries| !of(entries).is_sound()));
        assert!(!of(many.entries.iter().cloned().chain([Loss { table: 2, ..loss(1) }]).collect()).is_sound());
    }
}
