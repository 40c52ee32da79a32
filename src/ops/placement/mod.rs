//! Which table and column is which from one snapshot to the next, and to whom rows belong.

pub mod mapping;
mod matching;
mod table_entry;
pub mod update;
