//! The program as its users meet it (`sandbox`). What an operation does is tested below; here is its wiring.

mod backup;
mod completions;
mod config;
mod demo;
mod diff;
mod doctor;
mod help;
mod init;
mod keys;
mod logging;
mod man;
mod names;
mod owners;
mod process;
mod restore;
#[path = "../sandbox/mod.rs"]
mod sandbox;
mod show;
mod snapshots;
mod status;
mod verify;

use sandbox::Sandbox;
