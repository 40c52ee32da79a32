//! The ledger and the roster against what may stand in a store: races, garbage, thieves, old copies.
//! What `tests/repository/protocol` enumerates in a model is tried here on the code.

mod chain;
mod commit;
mod fixture;
mod roster;
