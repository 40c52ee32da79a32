//! PostgreSQL servers as Sidekeep meets them. The servers are described in `common_postgres/mod.rs`.

#[path = "../common_postgres/mod.rs"]
mod common_postgres;

mod connect;
