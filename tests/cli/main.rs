//! The program as its users meet it (`sandbox`). What an operation does is tested below; here is its wiring.

mod backup;
mod bad_input;
mod completions;
mod config;
mod demo;
mod diff;
mod doctor;
mod examples;
mod help;
mod init;
mod keys;
mod logging;
mod man;
mod names;
mod owners;
mod process;
mod restore;
mod show;
mod snapshots;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod verify;

use crate::support::sandbox::Sandbox;
