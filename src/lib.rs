//! Sidekeep: disaster-recovery snapshots of a sync service's database, deduplicated and encrypted in object storage,
//! restorable without the live cluster.
//!
//! The code has six layers, and imports only go down (`tests/house` checks this): `cli` -> `ops` -> `repo`, `engine`
//! -> `store`, `tree`, `sort` -> `crypto`, `format` -> `base`.

pub mod base;
pub mod cli;
pub mod crypto;
pub mod engine;
pub mod format;
pub mod ops;
pub mod repo;
pub mod sort;
pub mod store;
pub mod tree;
