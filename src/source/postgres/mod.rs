//! PostgreSQL: a live server into rows and a schema document.

pub mod client;
pub mod error;
mod lex;
mod split;
