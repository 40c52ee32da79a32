//! The schema document of an SQLite database: its settings and every row of `sqlite_schema`, in order, as JSON. An
//! unchanged schema gives the same bytes. It contains no rows of tables, not even of `sqlite_sequence` and
//! `sqlite_stat1`.

use std::collections::HashSet;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};

use crate::engine::contract::{EngineError, TargetTable};
use crate::engine::sqlite::sql::{Decoded, SqlContext, TextEncoding, failed, pragma, query_all, quoted};

/// Settings and objects of a database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct SqliteSchema {
    pub(super) encoding: TextEncoding,
    pub(super) page_size: u32,
    /// 0: none, 1: full, 2: incremental.
    pub(super) auto_vacuum: u32,
    pub(super) journal_mode: JournalMode,
    pub(super) user_version: i32,
    pub(super) application_id: i32,
    /// In the order of `sqlite_schema`, which determines the order in which triggers fire.
    pub(super) objects: Vec<Object>,
}

/// The part of the journal mode that the file itself stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum JournalMode {
    Wal,
    /// Any rollback journal. Each connection chooses which kind.
    Rollback,
}

impl JournalMode {
    fn read(conn: &Connection) -> Result<Self, EngineError> {
        let mode: String = pragma(conn, "journal_mode")?;
        Ok(if mode == "wal" { Self::Wal } else { Self::Rollback })
    }
}

/// A row of `sqlite_schema`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Object {
    /// `table`, `index`, `view` or `trigger`.
    #[serde(rename = "type")]
    pub(super) kind: SqliteText,
    pub(super) name: SqliteText,
    pub(super) table: SqliteText,
    /// `None` for indexes that a table's own definition implies.
    pub(super) sql: Option<SqliteText>,
}

/// The exact text of a schema field.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum SqliteText {
    Text(String),
    /// Bytes that are not valid in the database's encoding.
    Raw {
        base64: String,
    },
}

impl SqliteText {
    /// The text, with invalid parts replaced.
    pub(super) fn lossy(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Raw { .. } => String::from_utf8_lossy(&self.raw().unwrap_or_default()).into_owned(),
        }
    }

    /// The text, if it is valid.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Raw { .. } => None,
        }
    }

    /// The bytes, if they are not valid text.
    pub(super) fn raw(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(_) => None,
            Self::Raw { base64 } => data_encoding::BASE64.decode(base64.as_bytes()).ok(),
        }
    }
}

impl Object {
    /// Reads type, name, table and definition, each as bytes.
    fn read(row: &Row<'_>, encoding: TextEncoding) -> rusqlite::Result<Self> {
        Ok(Self {
            kind: text_or_empty(row.get_ref(0)?, encoding),
            name: text_or_empty(row.get_ref(1)?, encoding),
            table: text_or_empty(row.get_ref(2)?, encoding),
            sql: text_of(row.get_ref(3)?, encoding),
        })
    }

    /// Whether the object is of this kind.
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind.text() == Some(kind)
    }

    /// Whether it is a table with its own rows in the file.
    pub(super) fn is_stored_table(&self) -> bool {
        self.is("table") && !self.is_virtual()
    }

    /// Whether the definition of a table or index creates what the row says.
    fn names_itself(&self) -> bool {
        let Some(sql) = &self.sql else { return true };
        let created = CreatedObject::of_definition(&sql.lossy());
        created.is_some_and(|created| created.is(self))
    }

    /// Whether it is a virtual table.
    pub(super) fn is_virtual(&self) -> bool {
        self.is("table") && self.sql.as_ref().is_some_and(|sql| virtual_module(&sql.lossy()).is_some())
    }
}

/// A schema document for tables of which only the column names are known.
#[must_use]
pub fn stand_in_schema(tables: &[TargetTable]) -> Vec<u8> {
    // SQLite's own tables cannot be created by a statement.
    let own = tables.iter().filter(|table| !table.name.starts_with("sqlite_"));
    let definitions = own.map(|table| TableDefinition { name: table.name.clone(), sql: untyped_definition(table) });
    SqliteSchema::of_tables(definitions).to_bytes()
}

fn untyped_definition(table: &TargetTable) -> String {
    let shown = table.columns.iter().filter(|column| !column.hidden);
    let columns: Vec<String> = shown.map(|column| quoted(&column.name)).collect();
    format!("CREATE TABLE {} ({})", quoted(&table.name), columns.join(", "))
}

