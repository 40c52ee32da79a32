//! Statements of a newer version as an older server takes them, where the difference does no harm. All others are
//! refused by the server itself, and named.

use crate::source::postgres::lex::{Kind, Tokens};

/// The first version that computes generated columns when they are read.
const VIRTUAL_SINCE: u32 = 18;
/// The first version with parallel subscriptions.
const PARALLEL_SINCE: u32 = 16;

/// The statement for a server of this major version.
pub(super) fn for_version(class: &str, sql: Vec<u8>, version: u32) -> Vec<u8> {
    match class {
        "TABLE" if version < VIRTUAL_SINCE => with_stored(sql),
        "SUBSCRIPTION" if version < PARALLEL_SINCE => match std::str::from_utf8(&sql) {
            Ok(text) => text.replace("streaming = parallel", "streaming = on").into_bytes(),
            Err(_) => sql,
        },
        _ => sql,
    }
}

/// Generated columns that are kept, in place of those that are computed when they are read: the same values.
fn with_stored(mut sql: Vec<u8>) -> Vec<u8> {
    let tokens: Vec<(usize, Kind, &[u8])> = Tokens::new(&sql).collect();
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
        let sql = "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (connect = false, streaming = parallel);";
        assert!(for_version("SUBSCRIPTION", sql.into(), 15).ends_with(b"streaming = on);"));
    }
}
