//! Writing chunks: plain content in, packs in the store and tree roots out.

mod announce;
mod assembler;
mod chunk_sink;
mod pieces;
mod pipeline;
mod worker;

pub use announce::Announcer;
pub use chunk_sink::ChunkSink;
pub use pipeline::{BuiltTree, StoredPack, UsedPacks, WriteError, WriteMode, WriterSetup, Written, write};