/// A table and the statement that creates it.
pub(super) struct TableDefinition {
    pub(super) name: String,
    pub(super) sql: String,
}

impl From<TableDefinition> for Object {
    fn from(table: TableDefinition) -> Self {
        Self {
            kind: SqliteText::Text("table".to_owned()),
            name: SqliteText::Text(table.name.clone()),
            table: SqliteText::Text(table.name),
            sql: Some(SqliteText::Text(table.sql)),
        }
    }
}

impl SqliteSchema {
    /// A document that has only tables, with the settings of a new database.
    pub(super) fn of_tables(tables: impl Iterator<Item = TableDefinition>) -> Self {
        Self {
            encoding: TextEncoding::Utf8,
            page_size: 4096,
            auto_vacuum: 0,
            journal_mode: JournalMode::Rollback,
            user_version: 0,
            application_id: 0,
            objects: tables.map(Object::from).collect(),
        }
    }

    /// A document with the same settings.
    pub(super) fn without_objects(&self) -> Self {
        Self { objects: Vec::new(), ..*self }
    }

    /// Whether tables with their indexes can be created without the others in sight. In a damaged schema two objects
    /// may have the same name, so that only one of them can be created, or a definition may name another object.
    pub(super) fn has_independent_tables(&self) -> bool {
        let mut names = HashSet::new();
        self.with_pages().all(|object| object.names_itself() && names.insert(object.name.lossy().to_lowercase()))
    }

    /// Tables and indexes that have their own pages in the file.
    fn with_pages(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(|object| object.is_stored_table() || object.is("index"))
    }

    /// Reads the document of the open image.
    /// Fails if SQLite cannot read a setting or the schema.
    pub(super) fn read(conn: &Connection) -> Result<Self, EngineError> {
        let encoding = TextEncoding::of(conn)?;
        Ok(Self {
            encoding,
            page_size: pragma(conn, "page_size")?,
            auto_vacuum: pragma(conn, "auto_vacuum")?,
            journal_mode: JournalMode::read(conn)?,
            user_version: pragma(conn, "user_version")?,
            application_id: pragma(conn, "application_id")?,
            objects: read_objects(conn, encoding).doing("read the schema")?,
        })
    }

    /// The stored form.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a schema document has only strings and numbers");
        bytes.push(b'\n');
        bytes
    }

    /// Parses the stored form.
    /// Fails if the bytes are not the JSON of a document.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, EngineError> {
        serde_json::from_slice(bytes).map_err(|error| failed("parse the schema document", error.to_string()))
    }
}

fn read_objects(conn: &Connection, encoding: TextEncoding) -> rusqlite::Result<Vec<Object>> {
    let sql = "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), CAST(sql AS BLOB) \
               FROM main.sqlite_schema WHERE type IS NOT NULL AND name IS NOT NULL ORDER BY rowid";
    query_all(conn, sql, [], |row| Object::read(row, encoding))
}

fn text_or_empty(value: ValueRef<'_>, encoding: TextEncoding) -> SqliteText {
    text_of(value, encoding).unwrap_or_else(|| SqliteText::Text(String::new()))
}

fn text_of(value: ValueRef<'_>, encoding: TextEncoding) -> Option<SqliteText> {
    let ValueRef::Blob(bytes) = value else { return None };
    let mut text = String::new();
    Some(match encoding.decode(bytes, &mut text) {
        Decoded::Valid => SqliteText::Text(text),
        Decoded::Invalid => SqliteText::Raw { base64: data_encoding::BASE64.encode(bytes) },
    })
}

/// The module of a `CREATE VIRTUAL TABLE` statement, or `None` for any other statement.
pub(super) fn virtual_module(sql: &str) -> Option<String> {
    let mut tokens = SqliteTokens { rest: sql };
    for keyword in ["CREATE", "VIRTUAL", "TABLE"] {
        tokens.keyword(keyword)?;
    }
    let _name = tokens.next()?;
    tokens.by_ref().find(|token| token.eq_ignore_ascii_case("USING"))?;
    tokens.next()
}

/// What a `CREATE TABLE` or `CREATE INDEX` statement creates, in the form that SQLite stores: without a schema and
/// without `IF NOT EXISTS`.
struct CreatedObject {
    kind: &'static str,
    name: String,
    table: String,
}

