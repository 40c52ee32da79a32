//! Addresses, sessions and statements: how a PostgreSQL server is reached.

pub mod address;
pub mod answer;
pub mod client;
pub mod endpoint;
pub mod error;
pub mod open;
pub mod passfile;
pub mod service;
pub mod session;
pub mod tls;
