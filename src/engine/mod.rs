//! Live systems: what is backed up and what is restored to. Engines deal with rows, not with repositories.

pub mod contract;
pub mod files;
pub mod postgres;
mod row_name;
pub mod sqlite;
