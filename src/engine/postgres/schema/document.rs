//! The schema document of a PostgreSQL database (JSON): everything but rows, as statements that any client can run one
//! by one, so a restore needs none of PostgreSQL's tools. An unchanged schema gives the same bytes.
//!
//! The document does not decide how to restore. Statements about owners and privileges are marked, and a restore may
//! leave them out.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::schema::lex::{TokenKind, Tokens};
use crate::engine::postgres::schema::statement_splitter::{DumpEntry, DumpPiece, PieceKind};

const VERSION: u32 = 1;

/// A document that cannot be read.
#[derive(Debug, Error)]
pub enum DocumentError {
    #[error("the schema document of PostgreSQL is damaged")]
    Damaged(#[source] serde_json::Error),
    #[error("the schema document of PostgreSQL has version {version}, which needs a newer release of Sidekeep")]
    Newer { version: u32 },
}

/// A database without its rows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SchemaDocument {
    pub version: u32,
    pub server: ServerFacts,
    /// Major version of the `pg_dump` that wrote the statements.
    pub dumped_by: u32,
    /// Roles, memberships and tablespaces of the cluster.
    pub globals: Vec<SchemaStatement>,
    /// Statements about the database itself: creation, owner, comments and settings. See
    /// [`SchemaStatement::in_database`].
    pub database: Vec<SchemaStatement>,
    /// Statements to run before rows are restored, in order.
    pub pre_data: Vec<SchemaStatement>,
    /// Statements to run after rows are restored, in order.
    pub post_data: Vec<SchemaStatement>,
    /// Settings of the database and of roles in it. The same as in `database`, but split into parts.
    pub settings: Vec<Setting>,
    pub extensions: Vec<Extension>,
    /// Versions of the collations in use, as recorded when they were created or last refreshed.
    pub collations: Vec<CollationVersion>,
    pub sequences: Vec<Sequence>,
    pub large_objects: Vec<LargeObject>,
}

/// Facts about the server and the database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerFacts {
    /// As in `server_version_num`, such as 150018.
    pub version: u32,
    pub database: String,
    pub owner: String,
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// `c`, `i` or `b`. None before version 15.
    pub locale_provider: Option<String>,
    pub locale: Option<String>,
    pub collation_version: Option<String>,
}

/// One statement, including its semicolon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SchemaStatement {
    pub purpose: Purpose,
    /// `pg_dump`'s type, such as `TABLE`, `FK CONSTRAINT` or `ACL`. For globals the first two words, for settings
    /// empty.
    pub class: String,
    pub schema: Option<DumpText>,
    /// The object's name as `pg_dump` writes it.
    pub name: DumpText,
    pub sql: DumpText,
}

/// The purpose of a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Creates or describes an object.
    Object,
    /// Sets the owner of an object.
    Owner,
    /// Grants or revokes privileges.
    Privilege,
    /// Sets up the session for the statements that follow.
    Session,
}

/// Text in the dump's encoding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DumpText {
    Text(String),
    /// Bytes that are not UTF-8, from a database without an encoding.
    Raw {
        base64: String,
    },
}

/// Settings of the database, or of a role in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Setting {
    pub role: Option<String>,
    /// As `name=value`.
    pub entries: Vec<String>,
}

/// An extension with its version, which `CREATE EXTENSION` in a dump leaves out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Extension {
    pub name: String,
    pub schema: String,
    pub version: String,
}

/// A collation with the version of the library that indexes were built with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CollationVersion {
    pub schema: String,
    pub name: String,
    pub provider: String,
    pub version: String,
}

/// The position of a sequence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sequence {
    pub schema: String,
    pub name: String,
    pub position: Position,
}

/// The next or last value of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// The value that was returned last.
    Last(i64),
    /// The value that is returned next.
    Next(i64),
}

