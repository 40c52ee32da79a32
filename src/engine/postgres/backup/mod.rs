//! Reading one consistent image of a live database.

pub mod companion;
pub mod image;
pub mod lock_tables;
pub mod lock_watchdog;
pub mod pace;
pub mod preflight;
pub mod read_options;
pub mod reader;
pub mod slice;
pub mod source;
pub mod user_types;
