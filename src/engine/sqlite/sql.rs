//! SQL helpers for this module: quoted names, the meaning of errors, values as cells, and text as the exact bytes in
//! the database, in any of its three encodings.
//!
//! SQLite does not validate text: a "text" may contain any bytes, and SQLite's own conversions of invalid text cannot
//! be trusted. Text of a UTF-16 database is therefore always read as bytes and decoded here.

use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{Connection, Params, Row, ffi};
use serde::{Deserialize, Serialize};

use crate::engine::contract::EngineError;
use crate::format::cell::{Cell, Encoding};

/// How a database stores text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum TextEncoding {
    #[serde(rename = "UTF-8")]
    Utf8,
    #[serde(rename = "UTF-16le")]
    Utf16Le,
    #[serde(rename = "UTF-16be")]
    Utf16Be,
}

impl TextEncoding {
    /// The encoding of the open database.
    /// Fails if SQLite cannot read the database.
    pub(super) fn of(conn: &Connection) -> Result<Self, EngineError> {
        let name: String = pragma(conn, "encoding")?;
        match name.as_str() {
            "UTF-8" => Ok(Self::Utf8),
            "UTF-16le" => Ok(Self::Utf16Le),
            "UTF-16be" => Ok(Self::Utf16Be),
            other => Err(failed("read the text encoding", format!("the encoding {other} is unknown"))),
        }
    }

    /// The name for `PRAGMA encoding`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Utf16Le => "UTF-16le",
            Self::Utf16Be => "UTF-16be",
        }
    }

    /// The cell encoding of text that is not valid in this encoding.
    pub(super) fn invalid(self) -> Encoding {
        match self {
            Self::Utf8 => Encoding::Utf8Invalid,
            Self::Utf16Le => Encoding::Utf16Le,
            Self::Utf16Be => Encoding::Utf16Be,
        }
    }

    /// Decodes `bytes` and appends the text to `out`. Leaves `out` unchanged if `bytes` are invalid.
    pub(super) fn decode(self, bytes: &[u8], out: &mut String) -> Decoded {
        match self {
            Self::Utf8 => decode_utf8(bytes, out),
            Self::Utf16Le => decode_utf16(bytes, u16::from_le_bytes, out),
            Self::Utf16Be => decode_utf16(bytes, u16::from_be_bytes, out),
        }
    }

    /// The bytes of `text` in this encoding.
    pub(super) fn encode(self, text: &str) -> Vec<u8> {
        match self {
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Self::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    }
}

/// Whether bytes were valid text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decoded {
    Valid,
    Invalid,
}

fn decode_utf8(bytes: &[u8], out: &mut String) -> Decoded {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            out.push_str(text);
            Decoded::Valid
        }
        Err(_) => Decoded::Invalid,
    }
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16, out: &mut String) -> Decoded {
    let (pairs, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Decoded::Invalid;
    }
    let before = out.len();
    let decoded = push_utf16(pairs.iter().map(|pair| unit(*pair)), out);
    if decoded == Decoded::Invalid {
        out.truncate(before);
    }
    decoded
}

/// If a unit is invalid, leaves the text before it in `out`.
fn push_utf16(units: impl Iterator<Item = u16>, out: &mut String) -> Decoded {
    for decoded in char::decode_utf16(units) {
        let Ok(character) = decoded else { return Decoded::Invalid };
        out.push(character);
    }
    Decoded::Valid
}

/// The cell of a value of a UTF-8 database.
pub(super) fn cell_of(value: ValueRef<'_>) -> Cell<'_> {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Integer(value),
        ValueRef::Real(value) => Cell::Real(value),
        ValueRef::Text(bytes) => text_cell(bytes),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes),
    }
}

fn text_cell(bytes: &[u8]) -> Cell<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cell::Text(text),
        Err(_) => Cell::Encoded(Encoding::Utf8Invalid, bytes),
    }
}

/// `name` as a quoted SQL identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The value of a pragma that returns one.
/// Fails if SQLite cannot read the database, or the value has another type.
pub(super) fn pragma<T: FromSql>(conn: &Connection, name: &str) -> Result<T, EngineError> {
    conn.query_row(&format!("PRAGMA main.{name}"), [], |row| row.get(0)).doing(format!("read the setting {name}"))
}

