//! What stands in a store, and who may put it there: the ledger and the roster, keys and roles, epochs, and random days
//! in the life of a repository.

mod epochs;
mod ledger;
mod model;
mod protocol;
mod role;
#[path = "../support/mod.rs"]
mod support;
