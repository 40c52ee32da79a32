//! Stored objects, one per file, bytes <-> structs (`docs/format.md`). Pure: no I/O, no keys.

pub mod catalog;
pub mod cell;
pub mod codec;
pub mod header;
pub mod index;
pub mod key;
pub mod leaf;
pub mod manifest;
pub mod name;
pub mod node;
pub mod pack;
pub mod wire;
