//! Splits the plain text of `pg_dump` and `pg_dumpall` into statements, each with the entry from the comment above it
//! (`-- Name: ...; Type: ...; Schema: ...; Owner: ...`). Ends statements where psql would.
//!
//! The concatenated pieces equal the text. Rows (COPY from standard input) are refused.

use thiserror::Error;

use crate::engine::postgres::schema::lex::{Backslashes, TokenKind, Tokens, token};

/// The text is not a dump of a schema.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SplitError {
    /// The text ends inside the statement that begins at this byte offset.
    #[error("the dump ends inside the statement that begins at byte {at}")]
    Open { at: usize },
    /// A COPY statement with rows, at this byte offset.
    #[error("the dump contains rows at byte {at}")]
    Rows { at: usize },
}

/// A piece of a dump.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DumpPiece<'a> {
    pub kind: PieceKind,
    pub text: &'a [u8],
}

/// The kind of a piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PieceKind {
    /// Space and comments.
    Between,
    /// A psql meta-command (`\restrict`, `\connect`).
    Meta,
    /// A statement, including its semicolon.
    Statement(Option<DumpEntry>),
}

/// The entry in the comment above a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DumpEntry {
    pub name: Vec<u8>,
    /// `TABLE`, `FK CONSTRAINT`, `ACL` and so on.
    pub class: String,
    /// None for objects that belong to no schema.
    pub schema: Option<Vec<u8>>,
}

/// Splits a dump.
/// Fails if a statement has no end, or is a COPY with rows.
pub fn split(text: &[u8]) -> Result<Vec<DumpPiece<'_>>, SplitError> {
    let mut splitter = Splitter { text, at: 0, backslashes: Backslashes::Literal, entry: None };
    let mut pieces = Vec::new();
    while splitter.at < text.len() {
        pieces.push(splitter.piece()?);
    }
    Ok(pieces)
}

struct Splitter<'a> {
    text: &'a [u8],
    at: usize,
    backslashes: Backslashes,
    /// The last entry seen. It applies to all statements until the next one.
    entry: Option<DumpEntry>,
}

impl<'a> Splitter<'a> {
    fn piece(&mut self) -> Result<DumpPiece<'a>, SplitError> {
        let start = self.at;
        let kind = self.take_piece()?;
        Ok(DumpPiece { kind, text: &self.text[start..self.at] })
    }

    fn take_piece(&mut self) -> Result<PieceKind, SplitError> {
        match token(&self.text[self.at..], self.backslashes).0 {
            TokenKind::Space | TokenKind::Comment => {
                self.between();
                Ok(PieceKind::Between)
            }
            TokenKind::Sign(b'\\') => {
                self.skip_line();
                Ok(PieceKind::Meta)
            }
            _ => {
                self.statement()?;
                Ok(PieceKind::Statement(self.entry.clone()))
            }
        }
    }

    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }

    /// Consumes the next token.
    fn next_token(&mut self) -> (TokenKind, &'a [u8]) {
        let rest = &self.text[self.at..];
        let (kind, len) = token(rest, self.backslashes);
        self.at += len;
        (kind, &rest[..len])
    }

    fn between(&mut self) {
        let start = self.at;
        while let Some(len) = self.space_or_comment() {
            self.at += len;
        }
        self.read_headings(&self.text[start..self.at]);
    }

    /// The length of the next token, if it is space or a comment.
    fn space_or_comment(&self) -> Option<usize> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let (kind, len) = token(rest, self.backslashes);
        matches!(kind, TokenKind::Space | TokenKind::Comment).then_some(len)
    }

    /// A heading consists of an empty comment, one comment line and another empty comment.
    fn read_headings(&mut self, comments: &[u8]) {
        let lines: Vec<&[u8]> = comments.split(|&byte| byte == b'\n').collect();
        for window in lines.windows(3) {
            let &[b"--", line, b"--"] = window else { continue };
            if let Some(heading) = line.strip_prefix(b"-- ") {
                self.entry = parse_entry(heading);
            }
        }
    }

    fn statement(&mut self) -> Result<(), SplitError> {
        let start = self.at;
        let mut body = BodyDepth::default();
        while self.at < self.text.len() {
            let (kind, bytes) = self.next_token();
            match kind {
                TokenKind::Sign(b';') if body.is_closed() => return self.end_statement(start),
                TokenKind::Space | TokenKind::Comment => {}
                _ => body.track(kind, bytes),
            }
        }
        Err(SplitError::Open { at: start })
    }

    fn end_statement(&mut self, start: usize) -> Result<(), SplitError> {
        let statement = &self.text[start..self.at];
        if is_copy_from_stdin(statement) {
            return Err(SplitError::Rows { at: start });
        }
        self.apply_setting(statement);
        Ok(())
    }

    /// SET standard_conforming_strings determines how later strings are read.
    fn apply_setting(&mut self, statement: &[u8]) {
        let words: Vec<&[u8]> = Tokens::new(statement).take(4).map(|(_, _, bytes)| bytes).collect();
        if let [b"SET", b"standard_conforming_strings", b"=", value] = words[..] {
            self.backslashes = match value {
                b"off" => Backslashes::Escape,
                _ => Backslashes::Literal,
            };
        }
    }
}

