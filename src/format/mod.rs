//! Stored objects and their parts, converted between bytes and structs (`docs/format.md`). Pure: no I/O, no keys.

pub mod affinity;
pub mod announcement;
mod base64;
pub mod catalog;
pub mod cell;
pub mod codec;
pub mod descriptor;
pub mod dsse;
pub mod entry;
pub mod fact;
pub mod fragment;
pub mod grant;
pub mod header;
mod json;
pub mod key;
pub mod leaf;
pub mod losses;
pub mod manifest;
pub mod name;
pub mod node;
pub mod pack;
pub mod roster;
pub mod server_encoding;
pub mod stream_lists;
pub mod value_rule;
pub mod wire;
