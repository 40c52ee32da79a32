//! Damage and crashes: the damage matrix, and crashes at every call of the store.

mod crash;
mod matrix;
#[path = "../support/mod.rs"]
mod support;
