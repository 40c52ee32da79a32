//! A repository: what its objects mean together.

pub mod append;
pub mod cache;
mod chain;
pub mod commit;
pub mod create;
mod decoded_entry;
pub mod error;
pub mod finding;
pub mod fragment;
pub mod index;
pub mod io;
pub mod known_chunks;
pub mod ledger;
pub mod manifest;
pub mod open;
pub mod pack_table;
pub mod packer;
pub mod reader;
pub mod roster;
pub mod writer;
