//! Sidekeep: disaster-recovery snapshots of a sync service's database, deduplicated and encrypted
//! in object storage, restorable without the live cluster.
//!
//! Six floors; imports go down only (`tests/house.rs` holds that): `cli` -> `ops` -> `repo`,
//! `source` -> `store`, `tree`, `sort` -> `crypto`, `format` -> `base`.

pub mod base;
pub mod cli;
pub mod crypto;
pub mod format;
pub mod ops;
pub mod repo;
pub mod sort;
pub mod source;
pub mod store;
pub mod tree;
