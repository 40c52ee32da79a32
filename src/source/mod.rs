//! Live systems. They know rows, not repositories.

pub mod catalog;
pub mod contract;
pub mod mapping;
pub mod files;
pub mod sqlite;
