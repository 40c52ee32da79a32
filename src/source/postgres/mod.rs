//! PostgreSQL: a live server into rows and a schema document.

pub mod answer;
pub mod catalog;
pub mod client;
pub mod document;
pub mod dump;
pub mod error;
mod lex;
mod relations;
pub mod schema;
mod split;
