//! The program against real PostgreSQL servers, as its users meet it.

#[path = "../common_postgres/mod.rs"]
mod common_postgres;
mod doctor;
mod large;
mod middle;
mod nights;
mod restore;
mod rights;
#[path = "../sandbox/mod.rs"]
mod sandbox;
mod secrets;
mod service;
mod wire;