/// A large object without its contents.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LargeObject {
    pub oid: u32,
    pub owner: String,
    /// None if the owner has the default privileges and nobody else has any.
    pub grants: Option<Vec<Privilege>>,
    pub comment: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
}

/// A security label.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Label {
    pub provider: String,
    pub label: String,
}

/// A privilege of a role.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Privilege {
    pub grantor: String,
    /// None means PUBLIC.
    pub grantee: Option<String>,
    pub privilege: String,
    pub option: GrantOption,
}

/// Whether the grantee may grant the privilege to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantOption {
    With,
    Without,
}

impl SchemaDocument {
    /// Serializes the document.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers only")
    }

    /// Reads a serialized document.
    /// Fails if the bytes are not the JSON of a document, or if its version is newer than this release knows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DocumentError> {
        let DocumentHead { version } = from_json(bytes)?;
        if version > VERSION {
            return Err(DocumentError::Newer { version });
        }
        from_json(bytes)
    }

    /// The version of the documents that this release writes.
    #[must_use]
    pub(crate) fn version() -> u32 {
        VERSION
    }
}

/// The part that all versions of the document have in common.
#[derive(Deserialize)]
struct DocumentHead {
    version: u32,
}

fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DocumentError> {
    serde_json::from_slice(bytes).map_err(DocumentError::Damaged)
}

impl DumpText {
    /// Text if the bytes are UTF-8, else raw.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Raw { base64: data_encoding::BASE64.encode(bytes) },
        }
    }

    /// The original bytes. Empty if the base64 is damaged.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Raw { base64 } => data_encoding::BASE64.decode(base64.as_bytes()).unwrap_or_default(),
        }
    }

    /// The text, with invalid bytes replaced.
    #[must_use]
    pub fn lossy(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Raw { .. } => String::from_utf8_lossy(&self.bytes()).into_owned(),
        }
    }
}

impl SchemaStatement {
    /// The statements of a dump.
    pub(crate) fn all_of(pieces: &[DumpPiece<'_>]) -> Vec<Self> {
        let mut statements = Vec::new();
        for piece in pieces {
            let PieceKind::Statement(entry) = &piece.kind else { continue };
            let statement = Self::of(entry.as_ref(), piece.text);
            if !statement.is_timeout() {
                statements.push(statement);
            }
        }
        statements
    }

    /// Whether it sets a timeout. The restoring session chooses its own timeouts, and a newer `pg_dump` sets some that
    /// an older server does not know.
    fn is_timeout(&self) -> bool {
        let sql = self.sql.bytes();
        self.purpose == Purpose::Session
            && matches!(words_of(&sql)[..], [b"SET", name, ..] if name.ends_with(b"_timeout"))
    }

    fn of(entry: Option<&DumpEntry>, sql: &[u8]) -> Self {
        let words = words_of(sql);
        let purpose = Purpose::of(entry, &words);
        let subject = match entry {
            // A session setting appears between objects and belongs to none.
            _ if purpose == Purpose::Session => Subject::none(),
            Some(entry) => Subject::of_entry(entry),
            None => Subject::of_words(&words),
        };
        let Subject { class, schema, name } = subject;
        Self { purpose, class, schema, name, sql: DumpText::of(sql) }
    }

    /// Whether the statement concerns the database itself, and so contains its name.
    pub(crate) fn is_about_database(&self) -> bool {
        match self.class.as_str() {
            "DATABASE" | "DATABASE PROPERTIES" => true,
            "COMMENT" | "ACL" | "SECURITY LABEL" => {
                self.schema.is_none() && self.name.bytes().starts_with(b"DATABASE ")
            }
            _ => false,
        }
    }

    /// The statement for a database of another name. Replaces the name after `DATABASE` with `name`.
    #[must_use]
    pub fn in_database(&self, name: &str) -> Vec<u8> {
        let mut sql = self.sql.bytes();
        if let Some(old) = database_name(&sql) {
            sql.splice(old, quote_identifier(name).into_bytes());
        }
        sql
    }
}

/// The position of the database's name in a statement about a database.
fn database_name(sql: &[u8]) -> Option<Range<usize>> {
    let tokens: Vec<(usize, TokenKind, &[u8])> = Tokens::new(sql).collect();
    for window in tokens.windows(3) {
        let &[(_, _, before), (_, _, keyword), (at, kind, name)] = window else { continue };
        if is_database_keyword(before, keyword) && matches!(kind, TokenKind::Word | TokenKind::QuotedName) {
            return Some(at..at + name.len());
        }
    }
    None
}

/// A role may be called `database`, but does not follow these words.
fn is_database_keyword(before: &[u8], word: &[u8]) -> bool {
    word == b"DATABASE" && matches!(before, b"ALTER" | b"CREATE" | b"ON" | b"IN")
}

/// The object of a statement.
struct Subject {
    class: String,
    schema: Option<DumpText>,
    name: DumpText,
}

impl Subject {
    fn none() -> Self {
        Self { class: String::new(), schema: None, name: DumpText::of(b"") }
    }

