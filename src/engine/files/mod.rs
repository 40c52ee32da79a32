//! Plain files as a place to restore to: a directory with one file per table.

mod csv;
mod directory;
mod json;
mod words;

pub use csv::CsvTarget;
pub use json::JsonLinesTarget;
pub use words::plain;
