//! One verb per file: options in, report out. Never prints.

pub mod backup;
pub mod error;
