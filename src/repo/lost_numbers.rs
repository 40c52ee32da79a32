//! Numbers of a chain that an admin has given up (`docs/format.md` section 10).

use std::ops::RangeInclusive;

use crate::format::entry::AcceptLoss;

/// The numbers that `accept_loss` statements name.
#[derive(Clone, Debug, Default)]
pub(super) struct LostNumbers(Vec<RangeInclusive<u64>>);

impl LostNumbers {
    pub(super) fn accept(&mut self, loss: AcceptLoss) {
        self.0.push(loss.numbers);
    }

    pub(super) fn contain(&self, number: u64) -> bool {
        self.0.iter().any(|numbers| numbers.contains(&number))
    }
}
