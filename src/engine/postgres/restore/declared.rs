//! The columns of tables as a schema document declares them, for targets that have other types.

use std::collections::HashMap;

use crate::engine::postgres::restore::statement_words::StatementWords;
use crate::engine::postgres::schema::document::{DocumentError, SchemaDocument, SchemaStatement};
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

/// Declared types by the name of their column.
type DeclaredColumns = HashMap<String, Declared>;

/// The types of all tables' columns, by the names that a snapshot has for tables.
pub fn declared_types(schema: &[u8]) -> Result<HashMap<String, HashMap<String, Declared>>, DocumentError> {
    let document = SchemaDocument::from_bytes(schema)?;
    Ok(document.pre_data.iter().filter_map(declared_table).collect())
}

/// The name and the columns of the table that a statement makes.
fn declared_table(statement: &SchemaStatement) -> Option<(String, DeclaredColumns)> {
    if statement.class != "TABLE" {
        return None;
    }
    let sql = statement.sql.bytes();
    let words = StatementWords::of(&sql);
    if !words.is(0, "CREATE") {
        return None;
    }
    Some((words.subject()?, declared_columns(&words)))
}

fn declared_columns(words: &StatementWords<'_>) -> DeclaredColumns {
    let mut columns = DeclaredColumns::new();
    for at in column_positions(words) {
        if words.is(at, "CONSTRAINT") {
            continue;
        }
        if let Some(name) = words.name(at) {
            columns.insert(name, declared_type(words, at + 1));
        }
    }
    columns
}

/// Where the elements of the first list in parentheses begin.
fn column_positions(words: &StatementWords<'_>) -> Vec<usize> {
    let mut positions = Vec::new();
    let mut depth = 0_usize;
    for at in 0..words.len() {
        match words.token(at) {
            Some(TokenKind::Sign(b'(')) => {
                depth += 1;
                if depth == 1 {
                    positions.push(at + 1);
                }
            }
            Some(TokenKind::Sign(b')')) => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    break;
                }
            }
            Some(TokenKind::Sign(b',')) if depth == 1 => positions.push(at + 1),
            _ => {}
        }
    }
    positions
}

/// The type whose first word stands at this place.
fn declared_type(words: &StatementWords<'_>, at: usize) -> Declared {
    if is_array(words, at) {
        return Declared::Text;
    }
    let is_any = |names: &[&str]| names.iter().any(|name| words.is(at, name));
    match () {
        () if is_any(&["boolean"]) => Declared::Bool,
        () if is_any(&["smallint", "integer", "bigint", "oid"]) => Declared::Integer,
        () if is_any(&["real"]) => Declared::Real,
        () if is_any(&["double"]) && !is_array(words, at + 1) => Declared::Real,
        () if is_any(&["bytea"]) => Declared::Bytes,
        () if is_any(&TEXTS) => Declared::Text,
        () => Declared::Other,
    }
}

/// Whether an opening bracket follows.
fn is_array(words: &StatementWords<'_>, at: usize) -> bool {
    words.token(at + 1) == Some(TokenKind::Sign(b'['))
}

#[cfg(test)]
mod tests {
    use super::{Declared, declared_columns};
    use crate::engine::postgres::restore::statement_words::StatementWords;

    #[test]
    fn columns_of_a_definition() {
        let sql = "CREATE TABLE a.b (\n id bigint DEFAULT f(1, 'x') NOT NULL,\n \"a,b\" integer[],\n d double precision,\n \
                   n numeric(10,2),\n y bytea,\n CONSTRAINT c CHECK ((id > 0)), t timestamp with time zone\n) PARTITION BY RANGE (id);";
        let columns = declared_columns(&StatementWords::of(sql.as_bytes()));
        let of = |name: &str| columns.get(name).copied();
        assert_eq!(
            (of("id"), of("a,b"), of("d")),
            (Some(Declared::Integer), Some(Declared::Text), Some(Declared::Real))
        );
        assert_eq!((of("n"), of("y"), of("t")), (Some(Declared::Text), Some(Declared::Bytes), Some(Declared::Text)));
        assert_eq!(columns.len(), 6);
    }
}
