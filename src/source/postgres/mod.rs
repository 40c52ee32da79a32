//! PostgreSQL: a live server into rows and a schema document.

pub mod address;
pub mod answer;
pub mod binary;
mod calendar;
pub mod catalog;
pub mod client;
pub mod connect;
pub mod copy;
pub mod document;
pub mod dump;
pub mod encode;
pub mod error;
pub mod image;
mod lex;
mod numeric;
mod output;
mod passfile;
mod place;
mod relations;
pub mod rows;
pub mod schema;
mod service;
mod session;
mod split;
mod tls;
pub mod transport;
pub mod watch;
