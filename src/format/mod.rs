//! Stored objects, one per file, bytes <-> structs (`docs/format.md`). Pure: no I/O, no keys.

pub mod cell;
pub mod key;
pub mod wire;
