//! Identifiers in SQL: how they are quoted, and how to ask for names that may not be UTF-8 (those of a database of
//! SQL_ASCII, which are whatever bytes came in).
//!
//! Our own client knows only names that are UTF-8. Of others it is told as much as can be shown, and that they are such.

/// What UTF-8 is, byte by byte, as a server without an encoding compares: for a string with escapes.
const UTF8: &str = r"^([\\x01-\\x7f]|[\\xc2-\\xdf][\\x80-\\xbf]|\\xe0[\\xa0-\\xbf][\\x80-\\xbf]|[\\xe1-\\xec\\xee\\xef][\\x80-\\xbf]{2}|\\xed[\\x80-\\x9f][\\x80-\\xbf]|\\xf0[\\x90-\\xbf][\\x80-\\xbf]{2}|[\\xf1-\\xf3][\\x80-\\xbf]{3}|\\xf4[\\x80-\\x8f][\\x80-\\xbf]{2})*$";

/// Whether the text of this expression can be read.
pub(crate) fn is_readable(expression: &str) -> String {
    format!("(pg_catalog.getdatabaseencoding() <> 'SQL_ASCII' OR ({expression})::text ~ E'{UTF8}')")
}

/// The text of this expression, without what cannot be read of it.
pub(crate) fn readable_text(expression: &str) -> String {
    let readable = is_readable(expression);
    format!(
        "CASE WHEN {readable} THEN ({expression})::text
            ELSE pg_catalog.regexp_replace(({expression})::text, E'[^\\\\x01-\\\\x7f]', '?', 'g') END"
    )
}

/// An identifier in quotes.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
