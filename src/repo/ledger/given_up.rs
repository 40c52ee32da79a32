//! What entries that are void would have added. Once an admin gives them up, that counts as forgotten.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::id::Digest;
use crate::repo::lost_numbers::LostNumbers;

/// Objects of void entries, by the number of the entry.
#[derive(Clone, Debug, Default)]
pub(super) struct VoidObjects(BTreeMap<u64, Vec<Digest>>);

impl VoidObjects {
    /// Remembers what the void entry at this number names.
    pub(super) fn add(&mut self, number: u64, objects: Vec<Digest>) {
        if !objects.is_empty() {
            self.0.insert(number, objects);
        }
    }

    /// The objects of entries that were given up.
    pub(super) fn given_up<'a>(&'a self, losses: &'a LostNumbers) -> BTreeSet<Digest> {
        let entries = self.0.iter().filter(|(number, _)| losses.contain(**number));
        entries.flat_map(|(_, objects)| objects.iter().copied()).collect()
    }
}
