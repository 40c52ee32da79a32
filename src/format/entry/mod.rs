//! Ledger entries (`docs/format.md` section 10): signed statements about a source, one struct per kind.

mod change;
mod entry;
mod reference;
mod snapshot;

pub use change::{
    Accept, AcceptLoss, Add, Erase, Forget, Hold, HoldEnd, Prune, Readmit, Reject, Repack, RepackedPack,
    ReplacedManifest, Revoke, Tag, TagChange,
};
pub use entry::{ChainPlace, Entry, EntryBody};
pub use reference::{Numbered, ObjectRef};
pub use snapshot::{Snapshot, SnapshotReason, is_tag};
