//! What a statement of a dump is about, as far as its words tell: the table, roles that it names. Dumps qualify every
//! name, so that this needs no catalog.

use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::schema::lex::{TokenKind, Tokens};
use crate::engine::postgres::schema::table::qualified;

type Word<'a> = (TokenKind, &'a [u8]);

/// The words of a statement.
pub(super) struct StatementWords<'a>(Vec<Word<'a>>);

impl<'a> StatementWords<'a> {
    pub(super) fn of(sql: &'a [u8]) -> Self {
        Self(Tokens::new(sql).map(|(_, kind, bytes)| (kind, bytes)).collect())
    }

    pub(super) fn is(&self, at: usize, word: &str) -> bool {
        self.0.get(at).is_some_and(|(kind, bytes)| *kind == TokenKind::Word && *bytes == word.as_bytes())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn token(&self, at: usize) -> Option<TokenKind> {
        self.0.get(at).map(|(kind, _)| *kind)
    }

    fn is_sign(&self, at: usize, sign: u8) -> bool {
        self.0.get(at).is_some_and(|(kind, _)| *kind == TokenKind::Sign(sign))
    }

    pub(super) fn starts_with(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(at, word)| self.is(at, word))
    }

    /// Where this word stands first from `from` on, outside parentheses.
    fn find(&self, from: usize, word: &str) -> Option<usize> {
        let mut depth = 0_usize;
        (from..self.0.len()).find(|&at| {
            match self.0[at].0 {
                TokenKind::Sign(b'(') => depth += 1,
                TokenKind::Sign(b')') => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && self.is(at, word)
        })
    }

    /// The name at this place, without quotes.
    pub(super) fn name(&self, at: usize) -> Option<String> {
        let (kind, bytes) = self.0.get(at)?;
        let text = String::from_utf8_lossy(bytes).into_owned();
        match kind {
            TokenKind::Word => Some(text),
            TokenKind::QuotedName => Some(text.get(1..text.len() - 1)?.replace("\"\"", "\"")),
            _ => None,
        }
    }

    /// The qualified name at this place, as tables are named in a snapshot.
    pub(super) fn qualified(&self, at: usize) -> Option<String> {
        let schema = self.name(at)?;
        self.is_sign(at + 1, b'.').then_some(())?;
        Some(qualified(&schema, &self.name(at + 2)?))
    }

    /// After a keyword, which ONLY may follow.
    fn qualified_after(&self, at: usize) -> Option<String> {
        let at = at + 1;
        self.qualified(if self.is(at, "ONLY") { at + 1 } else { at })
    }

    /// The table (or view, sequence, index) that the statement makes, changes or is attached to.
    pub(super) fn subject(&self) -> Option<String> {
        if self.is(0, "COMMENT") || self.is(0, "SECURITY") {
            return self.subject_of_comment();
        }
        if self.is(0, "GRANT") || self.is(0, "REVOKE") {
            let on = self.find(1, "ON")?;
            return self.qualified_after(if self.is(on + 1, "TABLE") || self.is(on + 1, "SEQUENCE") {
                on + 1
            } else {
                on
            });
        }
        let verb = self.is(0, "CREATE") || self.is(0, "ALTER") || self.is(0, "REFRESH");
        verb.then_some(())?;
        // CREATE [UNLOGGED | UNIQUE | MATERIALIZED | FOREIGN | CONSTRAINT | OR REPLACE] what
        let what = (1..5).find(|&at| {
            ["TABLE", "VIEW", "SEQUENCE", "INDEX", "TRIGGER", "RULE", "POLICY", "STATISTICS"]
                .iter()
                .any(|word| self.is(at, word))
        })?;
        let is = |word| self.is(what, word);
        if is("TABLE") || is("VIEW") || is("SEQUENCE") || self.is(0, "ALTER") {
            return self.qualified_after(what);
        }
        match () {
            () if is("INDEX") || is("POLICY") || is("TRIGGER") => self.qualified_after(self.find(what + 2, "ON")?),
            () if is("RULE") => self.qualified_after(self.find(what + 2, "TO")?),
            () if is("STATISTICS") => self.qualified_after(self.find(what + 2, "FROM")?),
            () => None,
        }
    }

    fn subject_of_comment(&self) -> Option<String> {
        let on = self.find(1, "ON")?;
        if ["CONSTRAINT", "TRIGGER", "RULE", "POLICY"].iter().any(|word| self.is(on + 1, word)) {
            return self.qualified_after(self.find(on + 2, "ON")?);
        }
        self.qualified_after(if self.is(on + 1, "MATERIALIZED") || self.is(on + 1, "FOREIGN") {
            on + 2
        } else {
            on + 1
        })
    }

    /// The tables that a foreign key of this statement refers to.
    pub(super) fn referred(&self) -> Option<String> {
        self.qualified_after(self.find(1, "REFERENCES")?)
    }

    /// The name of the constraint that ALTER TABLE adds.
    pub(super) fn constraint(&self) -> Option<String> {
        let at = self.find(1, "CONSTRAINT")?;
        self.is(at - 1, "ADD").then(|| self.name(at + 1)).flatten()
    }

    /// The index that CREATE INDEX makes, or ALTER TABLE ... ADD CONSTRAINT: it has its table's schema.
    pub(super) fn index(&self) -> Option<String> {
        let (table, name) = match self.constraint() {
            Some(name) => (self.find(1, "TABLE")?, name),
            None => (self.find(1, "ON")?, self.name(self.find(1, "INDEX")? + 1)?),
        };
        let at = table + 1;
        let schema = self.name(if self.is(at, "ONLY") { at + 1 } else { at })?;
        Some(qualified(&schema, &name))
    }

    /// Whether a constraint is not to be proved.
    pub(super) fn is_not_valid(&self) -> bool {
        let end = self.0.len();
        end > 3 && self.is(end - 3, "NOT") && self.is(end - 2, "VALID")
    }

    /// Whether a constraint holds for nobody (18).
    pub(super) fn is_not_enforced(&self) -> bool {
        self.find(1, "ENFORCED").is_some_and(|at| self.is(at - 1, "NOT"))
    }

    /// The table of an ALTER TABLE as the statement itself writes it, without ONLY.
    pub(super) fn subject_for_sql(&self) -> Option<String> {
        let at = self.find(1, "TABLE")? + 1;
        let at = if self.is(at, "ONLY") { at + 1 } else { at };
        let (schema, name) = (self.name(at)?, self.name(at + 2)?);
        Some(format!("{}.{}", quote_identifier(&schema), quote_identifier(&name)))
    }

    /// Parent and partition of ALTER TABLE ... ATTACH PARTITION.
    pub(super) fn attached(&self) -> Option<(String, String)> {
        let at = self.find(1, "ATTACH")?;
        Some((self.subject()?, self.qualified_after(at + 1)?))
    }

    /// The tables that CREATE TABLE ... INHERITS names.
    pub(super) fn parents(&self) -> Vec<String> {
        let Some(at) = self.find(1, "INHERITS") else { return Vec::new() };
        (at + 1..self.0.len()).filter(|at| !self.is_sign(at - 1, b'.')).filter_map(|at| self.qualified(at)).collect()
    }

    /// The table that ALTER SEQUENCE ... OWNED BY names.
    pub(super) fn owned_by(&self) -> Option<String> {
        let at = self.find(1, "OWNED")?;
        self.qualified(at + 2)
    }

    /// `GRANT a TO b` alone, with the right to pass it on.
    pub(super) fn membership(&self) -> Option<String> {
        let to = self.find(1, "TO")?;
        let text = |at: usize| self.0.get(at).map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned());
        let admin = self.find(to, "ADMIN").is_some_and(|at| self.is(at + 1, "OPTION") || self.is(at + 1, "TRUE"));
        let option = if admin { " WITH ADMIN OPTION" } else { "" };
        Some(format!("GRANT {} TO {}{option};", text(1)?, text(to + 1)?))
    }

