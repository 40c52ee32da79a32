//! The ledger and the roster against what may stand in a store: races, garbage, thieves, old copies.
//! What `tests/protocol` enumerates in a model is tried here on the code.

mod chain;
mod commit;
#[path = "../common/mod.rs"]
mod common;
mod fixture;
mod roster;
#[path = "../world/mod.rs"]
mod world;
