//! Statements of a newer version as an older server takes them, where the difference does no harm. All others are
//! refused by the server itself, and named.

use crate::engine::postgres::schema::lex::{TokenKind, Tokens};

/// The first version that computes generated columns when they are read.
const VIRTUAL_SINCE: u32 = 18;
/// The first version with parallel subscriptions.
const PARALLEL_SINCE: u32 = 16;
/// The first version whose subscriptions may work as somebody else than their owner.
const OTHER_USERS_SINCE: u32 = 16;
/// The first versions that name the multirange of a range, and stream transactions before they end.
const MULTIRANGE_SINCE: u32 = 14;
const STREAMING_SINCE: u32 = 14;

/// The statement for a server of this major version.
pub(super) fn for_version(class: &str, sql: Vec<u8>, version: u32) -> Vec<u8> {
    match class {
        "TABLE" if version < VIRTUAL_SINCE => with_stored(sql),
        "TYPE" if version < MULTIRANGE_SINCE => without_multirange(sql),
        "SUBSCRIPTION" => as_subscription(sql, version),
        _ => sql,
    }
}

/// The options of a subscription; a newer `pg_dump` also says what an older server does anyway.
fn as_subscription(sql: Vec<u8>, version: u32) -> Vec<u8> {
    let changes = [
        (PARALLEL_SINCE, "streaming = parallel", "streaming = on"),
        (OTHER_USERS_SINCE, ", run_as_owner = true", ""),
        (STREAMING_SINCE, ", streaming = off", ""),
        (STREAMING_SINCE, ", streaming = on", ""),
    ];
    let Ok(text) = std::str::from_utf8(&sql) else { return sql };
    let (head, options) = text.split_at(text.rfind(" WITH (").unwrap_or(text.len()));
    let wanted = changes.iter().filter(|(since, ..)| version < *since);
    let options = wanted.fold(options.to_owned(), |options, (_, words, instead)| options.replace(words, instead));
    format!("{head}{options}").into_bytes()
}

/// A range without the name of its multirange, which nothing on an older server uses.
fn without_multirange(mut sql: Vec<u8>) -> Vec<u8> {
    let tokens: Vec<(usize, TokenKind, &[u8])> = Tokens::new(&sql).collect();
    let named = tokens
        .windows(3)
        .position(|three| three[0].2 == b"," && three[1].2 == b"multirange_type_name" && three[2].2 == b"=");
    let Some(comma) = named else { return sql };
    let end = tokens[comma + 1..].iter().find(|token| token.2 == b"," || token.2 == b")");
    if let Some((start, end)) = end.map(|end| (tokens[comma].0, end.0)) {
        sql.drain(start..end);
    }
    sql
}

/// Generated columns that are kept, in place of those that are computed when they are read: the same values.
fn with_stored(mut sql: Vec<u8>) -> Vec<u8> {
    let tokens: Vec<(usize, TokenKind, &[u8])> = Tokens::new(&sql).collect();
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.2 == word.as_bytes());
    let mut places = Vec::new();
    for at in 0..tokens.len() {
        if !(is(at, "GENERATED") && is(at + 1, "ALWAYS") && is(at + 2, "AS") && is(at + 3, "(")) {
            continue;
        }
        let mut depth = 0_usize;
        let end = (at + 3..tokens.len()).find(|&at| {
            depth = if is(at, "(") { depth + 1 } else { depth - usize::from(is(at, ")")) };
            depth == 0
        });
        if let Some(end) = end.filter(|&end| !is(end + 1, "STORED")) {
            places.push(tokens[end].0 + 1);
        }
    }
    for place in places.into_iter().rev() {
        sql.splice(place..place, *b" STORED");
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::for_version;

    #[test]
    fn what_an_older_server_does_not_know() {
        let sql = "CREATE TABLE a.b (\n n integer GENERATED ALWAYS AS ((f(a) + ')'::text)),\n s int GENERATED ALWAYS AS (1) STORED,\n \
                   i int GENERATED ALWAYS AS IDENTITY\n);";
        let expected = sql.replacen("')'::text)),", "')'::text)) STORED,", 1);
        assert_eq!(for_version("TABLE", sql.into(), 17), expected.as_bytes());
        assert_eq!(for_version("TABLE", sql.into(), 18), sql.as_bytes());
        let sql = "CREATE TYPE a.r AS RANGE (\n    subtype = numeric,\n    multirange_type_name = a.\"m, )\",\n    collation = c.d\n);";
        assert_eq!(for_version("TYPE", sql.into(), 14), sql.as_bytes());
        let expected = b"CREATE TYPE a.r AS RANGE (\n    subtype = numeric,\n    collation = c.d\n);";
        assert_eq!(for_version("TYPE", sql.into(), 13), expected);
        let last = sql.replace(",\n    collation = c.d\n", "\n");
        assert_eq!(for_version("TYPE", last.into(), 13), b"CREATE TYPE a.r AS RANGE (\n    subtype = numeric);");
        let sql = "CREATE SUBSCRIPTION s CONNECTION 'x, streaming = off' PUBLICATION p WITH (connect = false, streaming = off, run_as_owner = true);";
        assert_eq!(for_version("SUBSCRIPTION", sql.into(), 16), sql.as_bytes());
        assert!(for_version("SUBSCRIPTION", sql.into(), 15).ends_with(b"p WITH (connect = false, streaming = off);"));
        let oldest = sql.replace("false, streaming = off, run_as_owner = true", "false");
        assert_eq!(for_version("SUBSCRIPTION", sql.into(), 13), oldest.as_bytes());
        let sql = "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (connect = false, streaming = parallel);";
        assert!(for_version("SUBSCRIPTION", sql.into(), 15).ends_with(b"streaming = on);"));
    }
}
