//! The objects in a store and the keys that may write them: ledger and roster, keys and roles, epochs, and random
//! operations on a repository.

mod epochs;
mod index;
mod ledger;
mod manifest;
mod model;
mod protocol;
mod role;
#[path = "../support/mod.rs"]
mod support;
