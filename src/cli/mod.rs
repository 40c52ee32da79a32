//! Everything that a person sees.

mod app;
mod args;
mod command;
mod config;
mod context;
mod exit;
mod keys;
mod new_keys;
mod progress;
mod redact;
mod render;
mod signal;
mod source;
mod tag;
mod time;
mod ui;

pub use app::main;
