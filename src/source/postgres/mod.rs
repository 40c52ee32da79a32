//! PostgreSQL: a live server into rows and a schema document.

pub mod client;
pub mod document;
pub mod dump;
pub mod error;
mod lex;
pub mod schema;
mod split;