/// How deeply the current token is nested in parentheses and in an SQL-standard function body.
#[derive(Default)]
struct BodyDepth {
    parentheses: usize,
    /// Open `BEGIN ATOMIC` blocks and `CASE` expressions.
    blocks: usize,
    /// Tokens so far, without space and comments.
    tokens: usize,
    /// Whether the statement begins with CREATE.
    creates: bool,
    /// Whether OR REPLACE has been seen.
    replaces: bool,
    /// Whether the statement creates a function or procedure.
    routine: bool,
    /// Whether the previous token is BEGIN, outside of parentheses and not part of a name.
    after_begin: bool,
    after_dot: bool,
}

impl BodyDepth {
    fn is_closed(&self) -> bool {
        self.parentheses == 0 && self.blocks == 0
    }

    /// Updates the depth with the statement's next token.
    fn track(&mut self, kind: TokenKind, bytes: &[u8]) {
        self.tokens += 1;
        if kind == TokenKind::Word {
            self.track_beginning(bytes);
        }
        let is_part_of_name = std::mem::replace(&mut self.after_dot, kind == TokenKind::Sign(b'.'));
        let after_begin = std::mem::take(&mut self.after_begin);
        match kind {
            TokenKind::Sign(b'(') => self.parentheses += 1,
            TokenKind::Sign(b')') => self.parentheses = self.parentheses.saturating_sub(1),
            TokenKind::Word if self.routine && !is_part_of_name => self.track_block(bytes, after_begin),
            _ => {}
        }
    }

    /// Detects CREATE [OR REPLACE] FUNCTION or PROCEDURE. Elsewhere these words may be names.
    fn track_beginning(&mut self, word: &[u8]) {
        self.creates |= self.tokens == 1 && word.eq_ignore_ascii_case(b"create");
        self.replaces |= self.creates && self.tokens == 3 && word.eq_ignore_ascii_case(b"replace");
        let may_name_class = self.tokens == 2 || self.tokens == 4 && self.replaces;
        self.routine |= self.creates && may_name_class && is_routine_class(word);
    }

    fn track_block(&mut self, word: &[u8], after_begin: bool) {
        if self.blocks == 0 {
            // Inside parentheses it is the name of a parameter.
            self.after_begin = self.parentheses == 0 && word.eq_ignore_ascii_case(b"begin");
            self.blocks += usize::from(after_begin && word.eq_ignore_ascii_case(b"atomic"));
        } else if word.eq_ignore_ascii_case(b"case") {
            self.blocks += 1;
        } else if word.eq_ignore_ascii_case(b"end") {
            self.blocks -= 1;
        }
    }
}

fn is_routine_class(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"function") || word.eq_ignore_ascii_case(b"procedure")
}

fn is_copy_from_stdin(statement: &[u8]) -> bool {
    let mut words = Tokens::new(statement).map(|(_, _, bytes)| bytes);
    words.next().is_some_and(|first| first.eq_ignore_ascii_case(b"copy"))
        && words.any(|word| word.eq_ignore_ascii_case(b"stdin"))
}

const TYPE: &[u8] = b"; Type: ";
const SCHEMA: &[u8] = b"; Schema: ";
const OWNER: &[u8] = b"; Owner: ";

/// Parses `Name: ...; Type: ...; Schema: ...; Owner: ...`. Names contain no line breaks, but may contain any of these
/// labels. The name comes first, so the last position where the whole pattern matches is used.
fn parse_entry(heading: &[u8]) -> Option<DumpEntry> {
    let rest = heading.strip_prefix(b"Name: ")?;
    let starts = (0..rest.len()).rev().filter(|&at| rest[at..].starts_with(TYPE));
    starts.into_iter().find_map(|at| entry_with_name(&rest[..at], &rest[at + TYPE.len()..]))
}

