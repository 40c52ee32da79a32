//! Writes chunks: plain content in, packs in the store and tree roots out.

mod announce;
mod assembler;
mod chunk_sink;
mod in_order;
mod locator;
mod pending;
mod pipeline;
mod placed_root;
mod setup;
mod spans;
mod tree_dictionary;
mod used_dictionaries;
mod worker;

pub use announce::Announcer;
pub use chunk_sink::ChunkSink;
pub use pipeline::write;
pub use setup::{BuiltTree, StoredPack, UsedPacks, WriteMode, WriterSetup, Written};
pub use tree_dictionary::DictionarySource;
