//! A repository: what its objects mean together.

pub mod cache;
mod chain;
pub mod commit;
pub mod create;
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
#[cfg(test)]
mod protocol;
pub mod reader;
pub mod roster;
#[expect(clippy::too_many_arguments, reason = "of `writer::worker::seal`: one more than `clippy.toml` allows")]
pub mod writer;
