//! Trees of rows: leaves and nodes, pieces of streams, differences between two trees. Pure: no I/O.

pub mod builder;
pub mod diff;
pub mod stream;
