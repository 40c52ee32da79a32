//! Rows of catalog queries as typed fields, read in the order in which the query selects them.

use std::str::FromStr;

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;

/// A query failed, or returned an unexpected value.
#[derive(Debug, Error)]
pub enum QueryError {
    #[error(transparent)]
    Query(#[from] PostgresError),
    #[error("{doing}: the server answered {found}")]
    Unexpected { doing: &'static str, found: String },
}

/// The values of one row, each read once.
pub(crate) struct RowFields {
    doing: &'static str,
    values: std::vec::IntoIter<Option<String>>,
}

/// Runs a query and reads each of its rows.
/// `doing` describes its purpose in messages.
/// Fails as [`Client::texts`] does, or with the first error of `read`.
pub(crate) fn rows<T>(
    client: &Client,
    doing: &'static str,
    sql: &str,
    read: impl Fn(&mut RowFields) -> Result<T, QueryError>,
) -> Result<Vec<T>, QueryError> {
    let rows = client.texts(doing, sql)?.into_iter();
    rows.map(|row| read(&mut RowFields { doing, values: row.into_iter() })).collect()
}

impl RowFields {
    fn unexpected(&self, found: impl Into<String>) -> QueryError {
        QueryError::Unexpected { doing: self.doing, found: found.into() }
    }

    /// The next value, `None` if it is NULL.
    /// Fails if the row has no more values.
    pub(crate) fn optional(&mut self) -> Result<Option<String>, QueryError> {
        self.values.next().ok_or_else(|| self.unexpected("a row that is too short"))
    }

    /// The next value.
    /// Fails if it is NULL or the row has no more values.
    pub(crate) fn text(&mut self) -> Result<String, QueryError> {
        self.optional()?.ok_or_else(|| self.unexpected("NULL"))
    }

    /// The next value, parsed.
    /// Fails if it is NULL, cannot be parsed, or the row has no more values.
    pub(crate) fn parsed<T: FromStr>(&mut self) -> Result<T, QueryError> {
        let text = self.text()?;
        text.parse().map_err(|_| self.unexpected(text))
    }

    /// The next value, parsed, `None` if it is NULL.
    /// Fails if it cannot be parsed, or the row has no more values.
    pub(crate) fn optional_parsed<T: FromStr>(&mut self) -> Result<Option<T>, QueryError> {
        self.optional_with(|text| text.parse())
    }

    /// A boolean in the server's text format.
    /// Fails if the value is neither `t` nor `f`, or the row has no more values.
    pub(crate) fn boolean(&mut self) -> Result<bool, QueryError> {
        match self.text()?.as_str() {
            "t" => Ok(true),
            "f" => Ok(false),
            other => Err(self.unexpected(other)),
        }
    }

    /// The next value, parsed as JSON, `None` if it is NULL.
    /// Fails if it is not JSON of this type, or the row has no more values.
    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, QueryError> {
        self.optional_with(|text| serde_json::from_str(text))
    }

    fn optional_with<T, E>(&mut self, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, QueryError> {
        let Some(text) = self.optional()? else { return Ok(None) };
        parse(&text).map(Some).map_err(|_| self.unexpected(text))
    }
}
