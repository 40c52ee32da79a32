//! PostgreSQL servers, databases in them, and their backups.

pub mod cluster;
pub mod compare;
pub mod image;
pub mod live;
pub mod objects;
pub mod restored;
pub mod service;
pub mod stage;
