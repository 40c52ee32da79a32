//! The schema document of an SQLite database: its settings and every row of `sqlite_schema`, in
//! order, as JSON. An unchanged schema gives the same bytes; rows of tables, also those of
//! `sqlite_sequence` and `sqlite_stat1`, are not in it.

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};

use crate::engine::contract::{SourceError, TargetTable};
use crate::engine::sqlite::sql::{Decoded, TextEncoding, failed, failed_sql, pragma, quoted};

/// Settings and objects of a database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct SqliteSchema {
    pub(super) encoding: TextEncoding,
    pub(super) page_size: u32,
    /// 0 none, 1 full, 2 incremental.
    pub(super) auto_vacuum: u32,
    pub(super) journal_mode: JournalMode,
    pub(super) user_version: i32,
    pub(super) application_id: i32,
    /// In the order of `sqlite_schema`, which decides the order in which triggers fire.
    pub(super) objects: Vec<Object>,
}

/// The part of the journal mode that the file itself remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum JournalMode {
    Wal,
    /// Any kind of rollback journal; each connection chooses its own.
    Rollback,
}

/// A row of `sqlite_schema`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Object {
    /// `table`, `index`, `view` or `trigger`.
    #[serde(rename = "type")]
    pub(super) kind: SqliteText,
    pub(super) name: SqliteText,
    pub(super) table: SqliteText,
    /// None for indexes that a table's own definition implies.
    pub(super) sql: Option<SqliteText>,
}

/// Text of the schema, exactly.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum SqliteText {
    Text(String),
    /// Bytes in the database's encoding that are not valid in it.
    Raw {
        base64: String,
    },
}

impl SqliteText {
    /// The text, with what is invalid replaced.
    pub(super) fn lossy(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Raw { .. } => String::from_utf8_lossy(&self.raw().unwrap_or_default()).into_owned(),
        }
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Raw { .. } => None,
        }
    }

    /// The bytes of what is not text.
    pub(super) fn raw(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(_) => None,
            Self::Raw { base64 } => data_encoding::BASE64.decode(base64.as_bytes()).ok(),
        }
    }
}

impl Object {
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind.text() == Some(kind)
    }

    /// A table with rows of its own in the file.
    pub(super) fn is_stored_table(&self) -> bool {
        self.is("table") && !self.is_virtual()
    }

    pub(super) fn is_virtual(&self) -> bool {
        self.is("table") && self.sql.as_ref().is_some_and(|sql| virtual_module(&sql.lossy()).is_some())
    }
}

/// A schema document for tables of which nothing but the names of their columns is known.
#[must_use]
pub fn stand_in_schema(tables: &[TargetTable]) -> Vec<u8> {
    let definition = |table: &TargetTable| {
        let columns = table.columns.iter().filter(|column| !column.hidden).map(|column| quoted(&column.name));
        let columns: Vec<String> = columns.collect();
        (table.name.clone(), format!("CREATE TABLE {} ({})", quoted(&table.name), columns.join(", ")))
    };
    // Tables of SQLite's own cannot be made by a statement.
    let own = |table: &&TargetTable| !table.name.starts_with("sqlite_");
    stand_in(tables.iter().filter(own).map(definition).collect())
}

/// A schema document of tables, each with its name and definition.
pub(super) fn stand_in(tables: Vec<(String, String)>) -> Vec<u8> {
    let object = |(name, sql): (String, String)| {
        let words = |text: &str| SqliteText::Text(text.to_owned());
        Object { kind: words("table"), name: words(&name), table: words(&name), sql: Some(words(&sql)) }
    };
    SqliteSchema {
        encoding: TextEncoding::Utf8,
        page_size: 4096,
        auto_vacuum: 0,
        journal_mode: JournalMode::Rollback,
        user_version: 0,
        application_id: 0,
        objects: tables.into_iter().map(object).collect(),
    }
    .to_bytes()
}

impl SqliteSchema {
    /// Reads the document of the open image.
    pub(super) fn read(conn: &Connection) -> Result<Self, SourceError> {
        let encoding = TextEncoding::of(conn)?;
        let journal: String = pragma(conn, "journal_mode")?;
        Ok(Self {
            encoding,
            page_size: pragma(conn, "page_size")?,
            auto_vacuum: pragma(conn, "auto_vacuum")?,
            journal_mode: if journal == "wal" { JournalMode::Wal } else { JournalMode::Rollback },
            user_version: pragma(conn, "user_version")?,
            application_id: pragma(conn, "application_id")?,
            objects: read_objects(conn, encoding)?,
        })
    }

