//! Stores: one suite for every kind of store, and the built binary against stores over HTTP.

mod conformance;
mod remote;
#[path = "../support/mod.rs"]
mod support;
