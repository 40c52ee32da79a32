//! Live systems. They know rows, not repositories.

pub mod contract;
pub mod files;
pub mod postgres;
mod row_name;
pub mod sqlite;