    /// The stored form.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a schema document has only strings and numbers");
        bytes.push(b'\n');
        bytes
    }

    /// From the stored form.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, SourceError> {
        serde_json::from_slice(bytes).map_err(|error| failed("understand the schema document", error.to_string()))
    }
}

fn read_objects(conn: &Connection, encoding: TextEncoding) -> Result<Vec<Object>, SourceError> {
    let read = || -> rusqlite::Result<Vec<Object>> {
        let mut statement = conn.prepare(
            "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), CAST(sql AS BLOB) \
             FROM main.sqlite_schema WHERE type IS NOT NULL AND name IS NOT NULL ORDER BY rowid",
        )?;
        let mut rows = statement.query([])?;
        let mut objects = Vec::new();
        while let Some(row) = rows.next()? {
            let words = |column| row.get_ref(column).map(|value| words(value, encoding));
            objects.push(Object {
                kind: words(0)?.unwrap_or_else(|| SqliteText::Text(String::new())),
                name: words(1)?.unwrap_or_else(|| SqliteText::Text(String::new())),
                table: words(2)?.unwrap_or_else(|| SqliteText::Text(String::new())),
                sql: words(3)?,
            });
        }
        Ok(objects)
    };
    read().map_err(|error| failed_sql("read the schema", &error))
}

fn words(value: ValueRef<'_>, encoding: TextEncoding) -> Option<SqliteText> {
    let ValueRef::Blob(bytes) = value else { return None };
    let mut text = String::new();
    Some(match encoding.decode(bytes, &mut text) {
        Decoded::Valid => SqliteText::Text(text),
        Decoded::Invalid => SqliteText::Raw { base64: data_encoding::BASE64.encode(bytes) },
    })
}

/// The module of a `CREATE VIRTUAL TABLE` statement; none if it is another statement.
pub(super) fn virtual_module(sql: &str) -> Option<String> {
    let mut tokens = SqliteTokens { rest: sql };
    for keyword in ["CREATE", "VIRTUAL", "TABLE"] {
        tokens.next().filter(|token| token.eq_ignore_ascii_case(keyword))?;
    }
    let _name = tokens.next()?;
    tokens.by_ref().find(|token| token.eq_ignore_ascii_case("USING"))?;
    tokens.next()
}

/// Words and quoted names of a statement, without their quotes and without comments.
struct SqliteTokens<'a> {
    rest: &'a str,
}

impl SqliteTokens<'_> {
    fn skip_blank(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(comment) = self.rest.strip_prefix("--") {
                self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                self.rest = comment.split_once("*/").map_or("", |(_, rest)| rest);
            } else {
                return;
            }
        }
    }
}

impl Iterator for SqliteTokens<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.skip_blank();
        let first = self.rest.chars().next()?;
        let close = match first {
            '"' | '\'' | '`' => first,
            '[' => ']',
            _ => {
                let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
                let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len()).max(first.len_utf8());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                return Some(word.to_owned());
            }
        };
        let mut name = String::new();
        let mut characters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, character)) = characters.next() {
            if character != close {
                name.push(character);
            } else if close != ']' && characters.peek().is_some_and(|(_, next)| *next == close) {
                characters.next();
                name.push(close);
            } else {
                self.rest = &self.rest[at + close.len_utf8()..];
                return Some(name);
            }
        }
        self.rest = "";
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::virtual_module;

    #[test]
    fn the_module_of_a_virtual_table_is_found() {
        for (sql, module) in [
            ("CREATE VIRTUAL TABLE t USING fts5(a)", Some("fts5")),
            ("create virtual table \"a using \"\"b\" -- USING x\n using /* y */ [odd mod](a)", Some("odd mod")),
            ("CREATE VIRTUAL TABLE 'using' USING rtree", Some("rtree")),
            ("CREATE TABLE virtual(a)", None),
            ("CREATE VIRTUAL TABLE", None),
            ("", None),
        ] {
            assert_eq!(virtual_module(sql).as_deref(), module, "{sql}");
        }
    }
}
