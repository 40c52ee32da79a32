//! Writing chunks: plain content in, packs in the store and tree roots out.

mod announce;
mod assembler;
mod feeder;
mod pieces;
mod pipeline;
mod worker;

pub use announce::Announcer;
pub use feeder::Feeder;
pub use pipeline::{BuiltTree, Setup, StoredPack, UsedPacks, WriteError, WriteMode, Written, write};
