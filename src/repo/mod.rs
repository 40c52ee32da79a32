//! A repository: the combined meaning of its objects.

pub mod append;
pub mod cache;
mod chain;
pub mod chain_ends;
pub mod commit;
pub mod create;
pub mod dictionaries;
pub mod error;
pub mod finding;
pub mod fragment;
pub mod index;
pub mod index_loader;
mod index_search;
pub mod known_chunks;
pub mod ledger;
pub mod manifest;
mod manifest_parts;
pub mod names;
pub mod naming;
pub mod objects;
pub mod open;
pub mod open_pack;
pub mod pack_table;
pub mod reader;
pub mod roster;
mod wanted_packs;
pub mod writer;
