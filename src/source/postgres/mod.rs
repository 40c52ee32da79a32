//! PostgreSQL: a live server into rows and a schema document.

pub mod address;
pub mod client;
pub mod connect;
pub mod error;
pub mod image;
mod passfile;
mod place;
mod service;
mod session;
mod tls;
pub mod watch;
