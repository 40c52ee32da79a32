//! Finds out from a dump statement's tokens what it is about: the table, the roles that it names. Dumps qualify every
//! name, so no catalog is needed.

use std::ops::Range;

use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::schema::lex::{TokenKind, Tokens};
use crate::engine::postgres::schema::table::qualified;

type Word<'a> = (TokenKind, &'a [u8]);

/// A partition with its parent.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct AttachedPartition {
    pub(crate) parent: String,
    pub(crate) partition: String,
}

/// Kinds of objects from which the subject of a statement is found.
const SUBJECT_KINDS: [&str; 8] = ["TABLE", "VIEW", "SEQUENCE", "INDEX", "TRIGGER", "RULE", "POLICY", "STATISTICS"];

/// The tokens of a statement.
pub(crate) struct StatementWords<'a>(Vec<Word<'a>>);

impl<'a> StatementWords<'a> {
    /// Reads the tokens of a statement.
    pub(crate) fn of(sql: &'a [u8]) -> Self {
        Self(Tokens::new(sql).map(|(_, kind, bytes)| (kind, bytes)).collect())
    }

    /// Whether the token at this position is `word`.
    pub(crate) fn is(&self, at: usize, word: &str) -> bool {
        self.0.get(at).is_some_and(|(kind, bytes)| *kind == TokenKind::Word && *bytes == word.as_bytes())
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The kind of the token at this position.
    pub(crate) fn token(&self, at: usize) -> Option<TokenKind> {
        self.0.get(at).map(|(kind, _)| *kind)
    }

    fn is_sign(&self, at: usize, sign: u8) -> bool {
        self.0.get(at).is_some_and(|(kind, _)| *kind == TokenKind::Sign(sign))
    }

    /// Whether the statement begins with these words.
    pub(crate) fn starts_with(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(at, word)| self.is(at, word))
    }

