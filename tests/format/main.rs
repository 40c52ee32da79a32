//! The stored format: golden vectors (bytes that this version must still write and every later version must read),
//! golden repositories, and the second reader. `SIDEKEEP_BLESS=vectors cargo test --test format` writes all vectors
//! again.

mod catalog;
mod cuts;
mod dictionary;
mod forms;
mod fuzz;
mod golden;
mod keys;
mod limits;
mod lost;
mod objects;
mod reader;
mod recovery;
mod statements;
#[path = "../support/mod.rs"]
mod support;
mod two_readers;
mod vectors;
