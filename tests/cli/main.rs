//! The built program, run as users run it (`sandbox`). Other tests cover what the operations do. These cover the command
//! line around them.

mod backup;
mod bad_input;
mod completions;
mod config;
mod costs;
mod demo;
mod diff;
mod doctor;
mod examples;
mod heads;
mod help;
mod init;
mod key;
mod keys;
mod limits;
mod logging;
mod man;
mod many_tables;
mod names;
mod owners;
mod padding;
mod process;
mod restore;
mod show;
mod snapshots;
mod source;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod until;
mod verify;
mod wide_rows;

use crate::support::sandbox::Sandbox;