    fn is_any(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    /// The first position of this word at or after `from`, outside parentheses.
    fn find(&self, from: usize, word: &str) -> Option<usize> {
        let mut depth = 0_usize;
        for at in from..self.0.len() {
            match self.0[at].0 {
                TokenKind::Sign(b'(') => depth += 1,
                TokenKind::Sign(b')') => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && self.is(at, word) {
                return Some(at);
            }
        }
        None
    }

    /// The first position in `range` of one of these words.
    fn find_any(&self, mut range: Range<usize>, words: &[&str]) -> Option<usize> {
        range.find(|&at| self.is_any(at, words))
    }

    fn text(&self, at: usize) -> Option<String> {
        let (_, bytes) = self.0.get(at)?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// The name at this position, without quotes.
    pub(crate) fn name(&self, at: usize) -> Option<String> {
        let text = self.text(at)?;
        match self.token(at)? {
            TokenKind::Word => Some(text),
            TokenKind::QuotedName => Some(text.get(1..text.len() - 1)?.replace("\"\"", "\"")),
            _ => None,
        }
    }

    /// The qualified name at this position, in the form of table names in a snapshot.
    pub(crate) fn qualified(&self, at: usize) -> Option<String> {
        let schema = self.name(at)?;
        self.is_sign(at + 1, b'.').then_some(())?;
        Some(qualified(&schema, &self.name(at + 2)?))
    }

    /// The position of the name after a keyword. ONLY may be between them.
    fn name_after(&self, keyword: usize) -> usize {
        if self.is(keyword + 1, "ONLY") { keyword + 2 } else { keyword + 1 }
    }

    fn qualified_after(&self, keyword: usize) -> Option<String> {
        self.qualified(self.name_after(keyword))
    }

    /// The qualified name after the first occurrence of this word at or after `from`.
    fn qualified_after_word(&self, from: usize, word: &str) -> Option<String> {
        self.qualified_after(self.find(from, word)?)
    }

    /// The table (or view, sequence, index) that the statement creates, changes or belongs to.
    pub(crate) fn subject(&self) -> Option<String> {
        let (_, verb) = self.0.first()?;
        match *verb {
            b"COMMENT" | b"SECURITY" => self.subject_of_comment(),
            b"GRANT" | b"REVOKE" => self.subject_of_grant(),
            b"CREATE" | b"ALTER" | b"REFRESH" => self.subject_of_definition(),
            _ => None,
        }
    }

    fn subject_of_grant(&self) -> Option<String> {
        let on = self.find(1, "ON")?;
        let has_kind = self.is_any(on + 1, &["TABLE", "SEQUENCE"]);
        self.qualified_after(if has_kind { on + 1 } else { on })
    }

    fn subject_of_definition(&self) -> Option<String> {
        // CREATE [UNLOGGED | UNIQUE | MATERIALIZED | FOREIGN | CONSTRAINT | OR REPLACE] what
        let kind = self.find_any(1..5, &SUBJECT_KINDS)?;
        if self.is(0, "ALTER") || self.is_any(kind, &["TABLE", "VIEW", "SEQUENCE"]) {
            return self.qualified_after(kind);
        }
        let before_table = match self.0[kind].1 {
            b"RULE" => "TO",
            b"STATISTICS" => "FROM",
            _ => "ON",
        };
        self.qualified_after_word(kind + 2, before_table)
    }

    fn subject_of_comment(&self) -> Option<String> {
        let on = self.find(1, "ON")?;
        if self.is_any(on + 1, &["CONSTRAINT", "TRIGGER", "RULE", "POLICY"]) {
            return self.qualified_after_word(on + 2, "ON");
        }
        let has_two_words = self.is_any(on + 1, &["MATERIALIZED", "FOREIGN"]);
        self.qualified_after(if has_two_words { on + 2 } else { on + 1 })
    }

    /// The table that this statement's foreign key refers to.
    pub(crate) fn referenced_table(&self) -> Option<String> {
        self.qualified_after_word(1, "REFERENCES")
    }

    /// The name of the constraint that ALTER TABLE adds.
    pub(crate) fn constraint(&self) -> Option<String> {
        let at = self.find(1, "CONSTRAINT")?;
        if !self.is(at - 1, "ADD") {
            return None;
        }
        self.name(at + 1)
    }

    /// The index that CREATE INDEX or ALTER TABLE ... ADD CONSTRAINT creates. It is in its table's schema.
    pub(crate) fn index_made(&self) -> Option<String> {
        let (before_table, name) = match self.constraint() {
            Some(name) => ("TABLE", name),
            None => ("ON", self.name(self.find(1, "INDEX")? + 1)?),
        };
        let schema = self.name(self.name_after(self.find(1, before_table)?))?;
        Some(qualified(&schema, &name))
    }

    /// Whether a constraint is NOT VALID, that is, must not be validated.
    pub(crate) fn is_not_valid(&self) -> bool {
        let end = self.0.len();
        end > 3 && self.is(end - 3, "NOT") && self.is(end - 2, "VALID")
    }

    /// Whether a constraint is NOT ENFORCED (since PostgreSQL 18).
    pub(crate) fn is_not_enforced(&self) -> bool {
        self.find(1, "ENFORCED").is_some_and(|at| self.is(at - 1, "NOT"))
    }

    /// The table of an ALTER TABLE, quoted for SQL, without ONLY.
    pub(crate) fn subject_for_sql(&self) -> Option<String> {
        let at = self.name_after(self.find(1, "TABLE")?);
        let schema = quote_identifier(&self.name(at)?);
        let table = quote_identifier(&self.name(at + 2)?);
        Some(format!("{schema}.{table}"))
    }

    /// Parent and partition of ALTER TABLE ... ATTACH PARTITION.
    pub(crate) fn attached_partition(&self) -> Option<AttachedPartition> {
        let at = self.find(1, "ATTACH")?;
        Some(AttachedPartition { parent: self.subject()?, partition: self.qualified_after(at + 1)? })
    }

    /// The tables that CREATE TABLE ... INHERITS names.
    pub(crate) fn inherited_tables(&self) -> Vec<String> {
        let Some(inherits) = self.find(1, "INHERITS") else { return Vec::new() };
        let begins_name = |at: &usize| !self.is_sign(at - 1, b'.');
        (inherits + 1..self.0.len()).filter(begins_name).filter_map(|at| self.qualified(at)).collect()
    }

    /// The table that ALTER SEQUENCE ... OWNED BY names.
    pub(crate) fn owned_by(&self) -> Option<String> {
        let at = self.find(1, "OWNED")?;
        self.qualified(at + 2)
    }

    /// `GRANT a TO b` without other options, but with the admin option if the statement has it.
    pub(crate) fn membership(&self) -> Option<String> {
        let to = self.find(1, "TO")?;
        let option = if self.has_admin_option(to) { " WITH ADMIN OPTION" } else { "" };
        Some(format!("GRANT {} TO {}{option};", self.text(1)?, self.text(to + 1)?))
    }

    fn has_admin_option(&self, from: usize) -> bool {
        self.find(from, "ADMIN").is_some_and(|at| self.is_any(at + 1, &["OPTION", "TRUE"]))
    }

    /// The name that is the value of an option such as `TABLESPACE = name`.
    pub(crate) fn option(&self, option: &str) -> Option<String> {
        let at = self.find(1, option)?;
        if !self.is_sign(at + 1, b'=') {
            return None;
        }
        self.name(at + 2)
    }

    /// Roles named by a GRANT, a REVOKE, or a change of an owner, of default privileges or of a role's settings.
    pub(crate) fn roles(&self) -> Vec<String> {
        let mut roles = Vec::new();
        if self.starts_with(&["ALTER", "DEFAULT", "PRIVILEGES", "FOR", "ROLE"]) {
            self.push_names(&mut roles, 5);
        }
        if self.starts_with(&["ALTER", "ROLE"]) {
            self.push_names(&mut roles, 2);
        }
        if let Some(at) = self.find(1, "TO").or_else(|| self.find(1, "FROM")) {
            self.push_names(&mut roles, at + 1);
        }
        roles.retain(|role| role != "PUBLIC");
        roles
    }

    /// Appends the comma-separated names that start at this position.
    fn push_names(&self, names: &mut Vec<String>, mut at: usize) {
        while let Some(name) = self.name(at) {
            names.push(name);
            if !self.is_sign(at + 1, b',') {
                break;
            }
            at += 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AttachedPartition, StatementWords};

    fn subject(sql: &str) -> Option<String> {
        StatementWords::of(sql.as_bytes()).subject()
    }

    #[test]
    fn the_subject_of_a_statement_is_found() {
        for (sql, table) in [
            ("CREATE TABLE app.users (\n    a text DEFAULT 'CREATE TABLE x.y'\n);", "app.users"),
            ("CREATE UNLOGGED TABLE app.\"ON x.y\" ();", "app.\"ON x.y\""),
            ("ALTER TABLE ONLY app.users\n    ADD CONSTRAINT users_pkey PRIMARY KEY (id);", "app.users"),
            ("CREATE UNIQUE INDEX \"TABLE\" ON ONLY app.users USING btree (lower(nick)) WHERE (a ON b);", "app.users"),
            ("CREATE CONSTRAINT TRIGGER t AFTER INSERT OR UPDATE OF a ON app.users FROM app.b;", "app.users"),
            (
                "CREATE RULE two AS\n    ON INSERT TO app.no_key\n   WHERE (new.a > 5) DO (INSERT INTO x.y);",
                "app.no_key",
            ),
            ("CREATE POLICY \"own; rows\" ON app.contacts TO ps_app USING ((name <> ';'::text));", "app.contacts"),
            ("CREATE STATISTICS app.both (dependencies) ON a, b FROM app.composite;", "app.composite"),
            ("ALTER INDEX app.events_pkey ATTACH PARTITION app.events_old_pkey;", "app.events_pkey"),
            ("COMMENT ON TABLE app.users IS 'ON x.y';", "app.users"),
            ("COMMENT ON COLUMN app.users.odd IS 'x';", "app.users"),
            ("COMMENT ON CONSTRAINT c ON app.users IS 'x';", "app.users"),
            ("COMMENT ON MATERIALIZED VIEW app.v IS 'x';", "app.v"),
            ("GRANT SELECT(a,b),UPDATE(c) ON TABLE app.users TO x;", "app.users"),
            ("GRANT ALL ON SEQUENCE app.s TO x;", "app.s"),
            ("REFRESH MATERIALIZED VIEW app.v;", "app.v"),
            ("CREATE OR REPLACE VIEW app.v AS SELECT 1;", "app.v"),
        ] {
            assert_eq!(subject(sql).as_deref(), Some(table), "{sql}");
        }
        assert_eq!(subject("CREATE FUNCTION app.f(a integer) RETURNS TABLE(x text) LANGUAGE sql;"), None);
        assert_eq!(subject("SELECT 1;"), None);
    }

    #[test]
    fn names_and_clauses_of_a_statement_are_found() {
        let words = |sql: &'static str| StatementWords::of(sql.as_bytes());
        let key = words("ALTER TABLE ONLY a.b ADD CONSTRAINT \"f k\" FOREIGN KEY (x) REFERENCES c.d(y) NOT VALID;");
        assert_eq!((key.referenced_table().as_deref(), key.constraint().as_deref()), (Some("c.d"), Some("f k")));
        assert!(key.is_not_valid());
        assert_eq!(key.index_made().as_deref(), Some("a.\"f k\""));
        assert_eq!(words("CREATE UNIQUE INDEX i ON ONLY a.b USING btree (x);").index_made().as_deref(), Some("a.i"));
        let attach = words("ALTER TABLE ONLY a.b ATTACH PARTITION a.c FOR VALUES FROM (1) TO (2);");
        assert_eq!(
            attach.attached_partition(),
            Some(AttachedPartition { parent: "a.b".to_owned(), partition: "a.c".to_owned() })
        );
        assert_eq!(words("CREATE TABLE a.c (x int) INHERITS (a.b, a.\"q.\");").inherited_tables(), ["a.b", "a.\"q.\""]);
        assert_eq!(words("ALTER SEQUENCE a.s OWNED BY a.t.c;").owned_by().as_deref(), Some("a.t"));
        assert_eq!(words("GRANT SELECT ON TABLE a.b TO x,\"y z\" WITH GRANT OPTION;").roles(), ["x", "y z"]);
        assert_eq!(words("REVOKE ALL ON TABLE a.b FROM PUBLIC;").roles(), [""; 0]);
        assert_eq!(words("ALTER FUNCTION a.f(x integer) OWNER TO \"o p\";").roles(), ["o p"]);
        let database = words("CREATE DATABASE a WITH ENCODING = 'UTF8' TABLESPACE = \"Fast\";");
        assert_eq!((database.option("TABLESPACE").as_deref(), database.option("ENCODING")), (Some("Fast"), None));
        assert_eq!(
            words("ALTER DEFAULT PRIVILEGES FOR ROLE x IN SCHEMA a GRANT SELECT ON TABLES TO y;").roles(),
            ["x", "y"]
        );
        assert_eq!(words("ALTER ROLE x IN DATABASE d SET search_path TO 'a';").roles(), ["x"]);
    }
}
