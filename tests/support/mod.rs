//! Code shared by the test binaries: repositories, stores that fail, servers, and comparisons. Each `main.rs` declares
//! it.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of this")]

pub mod postgres;
pub mod property;
pub mod sandbox;
pub mod sqlite;
pub mod stored_world;
pub mod stores;
pub mod world;
