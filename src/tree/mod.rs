//! Trees of rows: leaves and nodes, pieces of streams, differences between two trees. Pure: no I/O.

pub mod dictionary;
pub mod diff;
pub mod leaf_cutter;
pub mod reference;
pub mod stream;
pub mod tree_builder;
