//! The column types that a schema document declares, simplified for targets with a different type system.

use std::collections::HashMap;

use crate::engine::postgres::schema::document::{DocumentError, SchemaDocument, SchemaStatement};
use crate::engine::postgres::schema::lex::TokenKind;
use crate::engine::postgres::schema::statement_words::StatementWords;

/// The general kind of a column's declared type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeclaredType {
    Bool,
    Integer,
    Real,
    Bytes,
    /// Text, or a type whose values other targets store as text.
    Text,
    /// Any other type, such as a domain: its kind is known only from its values.
    Other,
}

/// First words of the types whose values other targets store as text.
const TEXTS: [&str; 11] =
    ["text", "character", "json", "jsonb", "date", "time", "timestamp", "interval", "uuid", "numeric", "inet"];

/// Declared types by column name.
type DeclaredColumns = HashMap<String, DeclaredType>;

/// The declared types of the columns of all tables. Keys are table names as in the snapshot.
/// `schema` is a serialized [`SchemaDocument`].
/// Fails as [`SchemaDocument::from_bytes`] does.
pub fn types_in_document(schema: &[u8]) -> Result<HashMap<String, HashMap<String, DeclaredType>>, DocumentError> {
    let document = SchemaDocument::from_bytes(schema)?;
    Ok(document.pre_data.iter().filter_map(declared_table).collect())
}

/// The name and the columns of the table that a statement creates.
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

/// Positions of the first word of each element in the first parenthesized list.
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

/// The type whose first word is at this position.
fn declared_type(words: &StatementWords<'_>, at: usize) -> DeclaredType {
    if is_array(words, at) {
        return DeclaredType::Text;
    }
    let is_any = |names: &[&str]| names.iter().any(|name| words.is(at, name));
    match () {
        () if is_any(&["boolean"]) => DeclaredType::Bool,
        () if is_any(&["smallint", "integer", "bigint", "oid"]) => DeclaredType::Integer,
        () if is_any(&["real"]) => DeclaredType::Real,
        () if is_any(&["double"]) && !is_array(words, at + 1) => DeclaredType::Real,
        () if is_any(&["bytea"]) => DeclaredType::Bytes,
        () if is_any(&TEXTS) => DeclaredType::Text,
        () => DeclaredType::Other,
    }
}

/// Whether an opening bracket follows the word at this position.
fn is_array(words: &StatementWords<'_>, at: usize) -> bool {
    words.token(at + 1) == Some(TokenKind::Sign(b'['))
}

#[cfg(test)]
mod tests {
    use super::{DeclaredType, declared_columns};
    use crate::engine::postgres::schema::statement_words::StatementWords;

    #[test]
    fn column_types_are_read_from_a_table_definition() {
        let sql = "CREATE TABLE a.b (\n id bigint DEFAULT f(1, 'x') NOT NULL,\n \"a,b\" integer[],\n d double precision,\n \
                   n numeric(10,2),\n y bytea,\n CONSTRAINT c CHECK ((id > 0)), t timestamp with time zone\n) PARTITION BY RANGE (id);";
        let columns = declared_columns(&StatementWords::of(sql.as_bytes()));
        let of = |name: &str| columns.get(name).copied();
        assert_eq!(
            (of("id"), of("a,b"), of("d")),
            (Some(DeclaredType::Integer), Some(DeclaredType::Text), Some(DeclaredType::Real))
        );
        assert_eq!(
            (of("n"), of("y"), of("t")),
            (Some(DeclaredType::Text), Some(DeclaredType::Bytes), Some(DeclaredType::Text))
        );
        assert_eq!(columns.len(), 6);
    }
}
