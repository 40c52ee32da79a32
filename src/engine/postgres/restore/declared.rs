//! The columns of tables as a schema document declares them, for targets that have other types.

use std::collections::HashMap;

use crate::engine::postgres::restore::sql::StatementWords;
use crate::engine::postgres::schema::document::{DocumentError, SchemaDocument};
use crate::engine::postgres::schema::lex::TokenKind;

/// What a column's type comes down to elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Declared {
    Bool,
    Integer,
    Real,
    Bytes,
    /// A text, or a type whose values have one elsewhere.
    Text,
    /// Such as a domain: only its values tell.
    Other,
}

/// First words of types whose values have a text.
const TEXTS: [&str; 11] =
    ["text", "character", "json", "jsonb", "date", "time", "timestamp", "interval", "uuid", "numeric", "inet"];

/// The types of all tables' columns, by the names that a snapshot has for tables.
pub fn declared_types(schema: &[u8]) -> Result<HashMap<String, HashMap<String, Declared>>, DocumentError> {
    let document = SchemaDocument::from_bytes(schema)?;
    let tables = document.pre_data.iter().filter(|statement| statement.class == "TABLE").filter_map(|statement| {
        let sql = statement.sql.bytes();
        let words = StatementWords::of(&sql);
        let made = words.is(0, "CREATE").then(|| words.subject()).flatten()?;
        Some((made, columns(&words)))
    });
    Ok(tables.collect())
}

fn columns(words: &StatementWords<'_>) -> HashMap<String, Declared> {
    let (mut columns, mut depth, mut begins) = (HashMap::new(), 0_usize, false);
    for at in 0..words.len() {
        match words.token(at) {
            Some(TokenKind::Sign(b'(')) => {
                depth += 1;
                begins = depth == 1;
                continue;
            }
            Some(TokenKind::Sign(b')')) => depth = depth.saturating_sub(1),
            Some(TokenKind::Sign(b',')) if depth == 1 => {
                begins = true;
                continue;
            }
            _ => {}
        }
        if depth == 0 && !columns.is_empty() {
            break;
        }
        if begins
            && !words.is(at, "CONSTRAINT")
            && let Some(name) = words.name(at)
        {
            columns.insert(name, declared(words, at + 1));
        }
        begins = false;
    }
    columns
}

fn declared(words: &StatementWords<'_>, at: usize) -> Declared {
    let is_array = matches!(words.token(at + 1), Some(TokenKind::Sign(b'[')));
    let is = |word: &str| words.is(at, word) && !is_array;
    match () {
        () if is("boolean") => Declared::Bool,
        () if is("smallint") || is("integer") || is("bigint") || is("oid") => Declared::Integer,
        () if is("real") => Declared::Real,
        () if is("double") && !matches!(words.token(at + 2), Some(TokenKind::Sign(b'['))) => Declared::Real,
        () if is("bytea") => Declared::Bytes,
        () if is_array || TEXTS.iter().any(|word| is(word)) => Declared::Text,
        () => Declared::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Declared, columns};
    use crate::engine::postgres::restore::sql::StatementWords;

    #[test]
    fn columns_of_a_definition() {
        let sql = "CREATE TABLE a.b (\n id bigint DEFAULT f(1, 'x') NOT NULL,\n \"a,b\" integer[],\n d double precision,\n \
                   n numeric(10,2),\n y bytea,\n CONSTRAINT c CHECK ((id > 0)), t timestamp with time zone\n) PARTITION BY RANGE (id);";
        let columns = columns(&StatementWords::of(sql.as_bytes()));
        let of = |name: &str| columns.get(name).copied();
        assert_eq!(
            (of("id"), of("a,b"), of("d")),
            (Some(Declared::Integer), Some(Declared::Text), Some(Declared::Real))
        );
        assert_eq!((of("n"), of("y"), of("t")), (Some(Declared::Text), Some(Declared::Bytes), Some(Declared::Text)));
        assert_eq!(columns.len(), 6);
    }
}
