//! The command line: arguments, configuration, progress, log, output and exit codes.

mod address;
mod amount;
mod app;
mod args;
mod command;
mod config;
mod context;
mod environment;
mod error;
mod error_verdict;
mod exit;
mod findings;
mod global;
mod help;
mod keys;
mod logging;
mod new_file;
mod new_keys;
mod progress;
mod redact;
mod render;
mod signal;
mod snapshot;
mod source;
mod tag;
mod target;
mod time;
mod ui;
mod until;

pub use app::main;