impl CreatedObject {
    /// `None` for any other statement.
    fn of_definition(sql: &str) -> Option<Self> {
        let mut tokens = SqliteTokens { rest: sql };
        tokens.keyword("CREATE")?;
        let mut kind = tokens.next()?;
        if kind.eq_ignore_ascii_case("UNIQUE") {
            kind = tokens.next()?;
        }
        let name = tokens.next()?;
        let next = tokens.next()?;
        if kind.eq_ignore_ascii_case("TABLE") && (next == "(" || next.eq_ignore_ascii_case("AS")) {
            return Some(Self::table(name));
        }
        let is_index = kind.eq_ignore_ascii_case("INDEX") && next.eq_ignore_ascii_case("ON");
        let table = tokens.next().filter(|_| is_index)?;
        tokens.next().filter(|token| token == "(")?;
        Some(Self { kind: "index", name, table })
    }

    fn is(&self, object: &Object) -> bool {
        object.is(self.kind)
            && self.name.eq_ignore_ascii_case(&object.name.lossy())
            && self.table.eq_ignore_ascii_case(&object.table.lossy())
    }

    fn table(name: String) -> Self {
        Self { kind: "table", table: name.clone(), name }
    }
}

/// Words and quoted names of a statement, without quotes and comments.
struct SqliteTokens<'a> {
    rest: &'a str,
}

impl SqliteTokens<'_> {
    /// Takes the next token. `None` if it is not this keyword.
    fn keyword(&mut self, keyword: &str) -> Option<String> {
        self.next().filter(|token| token.eq_ignore_ascii_case(keyword))
    }

    fn skip_blank(&mut self) {
        loop {
            // To SQLite, other blanks are part of a name.
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
            if let Some(comment) = self.rest.strip_prefix("--") {
                self.rest = after(comment, "\n");
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                self.rest = after(comment, "*/");
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
        match self.rest.chars().next()? {
            quote @ ('"' | '\'' | '`') => Some(self.take_quoted(quote)),
            '[' => Some(self.take_bracketed()),
            first => Some(self.take_word(first)),
        }
    }
}

impl SqliteTokens<'_> {
    /// Takes letters and digits, or one other character.
    fn take_word(&mut self, first: char) -> String {
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end.max(first.len_utf8()));
        self.rest = rest;
        word.to_owned()
    }

    fn take_bracketed(&mut self) -> String {
        let inside = &self.rest[1..];
        let (name, rest) = inside.split_once(']').unwrap_or((inside, ""));
        self.rest = rest;
        name.to_owned()
    }

    /// Takes a quoted name, in which a doubled quote means one quote.
    fn take_quoted(&mut self, quote: char) -> String {
        let mut name = String::new();
        self.rest = &self.rest[1..];
        while let Some((part, rest)) = self.rest.split_once(quote) {
            name.push_str(part);
            self.rest = rest;
            let Some(rest) = rest.strip_prefix(quote) else { return name };
            name.push(quote);
            self.rest = rest;
        }
        name.push_str(self.rest);
        self.rest = "";
        name
    }
}

/// The text after the first `end`.
fn after<'a>(text: &'a str, end: &str) -> &'a str {
    text.split_once(end).map_or("", |(_, rest)| rest)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::{CreatedObject, virtual_module};

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

    #[test]
    fn what_a_definition_creates_is_found() {
        for (sql, expected) in [
            ("CREATE TABLE t(a)", Some(("table", "t", "t"))),
            ("create table \"a \"\"b\" -- (\n AS SELECT 1", Some(("table", "a \"b", "a \"b"))),
            ("CREATE UNIQUE INDEX i ON [t u](a)", Some(("index", "i", "t u"))),
            ("CREATE TABLE \u{a0}t(a)", Some(("table", "\u{a0}t", "\u{a0}t"))),
            ("CREATE TABLE if not exists t(a)", None),
            ("CREATE TABLE main.t(a)", None),
            ("CREATE INDEX i ON main.t(a)", None),
            ("CREATE VIEW v AS SELECT 1", None),
            ("DROP TABLE t", None),
        ] {
            let created = CreatedObject::of_definition(sql);
            let created = created.as_ref().map(|created| (created.kind, &*created.name, &*created.table));
            assert_eq!(created, expected, "{sql}");
        }
    }
}
