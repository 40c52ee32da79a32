//! Addresses, sessions and statements: how to reach a PostgreSQL server.

pub mod address;
pub mod client;
pub mod connection_url;
pub mod driver_config;
pub mod endpoint;
pub mod error;
pub mod host_environment;
pub mod identifier;
pub mod login;
pub mod parameters;
pub mod password_file;
pub mod query;
pub mod server_facts;
pub mod service_file;
pub mod session_settings;
mod statement_log;
pub mod tls;
pub mod tool_connection;
