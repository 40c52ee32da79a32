//! Writing chunks: plain content in, packs in the store and tree roots out.

mod announce;
mod assembler;
mod feeder;
mod pieces;
mod run;
mod worker;

pub use announce::Announcer;
pub use feeder::Feeder;
pub use run::{BuiltTree, Setup, StoredPack, UsedPacks, WriteError, WriteMode, Written, write};
