//! Identifiers in SQL: how they are quoted, and how to query names that may not be UTF-8. In a SQL_ASCII database,
//! names are arbitrary bytes.
//!
//! Our client can only handle names that are UTF-8. For others, queries return the readable part, and that the name is
//! not readable.

/// Matches UTF-8 byte by byte, for a server whose database has no encoding. Goes into an E'' string.
const UTF8: &str = r"^([\\x01-\\x7f]|[\\xc2-\\xdf][\\x80-\\xbf]|\\xe0[\\xa0-\\xbf][\\x80-\\xbf]|[\\xe1-\\xec\\xee\\xef][\\x80-\\xbf]{2}|\\xed[\\x80-\\x9f][\\x80-\\xbf]|\\xf0[\\x90-\\xbf][\\x80-\\xbf]{2}|[\\xf1-\\xf3][\\x80-\\xbf]{3}|\\xf4[\\x80-\\x8f][\\x80-\\xbf]{2})*$";

/// An SQL expression for whether this expression's text is readable.
pub(crate) fn is_readable(expression: &str) -> String {
    format!("(pg_catalog.getdatabaseencoding() <> 'SQL_ASCII' OR ({expression})::text ~ E'{UTF8}')")
}

/// An SQL expression for the text of this expression, with `?` in place of unreadable bytes.
pub(crate) fn readable_text(expression: &str) -> String {
    let readable = is_readable(expression);
    format!(
        "CASE WHEN {readable} THEN ({expression})::text
            ELSE pg_catalog.regexp_replace(({expression})::text, E'[^\\\\x01-\\\\x7f]', '?', 'g') END"
    )
}

/// An SQL expression for a pattern of `pg_dump` that matches the object of this name. NULL if the name is readable: then
/// the quoted name is such a pattern. Our client cannot read the other bytes, so that the pattern also matches names
/// that differ only in them.
pub(crate) fn dump_pattern(schema: &str, name: &str) -> String {
    let readable = [is_readable(schema), is_readable(name)].join(" AND ");
    // Outside of quotes, a pattern may have a set of bytes.
    let quoted = |name: &str| {
        format!(
            r#"'"' || pg_catalog.regexp_replace(pg_catalog.replace(({name})::text, '"', '""'), E'[^\\x01-\\x7f]', E'"[^\x01-\x7f]"', 'g') || '"'"#
        )
    };
    format!("CASE WHEN NOT ({readable}) THEN {} || '.' || {} END", quoted(schema), quoted(name))
}

/// Quotes an identifier.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