    /// The name that an option such as `TABLESPACE = name` says.
    pub(super) fn value(&self, option: &str) -> Option<String> {
        let at = self.find(1, option)?;
        self.is_sign(at + 1, b'=').then(|| self.name(at + 2)).flatten()
    }

    /// Roles that a GRANT, a REVOKE, a change of owners, of default privileges or of a role in the database names.
    pub(super) fn roles(&self) -> Vec<String> {
        let after = |at: usize| {
            let mut found = Vec::new();
            let mut at = at + 1;
            while let Some(name) = self.name(at) {
                found.push(name);
                if !self.is_sign(at + 1, b',') {
                    break;
                }
                at += 2;
            }
            found
        };
        let mut roles = Vec::new();
        if self.starts_with(&["ALTER", "DEFAULT", "PRIVILEGES", "FOR", "ROLE"]) {
            roles.extend(after(4));
        }
        if self.starts_with(&["ALTER", "ROLE"]) {
            roles.extend(after(1));
        }
        if let Some(at) = self.find(1, "TO").or_else(|| self.find(1, "FROM")) {
            roles.extend(after(at));
        }
        roles.retain(|role| role != "PUBLIC");
        roles
    }
}

#[cfg(test)]
mod tests {
    use super::StatementWords;

    fn subject(sql: &str) -> Option<String> {
        StatementWords::of(sql.as_bytes()).subject()
    }

