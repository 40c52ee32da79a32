//! Everything that a person sees.

mod amount;
mod app;
mod args;
mod command;
mod config;
mod context;
mod exit;
mod findings;
mod keys;
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

pub use app::main;
