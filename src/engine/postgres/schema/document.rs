//! The schema document of a PostgreSQL database (JSON): everything but rows, as statements that any client can
//! run one by one, so that a restore needs none of PostgreSQL's tools. An unchanged schema gives the same bytes.
//!
//! It decides nothing about a restore: what belongs to owners and privileges is marked, and may then be left out.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::schema::lex::{TokenKind, Tokens};
use crate::engine::postgres::schema::statement_splitter::{DumpEntry, DumpPiece, PieceKind};

const VERSION: u32 = 1;

/// A document that cannot be understood.
#[derive(Debug, Error)]
pub enum DocumentError {
    #[error("the schema document of PostgreSQL is damaged")]
    Damaged(#[source] serde_json::Error),
    #[error("the schema document of PostgreSQL has version {version}, which a newer release understands")]
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
    /// What makes, owns, comments and sets the database itself; see [`SchemaStatement::in_database`].
    pub database: Vec<SchemaStatement>,
    /// What must be there before the rows, in order.
    pub pre_data: Vec<SchemaStatement>,
    /// What is made after them, in order.
    pub post_data: Vec<SchemaStatement>,
    /// Settings of the database and of roles in it: what `database` sets, in parts.
    pub settings: Vec<Setting>,
    pub extensions: Vec<Extension>,
    /// Versions of the collations in use, when they were last declared good.
    pub collations: Vec<CollationVersion>,
    pub sequences: Vec<Sequence>,
    pub large_objects: Vec<LargeObject>,
}

/// What the server and the database were.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerFacts {
    /// As in `server_version_num`: 150018.
    pub version: u32,
    pub database: String,
    pub owner: String,
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// `c`, `i` or `b`; None before 15.
    pub locale_provider: Option<String>,
    pub locale: Option<String>,
    pub collation_version: Option<String>,
}

/// One statement with its semicolon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SchemaStatement {
    pub purpose: Purpose,
    /// `TABLE`, `FK CONSTRAINT`, `ACL`, … as `pg_dump` has it; of a global its first two words; of a setting empty.
    pub class: String,
    pub schema: Option<DumpText>,
    /// The object, as `pg_dump` names it.
    pub name: DumpText,
    pub sql: DumpText,
}

/// What a statement is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Makes something, or is about it.
    Object,
    /// Says who owns something.
    Owner,
    /// Grants and revokes.
    Privilege,
    /// Sets the session for what follows.
    Session,
}

/// Text in the dump's encoding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DumpText {
    Text(String),
    /// Bytes of a database without an encoding that are not UTF-8.
    Raw {
        base64: String,
    },
}

/// Settings of the database, or of a role in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Setting {
    pub role: Option<String>,
    /// `name=value`
    pub entries: Vec<String>,
}

/// An extension with the version that `CREATE EXTENSION` in a dump does not name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Extension {
    pub name: String,
    pub schema: String,
    pub version: String,
}

/// A collation and the version of the library's order that indexes were built with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CollationVersion {
    pub schema: String,
    pub name: String,
    pub provider: String,
    pub version: String,
}

/// Where a sequence stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sequence {
    pub schema: String,
    pub name: String,
    pub position: Position,
}

/// The value of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// It was handed out last.
    Last(i64),
    /// It comes next.
    Next(i64),
}

/// A large object without its bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LargeObject {
    pub oid: u32,
    pub owner: String,
    /// None: what its owner has by default.
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

/// A privilege that a role has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Privilege {
    pub grantor: String,
    /// None: everybody.
    pub grantee: Option<String>,
    pub privilege: String,
    pub option: GrantOption,
}

/// Whether a privilege may be passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantOption {
    With,
    Without,
}

impl SchemaDocument {
    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers only")
    }

    /// Reads the stored form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DocumentError> {
        let DocumentHead { version } = from_json(bytes)?;
        if version > VERSION {
            return Err(DocumentError::Newer { version });
        }
        from_json(bytes)
    }

    /// The version that is written.
    #[must_use]
    pub(crate) fn version() -> u32 {
        VERSION
    }
}

/// What every version of the document has.
#[derive(Deserialize)]
struct DocumentHead {
    version: u32,
}

fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DocumentError> {
    serde_json::from_slice(bytes).map_err(DocumentError::Damaged)
}

impl DumpText {
    /// Text where it is.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Raw { base64: data_encoding::BASE64.encode(bytes) },
        }
    }

    /// The bytes, as they were; of damaged ones none.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Raw { base64 } => data_encoding::BASE64.decode(base64.as_bytes()).unwrap_or_default(),
        }
    }

    /// The text, with what is invalid replaced.
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

    /// It says how long the session that restores may take. That is its own affair; and a newer `pg_dump` sets what an
    /// older server has never heard of.
    fn is_timeout(&self) -> bool {
        let sql = self.sql.bytes();
        self.purpose == Purpose::Session
            && matches!(words_of(&sql)[..], [b"SET", name, ..] if name.ends_with(b"_timeout"))
    }

    fn of(entry: Option<&DumpEntry>, sql: &[u8]) -> Self {
        let words = words_of(sql);
        let purpose = Purpose::of(entry, &words);
        let subject = match entry {
            // It stands between objects and belongs to neither.
            _ if purpose == Purpose::Session => Subject::none(),
            Some(entry) => Subject::of_entry(entry),
            None => Subject::of_words(&words),
        };
        let Subject { class, schema, name } = subject;
        Self { purpose, class, schema, name, sql: DumpText::of(sql) }
    }

    /// It is about the database itself, and names it.
    pub(crate) fn is_about_database(&self) -> bool {
        match self.class.as_str() {
            "DATABASE" | "DATABASE PROPERTIES" => true,
            "COMMENT" | "ACL" | "SECURITY LABEL" => {
                self.schema.is_none() && self.name.bytes().starts_with(b"DATABASE ")
            }
            _ => false,
        }
    }

    /// The statement for a database of another name: `name` takes the place of the one after `DATABASE`.
    #[must_use]
    pub fn in_database(&self, name: &str) -> Vec<u8> {
        let mut sql = self.sql.bytes();
        if let Some(old) = database_name(&sql) {
            sql.splice(old, quote_identifier(name).into_bytes());
        }
        sql
    }
}

/// Where a statement names the database that it is about.
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

/// A role may be called `database`, and is not preceded by these.
fn is_database_keyword(before: &[u8], word: &[u8]) -> bool {
    word == b"DATABASE" && matches!(before, b"ALTER" | b"CREATE" | b"ON" | b"IN")
}

/// What a statement is about.
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

    /// By the first words of a statement without an entry.
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
            // Grants of others than the owner are made in their name.
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
    fn what_statements_are_for() {
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
    fn timeouts_are_those_of_whoever_restores() {
        let text = "SET transaction_timeout = 0;\nSET row_security = off;\nCREATE TABLE set_timeout ();";
        let kept: Vec<String> = statements(text).iter().map(|statement| statement.sql.lossy()).collect();
        assert_eq!(kept, ["SET row_security = off;", "CREATE TABLE set_timeout ();"]);
    }

    #[test]
    fn another_name_for_the_database() {
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
    fn bytes_that_are_no_text() {
        let words = DumpText::of(b"a\xff");
        assert_eq!((words.bytes(), words.lossy()), (b"a\xff".to_vec(), "a\u{fffd}".to_owned()));
        let json = serde_json::to_string(&[words.clone(), DumpText::of("é".as_bytes())]).unwrap();
        assert_eq!(json, r#"[{"base64":"Yf8="},"é"]"#);
        assert_eq!(serde_json::from_str::<Vec<DumpText>>(&json).unwrap()[0], words);
    }

    #[test]
    fn later_versions_are_refused() {
        let error = SchemaDocument::from_bytes(br#"{"version": 2, "new": 1}"#).unwrap_err();
        assert!(matches!(error, DocumentError::Newer { version: 2 }));
        assert!(matches!(SchemaDocument::from_bytes(b"{}"), Err(DocumentError::Damaged(_))));
        assert!(matches!(SchemaDocument::from_bytes(br#"{"version": 1}"#), Err(DocumentError::Damaged(_))));
    }
}
