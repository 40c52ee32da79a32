//! Targets that write plain files: a directory with one file per table.

mod csv;
mod directory;
mod json;
mod value_text;

pub use csv::CsvTarget;
pub use json::JsonLinesTarget;
pub use value_text::plain_text;
