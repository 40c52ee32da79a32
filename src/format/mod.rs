//! Stored objects and their parts, converted between bytes and structs (`docs/format.md`). Pure: no I/O, no keys.

pub mod announcement;
mod base64;
pub mod bundle;
pub mod catalog;
pub mod cell;
pub mod codec;
pub mod copy;
pub mod descriptor;
pub mod dsse;
pub mod entry;
pub mod fragment;
pub mod grant;
pub mod header;
mod json;
pub mod key;
pub mod leaf;
pub mod manifest;
pub mod name;
pub mod node;
pub mod pack;
pub mod report;
pub mod roster;
pub mod wire;
