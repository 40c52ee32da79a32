//! Rewrites statements from a newer version for an older server where the difference is harmless. All other statements
//! are left as they are: the server refuses them, and they are reported.

use std::ops::Range;

use crate::engine::postgres::schema::lex::{TokenKind, Tokens};

/// The first version with virtual generated columns, which are computed when they are read.
const VIRTUAL_SINCE: u32 = 18;
/// The first version with parallel subscriptions.
const PARALLEL_SINCE: u32 = 16;
/// The first version whose subscriptions can run as a role other than their owner.
const OTHER_USERS_SINCE: u32 = 16;
/// The first version in which a range type names its multirange type.
const MULTIRANGE_SINCE: u32 = 14;
/// The first version whose subscriptions can stream transactions in progress.
const STREAMING_SINCE: u32 = 14;

/// Rewrites a statement for a server of this major version.
pub(super) fn for_version(class: &str, sql: Vec<u8>, version: u32) -> Vec<u8> {
    match class {
        "TABLE" if version < VIRTUAL_SINCE => with_stored(sql),
        "TYPE" if version < MULTIRANGE_SINCE => without_multirange(sql),
        "SUBSCRIPTION" => as_subscription(sql, version),
        _ => sql,
    }
}

/// What replaces an option of a subscription on servers older than version `since`.
struct OptionChange {
    since: u32,
    words: &'static str,
    replacement: &'static str,
}

const SUBSCRIPTION_CHANGES: [OptionChange; 4] = [
    OptionChange { since: PARALLEL_SINCE, words: "streaming = parallel", replacement: "streaming = on" },
    OptionChange { since: OTHER_USERS_SINCE, words: ", run_as_owner = true", replacement: "" },
    OptionChange { since: STREAMING_SINCE, words: ", streaming = off", replacement: "" },
    OptionChange { since: STREAMING_SINCE, words: ", streaming = on", replacement: "" },
];

/// Rewrites the options of a subscription. A newer `pg_dump` also writes out what an older server does by default.
fn as_subscription(sql: Vec<u8>, version: u32) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&sql) else { return sql };
    let (head, options) = text.split_at(text.rfind(" WITH (").unwrap_or(text.len()));
    let mut options = options.to_owned();
    for change in &SUBSCRIPTION_CHANGES {
        if version < change.since {
            options = options.replace(change.words, change.replacement);
        }
    }
    format!("{head}{options}").into_bytes()
}

/// Removes the name of a range's multirange type, which nothing on an older server uses.
fn without_multirange(mut sql: Vec<u8>) -> Vec<u8> {
    if let Some(option) = StatementTokens::new(&sql).multirange_option() {
        sql.drain(option);
    }
    sql
}

/// Turns virtual generated columns into stored ones, which have the same values.
fn with_stored(mut sql: Vec<u8>) -> Vec<u8> {
    let ends = StatementTokens::new(&sql).ends_of_virtual_columns();
    for end in ends.into_iter().rev() {
        sql.splice(end..end, *b" STORED");
    }
    sql
}

/// The tokens of a statement, with the offsets where they begin.
struct StatementTokens<'a>(Vec<(usize, TokenKind, &'a [u8])>);

impl<'a> StatementTokens<'a> {
    fn new(sql: &'a [u8]) -> Self {
        Self(Tokens::new(sql).collect())
    }

    fn is(&self, at: usize, text: &str) -> bool {
        self.0.get(at).is_some_and(|(_, _, bytes)| *bytes == text.as_bytes())
    }

    /// The byte range of the option that names the multirange type, with the comma before it.
    fn multirange_option(&self) -> Option<Range<usize>> {
        let all = 0..self.0.len();
        let comma = all
            .clone()
            .find(|&at| self.is(at, ",") && self.is(at + 1, "multirange_type_name") && self.is(at + 2, "="))?;
        let end = (comma + 1..all.end).find(|&at| self.is(at, ",") || self.is(at, ")"))?;
        Some(self.0[comma].0..self.0[end].0)
    }

    /// The ends of the expressions of virtual generated columns.
    fn ends_of_virtual_columns(&self) -> Vec<usize> {
        let mut ends = Vec::new();
        for at in 0..self.0.len() {
            let Some(end) = self.end_of_generated_column(at) else { continue };
            if !self.is(end + 1, "STORED") {
                ends.push(self.0[end].0 + 1);
            }
        }
        ends
    }

    /// The token that closes the expression of a generated column, if its clause begins at this token.
    fn end_of_generated_column(&self, at: usize) -> Option<usize> {
        let clause = ["GENERATED", "ALWAYS", "AS", "("];
        let begins = clause.iter().enumerate().all(|(offset, word)| self.is(at + offset, word));
        if !begins {
            return None;
        }
        self.closing_parenthesis(at + clause.len() - 1)
    }

    fn closing_parenthesis(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for at in open..self.0.len() {
            if self.is(at, "(") {
                depth += 1;
            }
            if self.is(at, ")") {
                depth -= 1;
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::for_version;

    #[test]
    fn statements_are_rewritten_for_an_older_server() {
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
