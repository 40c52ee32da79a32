//! Restores a PostgreSQL database from a repository, on the same server and between two versions.

mod between;
mod database;
mod labels;
mod values;
mod whole;