    #[test]
    fn what_statements_are_about() {
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
    fn parts_of_statements() {
        let words = |sql: &'static str| StatementWords::of(sql.as_bytes());
        let key = words("ALTER TABLE ONLY a.b ADD CONSTRAINT \"f k\" FOREIGN KEY (x) REFERENCES c.d(y) NOT VALID;");
        assert_eq!((key.referred().as_deref(), key.constraint().as_deref()), (Some("c.d"), Some("f k")));
        assert!(key.is_not_valid());
        assert_eq!(key.index().as_deref(), Some("a.\"f k\""));
        assert_eq!(words("CREATE UNIQUE INDEX i ON ONLY a.b USING btree (x);").index().as_deref(), Some("a.i"));
        let attach = words("ALTER TABLE ONLY a.b ATTACH PARTITION a.c FOR VALUES FROM (1) TO (2);");
        assert_eq!(attach.attached(), Some(("a.b".to_owned(), "a.c".to_owned())));
        assert_eq!(words("CREATE TABLE a.c (x int) INHERITS (a.b, a.\"q.\");").parents(), ["a.b", "a.\"q.\""]);
        assert_eq!(words("ALTER SEQUENCE a.s OWNED BY a.t.c;").owned_by().as_deref(), Some("a.t"));
        assert_eq!(words("GRANT SELECT ON TABLE a.b TO x,\"y z\" WITH GRANT OPTION;").roles(), ["x", "y z"]);
        assert_eq!(words("REVOKE ALL ON TABLE a.b FROM PUBLIC;").roles(), [""; 0]);
        assert_eq!(words("ALTER FUNCTION a.f(x integer) OWNER TO \"o p\";").roles(), ["o p"]);
        let database = words("CREATE DATABASE a WITH ENCODING = 'UTF8' TABLESPACE = \"Fast\";");
        assert_eq!((database.value("TABLESPACE").as_deref(), database.value("ENCODING")), (Some("Fast"), None));
        assert_eq!(
            words("ALTER DEFAULT PRIVILEGES FOR ROLE x IN SCHEMA a GRANT SELECT ON TABLES TO y;").roles(),
            ["x", "y"]
        );
        assert_eq!(words("ALTER ROLE x IN DATABASE d SET search_path TO 'a';").roles(), ["x"]);
    }
}
