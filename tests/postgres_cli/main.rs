//! The program against real PostgreSQL servers, as its users meet it.

mod alone;
#[path = "../common_postgres/mod.rs"]
mod common_postgres;
#[path = "../postgres_restore/compare.rs"]
mod compare;
mod doctor;
mod killed;
mod large;
mod middle;
mod nights;
mod restore;
mod rights;
#[path = "../sandbox/mod.rs"]
mod sandbox;
mod secrets;
mod service;
mod terminated;
mod wire;
