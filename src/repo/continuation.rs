//! Whether a command may add to a chain. An entry at the number of one that is missing makes all later entries void for
//! good, and somebody who does not see the newest entries decides by what is no longer true.

use crate::format::name::Name;
use crate::repo::chain::{self, Link};
use crate::repo::error::RepoError;
use crate::repo::heads::ChainId;
use crate::repo::objects::Objects;

/// A chain whose end was read.
pub(super) struct ChainEnd<'a> {
    pub(super) chain: ChainId,
    /// The first number that no object has.
    pub(super) next: u64,
    /// Numbers beyond it that the store lists.
    pub(super) beyond: &'a [u64],
    /// Whether the object at a number is an entry of this chain that a key signed which is not distrusted.
    pub(super) binds: &'a dyn Fn(u64, &Link) -> bool,
}

impl ChainEnd<'_> {
    /// Checks that nothing of the chain is missing.
    /// Fails if it lacks an entry that this host saw (`RepoError::WentBack`), if an entry beyond a missing one counts
    /// (`Hole`), or if the store fails.
    pub(super) fn check(&self, objects: &Objects) -> Result<(), RepoError> {
        if let Some(beyond) = self.entry_beyond(objects)? {
            let object = self.chain.entry(self.next).to_string();
            return Err(RepoError::Hole { object, beyond: beyond.to_string() });
        }
        match objects.heads().and_then(|heads| heads.fault(self.chain)) {
            Some(fault) => Err(RepoError::WentBack { object: fault.object, reason: fault.detail }),
            None => Ok(()),
        }
    }

    fn entry_beyond(&self, objects: &Objects) -> Result<Option<Name>, RepoError> {
        let names = self.beyond.iter().map(|number| self.chain.entry(*number));
        chain::find(objects, names, |name, link| number_of(name).is_some_and(|number| (self.binds)(number, link)))
    }
}

fn number_of(name: &Name) -> Option<u64> {
    match name {
        Name::Roster(number) | Name::Ledger(_, number) => Some(*number),
        _ => None,
    }
}
