//! One verb per file: options in, report out. Never prints.

pub mod backup;
pub mod error;
pub mod init;
pub mod restore;
pub mod select;
