//! Golden vectors of the stored format: bytes that every later version must go on reading, and
//! that this one still writes. `SIDEKEEP_BLESS=1 cargo test --test format` writes all of them anew.

mod cuts;
mod golden;
mod keys;
mod objects;
mod pages;
mod statements;
