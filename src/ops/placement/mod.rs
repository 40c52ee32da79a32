//! Matches tables and columns from one snapshot to the next, and decides which owner each row belongs to.

pub mod mapping;
mod matching;
mod owner_kinds;
mod table_entry;
pub mod table_graph;
pub mod update;
