//! The program against real PostgreSQL servers, as its users meet it.

mod alone;
mod killed;
mod large;
mod middle;
mod nights;
mod restore;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
mod terminated;
mod wire;
