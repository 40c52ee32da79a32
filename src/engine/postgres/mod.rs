//! PostgreSQL: reads a live server into rows and a schema document, and writes both into an empty database.

pub mod backup;
pub mod connect;
pub mod restore;
pub mod schema;
pub mod value;
