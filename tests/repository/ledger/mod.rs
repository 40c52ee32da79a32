//! The ledger and the roster in the face of races, garbage, thieves and old copies of the store.
//! `tests/repository/protocol` enumerates the protocol in a model, and these tests try the same on the code.

mod chain;
mod commit;
mod decisions;
mod fixture;
mod holes;
mod readmit;
mod revoked;
mod roster;
