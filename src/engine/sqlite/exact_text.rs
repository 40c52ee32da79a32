//! Parameters for texts of `sqlite_schema`, including invalid ones.

use rusqlite::types::Value;

use crate::engine::sqlite::schema::SqliteText;

/// A parameter value, and the expression that turns it into the exact text.
pub(super) struct ExactText {
    pub(super) value: Value,
    pub(super) expression: String,
}

impl ExactText {
    /// `parameter` is the number of the parameter in its statement.
    pub(super) fn new(text: Option<&SqliteText>, parameter: usize) -> Self {
        match text {
            None => Self::as_it_is(Value::Null, parameter),
            Some(SqliteText::Text(text)) => Self::as_it_is(Value::Text(text.clone()), parameter),
            Some(raw) => Self::of_bytes(raw.raw().unwrap_or_default(), parameter),
        }
    }

    fn as_it_is(value: Value, parameter: usize) -> Self {
        Self { value, expression: format!("?{parameter}") }
    }

    fn of_bytes(bytes: Vec<u8>, parameter: usize) -> Self {
        Self { value: Value::Blob(bytes), expression: format!("CAST(?{parameter} AS TEXT)") }
    }
}
