//! Reads a snapshot: manifest, nodes, leaves, streams.

mod data_keys;
mod fetch;
mod known_keys;
mod snapshot;
mod walk;

pub use snapshot::{LeafRef, SnapshotReader, Want};
pub use walk::{LeafBatch, LostNode, by_stream_count, leaf_of_length, piece_of_length};
