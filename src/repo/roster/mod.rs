//! The fold of the roster (`docs/format.md` section 11): keys, epochs, sources and features.

mod entry;
mod features;
mod fold;
mod key;
mod state;

pub use fold::Roster;
pub use key::EnrolledKey;
pub use state::{EpochState, NameChange, SourceState};
