//! Reads one consistent image of a live database.

pub mod image;
pub mod lock_watchdog;
pub mod preflight;
pub mod read_options;
pub mod source;

mod locked_image;
mod name_list;
mod parent_values;
mod readable_table;
mod reader;
mod user_types;
