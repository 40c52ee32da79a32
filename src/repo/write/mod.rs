//! Writing chunks: plain content in, packs in the store and tree roots out.
//!
//! The caller feeds leaves in tree order and streams in any order; workers compute ids, skip what the
//! store has, compress and seal; one assembler fills packs and builds nodes; uploaders store packs.
//! Nothing here commits: until a ledger entry names them, packs are orphans.

mod announce;
mod assembler;
mod feeder;
mod run;
mod worker;

pub use announce::Announcer;
pub use feeder::Feeder;
pub use run::{BuiltTree, Setup, StoredPack, UsedPacks, WriteError, Written, write};