/// The number that a statement returns.
/// Fails if SQLite refuses the statement, or if it returns no row or no number.
pub(super) fn number(conn: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<i64> {
    conn.query_row(sql, params, |row| row.get(0))
}

/// The texts that a statement returns, one per row.
/// Fails if SQLite refuses the statement, or a value is not UTF-8 text.
pub(super) fn strings(conn: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<Vec<String>> {
    query_all(conn, sql, params, |row| row.get(0))
}

/// The names that a statement returns, one per row, without names that are not valid UTF-8.
/// Fails if SQLite refuses the statement.
pub(super) fn valid_names<C: FromIterator<String>>(conn: &Connection, sql: &str) -> rusqlite::Result<C> {
    let names: Vec<Option<String>> = query_all(conn, sql, [], |row| Ok(valid_text(row.get_ref(0)?)))?;
    Ok(names.into_iter().flatten().collect())
}

/// A text, unless it is not valid UTF-8.
pub(super) fn valid_text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Text(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        _ => None,
    }
}

/// A text, with invalid parts replaced.
pub(super) fn lossy_text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

/// The results of `read` for each row that a statement returns.
/// Fails if SQLite refuses the statement, or with the first error of `read`.
pub(super) fn query_all<T, C: FromIterator<T>>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<C> {
    conn.prepare(sql)?.query_map(params, read)?.collect()
}

/// Adds what was being done to SQLite's error.
pub(super) trait SqlContext<T> {
    /// Adds to the error that it happened while doing `what`.
    /// Fails only if the result is an error.
    fn doing(self, what: impl Into<String>) -> Result<T, EngineError>;
}

impl<T> SqlContext<T> for rusqlite::Result<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, EngineError> {
        self.map_err(|error| failed_sql(what, &error))
    }
}

/// An error while `doing` something.
pub(super) fn failed(doing: impl Into<String>, reason: impl Into<String>) -> EngineError {
    EngineError::Failed { doing: doing.into(), reason: reason.into() }
}

/// SQLite's error while `doing` something. [`EngineError::Full`] if the disk is full.
pub(super) fn failed_sql(doing: impl Into<String>, error: &rusqlite::Error) -> EngineError {
    let doing = doing.into();
    let reason = reason(error);
    match primary_code(error) {
        ffi::SQLITE_FULL => EngineError::Full { doing, reason },
        _ => EngineError::Failed { doing, reason },
    }
}

/// SQLite's message, without the statement.
pub(super) fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

/// SQLite's extended result code.
pub(super) fn code(error: &rusqlite::Error) -> i32 {
    match error {
        rusqlite::Error::SqlInputError { error, .. } => error.extended_code,
        other => other.sqlite_error().map_or(0, |error| error.extended_code),
    }
}

/// SQLite's primary result code.
pub(super) fn primary_code(error: &rusqlite::Error) -> i32 {
    code(error) & 0xff
}

/// Whether the file itself is damaged, rather than the machine.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    // A short read means a read beyond the end of a truncated file.
    matches!(primary_code(error), ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB)
        || code(error) == ffi::SQLITE_IOERR_SHORT_READ
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, ffi};

    use super::{Decoded, TextEncoding, failed_sql, quoted, strings};
    use crate::engine::contract::EngineError;

    #[test]
    fn sqlite_is_built_with_the_flags_that_this_module_needs() {
        let conn = Connection::open_in_memory().expect("a database");
        let options = strings(&conn, "PRAGMA compile_options", []).expect("options");
        let flag = "MALLOC_SOFT_LIMIT=0";
        assert!(options.iter().any(|option| option == flag), "set LIBSQLITE3_FLAGS as .cargo/config.toml does");
    }

    #[test]
    fn only_a_full_disk_is_called_full() {
        let failure = |code| failed_sql("write", &rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(matches!(failure(ffi::SQLITE_FULL), EngineError::Full { .. }));
        for code in [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_READONLY, ffi::SQLITE_CORRUPT] {
            assert!(matches!(failure(code), EngineError::Failed { .. }), "{code}");
        }
    }

    #[test]
    fn text_is_decoded_exactly_or_refused() {
        for encoding in [TextEncoding::Utf8, TextEncoding::Utf16Le, TextEncoding::Utf16Be] {
            for text in ["", "a\0b", "\u{1F600}\u{FFFE}\u{FEFF}", "ä"] {
                let mut out = String::from("before");
                assert_eq!(encoding.decode(&encoding.encode(text), &mut out), Decoded::Valid);
                assert_eq!(out, format!("before{text}"));
            }
        }
        for bytes in [&b"\x00\xd8"[..], b"\x00\xdc\x00\xd8", b"a\0b", b"a\0\x00\xd8a\0"] {
            let mut out = String::from("before");
            assert_eq!(TextEncoding::Utf16Le.decode(bytes, &mut out), Decoded::Invalid);
            assert_eq!(out, "before");
        }
    }

    #[test]
    fn quotes_in_names_are_doubled() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(quoted(""), "\"\"");
    }
}
