//! Live systems. They know rows, not repositories.

pub mod catalog;
pub mod contract;
pub mod fake;
pub mod files;
pub mod mapping;
mod matching;
pub mod postgres;
mod row_name;
pub mod sqlite;