    fn of_entry(entry: &DumpEntry) -> Self {
        Self {
            class: entry.class.clone(),
            schema: entry.schema.as_deref().map(DumpText::of),
            name: DumpText::of(&entry.name),
        }
    }

    /// From the first words of a statement without an entry.
    fn of_words(words: &[&[u8]]) -> Self {
        let word = |at: usize| words.get(at).copied().unwrap_or_default();
        let class = format!("{} {}", String::from_utf8_lossy(word(0)), String::from_utf8_lossy(word(1)));
        Self { class, schema: None, name: DumpText::of(word(2)) }
    }
}

fn words_of(sql: &[u8]) -> Vec<&[u8]> {
    Tokens::new(sql).map(|(_, _, bytes)| bytes).collect()
}

impl Purpose {
    fn of(entry: Option<&DumpEntry>, words: &[&[u8]]) -> Self {
        match words {
            // Grants by roles other than the owner are made under their session authorization.
            [b"SET" | b"RESET", b"SESSION", b"AUTHORIZATION", ..] => Self::Privilege,
            [b"SET", ..] | [b"SELECT", b"pg_catalog", b".", b"set_config", ..] => Self::Session,
            [b"ALTER", .., b"OWNER", b"TO", _, b";"] => Self::Owner,
            _ if entry.is_some_and(DumpEntry::is_privilege) => Self::Privilege,
            _ => Self::Object,
        }
    }
}

impl DumpEntry {
    fn is_privilege(&self) -> bool {
        matches!(self.class.as_str(), "ACL" | "DEFAULT ACL")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::postgres::schema::statement_splitter::split;

    fn statements(text: &str) -> Vec<SchemaStatement> {
        SchemaStatement::all_of(&split(text.as_bytes()).unwrap())
    }

    fn only(class: &str, name: &str, sql: &str) -> SchemaStatement {
        let text = format!("--\n-- Name: {name}; Type: {class}; Schema: -; Owner: x\n--\n\n{sql}\n");
        statements(&text).pop().unwrap()
    }

    #[test]
    fn statements_are_classified_by_purpose() {
        let purpose = |class: &str, sql: &str| only(class, "n", sql).purpose;
        assert_eq!(purpose("TABLE", "CREATE TABLE a.b (owner text DEFAULT 'OWNER TO x');"), Purpose::Object);
        assert_eq!(purpose("TABLE", "ALTER TABLE a.\"b\nc\" OWNER TO \"o ; \";"), Purpose::Owner);
        assert_eq!(purpose("FUNCTION", "ALTER FUNCTION a.f(a integer, \"b;\" text) OWNER TO o;"), Purpose::Owner);
        assert_eq!(purpose("COMMENT", "COMMENT ON TABLE a IS ' OWNER TO x';"), Purpose::Object);
        assert_eq!(purpose("ACL", "GRANT SELECT ON TABLE a.b TO c;"), Purpose::Privilege);
        assert_eq!(purpose("ACL", "SET SESSION AUTHORIZATION x;"), Purpose::Privilege);
        assert_eq!(purpose("ACL", "RESET SESSION AUTHORIZATION;"), Purpose::Privilege);
        assert_eq!(
            purpose("DEFAULT ACL", "ALTER DEFAULT PRIVILEGES FOR ROLE x GRANT SELECT ON TABLES TO y;"),
            Purpose::Privilege
        );
        assert_eq!(purpose("ACL", "SET default_tablespace = '';"), Purpose::Session);
        assert_eq!(purpose("TABLE", "SELECT pg_catalog.set_config('search_path', '', false);"), Purpose::Session);
        let role = &statements("CREATE ROLE \"o;k\";\nGRANT a TO b;")[..];
        assert_eq!((role[0].class.as_str(), role[0].name.lossy().as_str()), ("CREATE ROLE", "\"o;k\""));
    }

    #[test]
    fn timeouts_are_left_out() {
        let text = "SET transaction_timeout = 0;\nSET row_security = off;\nCREATE TABLE set_timeout ();";
        let kept: Vec<String> = statements(text).iter().map(|statement| statement.sql.lossy()).collect();
        assert_eq!(kept, ["SET row_security = off;", "CREATE TABLE set_timeout ();"]);
    }

    #[test]
    fn statements_can_name_another_database() {
        let renamed = |class: &str, sql: &str| String::from_utf8(only(class, "n", sql).in_database("n\"w")).unwrap();
        let cases = [
            ("CREATE DATABASE @ WITH TEMPLATE = template0;", "DATABASE"),
            ("ALTER DATABASE @ SET search_path TO 'DATABASE x', 'y';", "DATABASE PROPERTIES"),
            ("ALTER ROLE DATABASE IN DATABASE @ SET a TO 'b';", "DATABASE PROPERTIES"),
            ("GRANT CONNECT ON DATABASE @ TO DATABASE;", "ACL"),
            ("COMMENT ON DATABASE @ IS 'ON DATABASE x';", "COMMENT"),
            ("SET SESSION AUTHORIZATION DATABASE;", "ACL"),
        ];
        for (sql, class) in cases {
            for old in ["app", "\"o;ld \"\" DATABASE x\""] {
                assert_eq!(renamed(class, &sql.replace('@', old)), sql.replace('@', "\"n\"\"w\""));
            }
        }
        assert!(only("COMMENT", "DATABASE x", "COMMENT ON DATABASE x IS 'y';").is_about_database());
        assert!(!only("COMMENT", "TABLE x", "COMMENT ON TABLE x IS 'y';").is_about_database());
    }

    #[test]
    fn bytes_that_are_not_utf8_are_kept() {
        let words = DumpText::of(b"a\xff");
        assert_eq!((words.bytes(), words.lossy()), (b"a\xff".to_vec(), "a\u{fffd}".to_owned()));
        let json = serde_json::to_string(&[words.clone(), DumpText::of("é".as_bytes())]).unwrap();
        assert_eq!(json, r#"[{"base64":"Yf8="},"é"]"#);
        assert_eq!(serde_json::from_str::<Vec<DumpText>>(&json).unwrap()[0], words);
    }

    #[test]
    fn newer_versions_and_damaged_documents_are_refused() {
        let error = SchemaDocument::from_bytes(br#"{"version": 2, "new": 1}"#).unwrap_err();
        assert!(matches!(error, DocumentError::Newer { version: 2 }));
        assert!(matches!(SchemaDocument::from_bytes(b"{}"), Err(DocumentError::Damaged(_))));
        assert!(matches!(SchemaDocument::from_bytes(br#"{"version": 1}"#), Err(DocumentError::Damaged(_))));
    }
}
