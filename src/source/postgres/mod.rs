//! PostgreSQL: a live server into rows and a schema document.

pub mod address;
pub mod binary;
mod calendar;
pub mod client;
pub mod connect;
pub mod copy;
pub mod encode;
pub mod error;
pub mod image;
mod numeric;
mod output;
mod passfile;
mod place;
pub mod rows;
mod service;
mod session;
mod tls;
pub mod transport;
pub mod watch;