/// `rest` is what follows `; Type: `.
fn entry_with_name(name: &[u8], rest: &[u8]) -> Option<DumpEntry> {
    let class_len = rest.iter().position(|&byte| !is_class_byte(byte))?;
    let (class, rest) = rest.split_at(class_len);
    let rest = rest.strip_prefix(SCHEMA)?;
    let schema_len = (0..rest.len()).rev().find(|&at| rest[at..].starts_with(OWNER))?;
    let schema = schema_named(&rest[..schema_len]);
    let class = String::from_utf8(class.to_vec()).ok()?;
    Some(DumpEntry { name: name.to_vec(), class, schema })
}

fn schema_named(name: &[u8]) -> Option<Vec<u8>> {
    match name {
        b"" | b"-" => None,
        name => Some(name.to_vec()),
    }
}

fn is_class_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b' '
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn statements(text: &str) -> Vec<&str> {
        let pieces = split(text.as_bytes()).unwrap();
        assert_eq!(pieces.iter().flat_map(|piece| piece.text).copied().collect::<Vec<_>>(), text.as_bytes());
        let statements = pieces.into_iter().filter(|piece| matches!(piece.kind, PieceKind::Statement(_)));
        statements.map(|piece| std::str::from_utf8(piece.text).unwrap()).collect()
    }

    fn entries(text: &str) -> Vec<(String, String, Option<String>)> {
        let pieces = split(text.as_bytes()).unwrap();
        let string = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let entries = pieces.into_iter().filter_map(|piece| match piece.kind {
            PieceKind::Statement(Some(entry)) => Some((string(entry.name), entry.class, entry.schema.map(string))),
            _ => None,
        });
        entries.collect()
    }

    fn entry(name: &str, class: &str, schema: Option<&str>) -> (String, String, Option<String>) {
        (name.to_owned(), class.to_owned(), schema.map(str::to_owned))
    }

    #[test]
    fn statements_have_the_entry_above_them() {
        let text = "--\n-- PostgreSQL database dump\n--\n\n\\restrict a'b\n\nSET x = 1;\n\n--\n-- Name: users; Type: TABLE; Schema: public; Owner: app\n--\n\n\
                    CREATE TABLE public.users (\n    a text DEFAULT ';--'\n);\n\n\nALTER TABLE public.users OWNER TO app;\n\n--\n-- Name: public; Type: SCHEMA; Schema: -; Owner: \n--\n\nCREATE SCHEMA public;\n\n\\unrestrict a'b\n\n";
        assert_eq!(statements(text).len(), 4);
        let table = entry("users", "TABLE", Some("public"));
        assert_eq!(entries(text), [table.clone(), table, entry("public", "SCHEMA", None)]);
    }

    #[test]
    fn names_may_look_like_entries() {
        let line = |text: &str| entries(&format!("--\n-- {text}\n--\n\nSELECT 1;\n")).pop();
        let nasty = "-- Name: x; Type: TABLE; Schema: y; Owner: z";
        assert_eq!(
            line(&format!("Name: {nasty}; Type: FK CONSTRAINT; Schema: s; Owner: o")),
            Some(entry(nasty, "FK CONSTRAINT", Some("s")))
        );
        assert_eq!(
            line("Name: a; Type: b; Type: TYPE; Schema: s; t; Owner: o"),
            Some(entry("a; Type: b", "TYPE", Some("s; t")))
        );
        assert_eq!(
            line("Name: t; Type: TABLE; Schema: s; Owner: o; Tablespace: x"),
            Some(entry("t", "TABLE", Some("s")))
        );
        let long = &format!("{};", "ж".repeat(31));
        assert_eq!(long.len(), 63);
        assert_eq!(line(&format!("Name: {long}; Type: TABLE; Schema: -; Owner: -")), Some(entry(long, "TABLE", None)));
        assert_eq!(line("Roles"), None);
        // A heading inside a string is not an entry.
        let text = "COMMENT ON TABLE x IS '\n--\n-- Name: a; Type: TABLE; Schema: b; Owner: c\n--\n;';\nSELECT 1;\n";
        assert_eq!((statements(text).len(), entries(text)), (2, vec![]));
    }

    #[test]
    fn quoted_semicolons_do_not_end_a_statement() {
        let text = "SELECT $$;$$; COMMENT ON x IS $c$ $$; $_ -- '\n;$c$;SELECT \";\"; SELECT E'\\';', '\\', $1;/* ; /* ; */ */ SELECT a$b$;SELECT 2;";
        assert_eq!(statements(text).len(), 6);
    }

    #[test]
    fn the_setting_for_backslashes_is_followed() {
        let escaped = r"SELECT '\';'; SELECT '\\';";
        assert_eq!(statements(&format!("SET standard_conforming_strings = off;\n{escaped}\n")).len(), 3);
        assert!(split(format!("SET standard_conforming_strings = on;\n{escaped}\n").as_bytes()).is_err());
    }

    #[test]
    fn semicolons_in_unquoted_bodies_do_not_end_a_statement() {
        let body = "CREATE FUNCTION f(begin integer, x \"end\") RETURNS app.begin\n    LANGUAGE sql\n    BEGIN ATOMIC\n SELECT 1;\n SELECT CASE WHEN (1 > 0) THEN CASE x WHEN 1 THEN 2 END ELSE 3 END AS \"end\";\nEND;";
        assert_eq!(statements(&format!("{body}\nSELECT 1;\n")), [body, "SELECT 1;"]);
        let procedure = "CREATE OR REPLACE PROCEDURE p(INOUT a integer)\n BEGIN ATOMIC\nEND;";
        assert_eq!(statements(&format!("{procedure}\nSELECT 1;")), [procedure, "SELECT 1;"]);
        assert_eq!(statements("CREATE VIEW function.v AS SELECT a begin atomic; SELECT 1;").len(), 2);
        assert_eq!(statements("CREATE TABLE begin (atomic int); BEGIN; SELECT CASE WHEN a THEN b END; END;").len(), 4);
        assert_eq!(
            statements("CREATE RULE r AS ON INSERT TO t DO (INSERT INTO a VALUES (';'); NOTIFY b; );\nSELECT 1;").len(),
            2
        );
    }

    #[test]
    fn incomplete_statements_and_rows_are_refused() {
        assert_eq!(split(b"SELECT 1;\nSELECT 'x"), Err(SplitError::Open { at: 10 }));
        assert_eq!(split(b"COPY a.b (c) FROM stdin;\n1\n\\.\n"), Err(SplitError::Rows { at: 0 }));
        assert_eq!(split(b"CREATE FUNCTION f() BEGIN ATOMIC SELECT 1;"), Err(SplitError::Open { at: 0 }));
        assert_eq!(statements(""), [""; 0]);
        assert_eq!(statements("\\restrict x"), [""; 0]);
    }

    fn literal() -> impl Strategy<Value = String> {
        let inside = "[a-z;'\"$\\\\\n \\-/*é()]{0,20}";
        prop_oneof![
            inside.prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
            inside.prop_map(|text| format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))),
            inside.prop_map(|text| format!("\"{}\"", text.replace('"', "\"\""))),
            inside.prop_map(|text| format!("$q_$ {text} $q_$")),
            "[a-z;'\"$\n ]{0,20}".prop_map(|text| format!("/* {text} /* ; */ */")),
            "[a-z;'\"$ ]{0,20}".prop_map(|text| format!("-- {text}\n")),
            "[a-z]{1,5}".prop_map(|word| word),
            Just("($1, x$y$)".to_owned()),
        ]
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn statements_end_where_they_were_joined(
            all in proptest::collection::vec(proptest::collection::vec(literal(), 0..6), 0..6),
        ) {
            let all: Vec<String> = all.iter().map(|parts| format!("SELECT {};", parts.join(" "))).collect();
            let text = all.join("\n--\n-- Name: x; Type: TABLE; Schema: y; Owner: z\n--\n");
            prop_assert_eq!(statements(&text), all);
        }

        #[test]
        fn any_bytes_are_reproduced_or_refused(text in proptest::collection::vec(prop_oneof![proptest::sample::select(&b"'\"$-/*\\;aE \n\xc3()"[..]), any::<u8>()], 0..80)) {
            if let Ok(pieces) = split(&text) {
                prop_assert_eq!(pieces.iter().flat_map(|piece| piece.text).copied().collect::<Vec<_>>(), text);
            }
        }
    }
}
