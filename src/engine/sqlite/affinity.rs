//! How the declared type of a column changes values stored in it. A value stored under the same type never changes. If
//! the type was changed later by editing `sqlite_schema`, a restore may change values, and must report it.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;

use crate::engine::sqlite::sql::{TextEncoding, lossy_text, query_all, valid_names};
use crate::format::affinity::{Affinity, numeric_text};
use crate::format::cell::{Cell, Encoding};

/// Column affinity, as in "Type Affinity" of SQLite's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ColumnAffinity {
    Blob,
    Text,
    Numeric,
    Integer,
    Real,
}

impl ColumnAffinity {
    /// The rules of "Determination Of Column Affinity" in the same document.
    pub(super) fn of_declared(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        if contains_any(&declared, &["INT"]) {
            Self::Integer
        } else if contains_any(&declared, &["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if declared.is_empty() || contains_any(&declared, &["BLOB"]) {
            Self::Blob
        } else if contains_any(&declared, &["REAL", "FLOA", "DOUB"]) {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// A declared type with this affinity.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Blob => "BLOB",
            Self::Text => "TEXT",
            Self::Numeric => "NUMERIC",
            Self::Integer => "INTEGER",
            Self::Real => "REAL",
        }
    }

    /// How values that refer to a column are converted.
    pub(super) fn of_references(self) -> Affinity {
        match self {
            Self::Blob => Affinity::None,
            Self::Text => Affinity::Text,
            Self::Numeric | Self::Integer | Self::Real => Affinity::Numeric,
        }
    }

    /// Whether storing a value in a column of a database with this encoding changes its type or value.
    pub(super) fn alters(self, cell: &Cell<'_>, encoding: TextEncoding) -> Alters {
        if self.changes(cell, encoding) { Alters::Yes } else { Alters::No }
    }

    fn changes(self, cell: &Cell<'_>, encoding: TextEncoding) -> bool {
        match (self, cell) {
            (Self::Text, Cell::Integer(_) | Cell::Real(_)) => true,
            (Self::Real, Cell::Integer(_)) => true,
            (Self::Integer | Self::Numeric, Cell::Real(value)) => is_integer(*value),
            (Self::Integer | Self::Numeric | Self::Real, _) => is_numeric_text(cell, encoding),
            _ => false,
        }
    }
}

fn contains_any(text: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| text.contains(part))
}

/// Whether SQLite considers a value to be text that is a number.
fn is_numeric_text(cell: &Cell<'_>, encoding: TextEncoding) -> bool {
    match cell {
        Cell::Text(text) => looks_numeric(text) && (encoding == TextEncoding::Utf8 || is_latin1(text)),
        // Invalid UTF-16 contains a surrogate, so it is not a number.
        Cell::Encoded(Encoding::Utf8Invalid, bytes) => looks_numeric(&String::from_utf8_lossy(bytes)),
        _ => false,
    }
}

/// To SQLite, UTF-16 text with any other character is not a number, even if the character comes after a NUL.
fn is_latin1(text: &str) -> bool {
    text.chars().all(|c| u32::from(c) < 0x100)
}

/// Whether storing a value changes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alters {
    Yes,
    No,
}

/// The strict tables of a database.
#[derive(Default)]
pub(super) struct StrictTables(HashSet<String>);

impl StrictTables {
    /// Reads all of them at once: each time, SQLite lists all tables.
    /// Fails if SQLite cannot list the tables.
    pub(super) fn read(conn: &Connection) -> rusqlite::Result<Self> {
        let names = valid_names::<Vec<_>>(conn, "SELECT name FROM pragma_table_list WHERE schema = 'main' AND strict")?;
        Ok(Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect()))
    }

    /// The affinity of a column of a table with this declared type.
    pub(super) fn affinity(&self, table: &str, declared: &str) -> ColumnAffinity {
        of_column(Some(declared), self.has(table))
    }

    fn has(&self, table: &str) -> bool {
        self.0.contains(&table.to_ascii_lowercase())
    }
}

/// The affinities of the named columns of a table, `Blob` for columns that it does not have.
/// Fails if SQLite cannot read the table's definition.
pub(super) fn of_columns(
    conn: &Connection,
    strict: &StrictTables,
    table: &str,
    names: &[&str],
) -> rusqlite::Result<Vec<ColumnAffinity>> {
    let is_strict = strict.has(table);
    let types = declared_types(conn, table)?;
    let affinity = |name: &&str| of_column(types.get(*name).map(String::as_str), is_strict);
    Ok(names.iter().map(affinity).collect())
}

fn of_column(declared: Option<&str>, is_strict: bool) -> ColumnAffinity {
    match declared {
        Some(declared) if !is_strict || !declared.eq_ignore_ascii_case("ANY") => ColumnAffinity::of_declared(declared),
        _ => ColumnAffinity::Blob,
    }
}

/// The declared types of a table's columns, by name.
fn declared_types(conn: &Connection, table: &str) -> rusqlite::Result<HashMap<String, String>> {
    let sql = "SELECT name, type FROM pragma_table_xinfo(?1, 'main')";
    query_all(conn, sql, [table], |row| {
        let text = |column| Ok::<_, rusqlite::Error>(lossy_text(row.get_ref(column)?).unwrap_or_default());
        Ok((text(0)?, text(1)?))
    })
}

/// Whether SQLite would store a real as an integer.
fn is_integer(value: f64) -> bool {
    // Both bounds are exact. At and beyond them SQLite keeps the real.
    let bound = 9_223_372_036_854_775_808.0;
    value.trunc() == value && -bound < value && value < bound
}

/// Whether a text is a decimal number, apart from surrounding blanks. SQLite reads only up to the first NUL. Older
/// versions read on, so numeric columns may contain such text.
fn looks_numeric(text: &str) -> bool {
    numeric_text(text.split('\0').next().unwrap_or_default()).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;
    use rusqlite::types::ValueRef;

    use super::{Alters, ColumnAffinity};
    use crate::engine::sqlite::sql::{TextEncoding, cell_of};
    use crate::format::cell::{Cell, Encoding, OwnedCell};

    /// The value that SQLite stores in a column.
    fn stored(conn: &Connection, affinity: ColumnAffinity, cell: &Cell<'_>) -> OwnedCell {
        let value = match *cell {
            Cell::Integer(value) => ValueRef::Integer(value),
            Cell::Real(value) => ValueRef::Real(value),
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
            Cell::Encoded(_, bytes) => ValueRef::Text(bytes),
            _ => ValueRef::Null,
        };
        let sql = format!("INSERT INTO t({}) VALUES(?1) RETURNING {}", affinity.name(), affinity.name());
        let mut statement = conn.prepare_cached(&sql).expect("an insert");
        statement.raw_bind_parameter(1, rusqlite::types::ToSqlOutput::Borrowed(value)).expect("bind");
        let mut rows = statement.raw_query();
        let row = rows.next().expect("a row").expect("a row");
        OwnedCell::new(&cell_of(row.get_ref(0).expect("a value")))
    }

    fn agrees(conn: &Connection, cell: &Cell<'_>) {
        let encoding = TextEncoding::of(conn).expect("an encoding");
        for affinity in [
            ColumnAffinity::Blob,
            ColumnAffinity::Text,
            ColumnAffinity::Numeric,
            ColumnAffinity::Integer,
            ColumnAffinity::Real,
        ] {
            let changed = stored(conn, affinity, cell) != OwnedCell::new(cell);
            assert_eq!(affinity.alters(cell, encoding) == Alters::Yes, changed, "{affinity:?} {cell:?}");
        }
    }

    fn columns(encoding: &str) -> Connection {
        let conn = Connection::open_in_memory().expect("a database");
        conn.execute_batch(&format!("PRAGMA encoding='{encoding}'")).expect("a setting");
        conn.execute_batch("CREATE TABLE t(BLOB BLOB, TEXT TEXT, NUMERIC NUMERIC, INTEGER INTEGER, REAL REAL)")
            .expect("a table");
        conn
    }

    #[test]
    fn unusual_texts_and_reals_are_altered_as_by_sqlite() {
        let texts = [
            "",
            " ",
            "5",
            " 5",
            "5 ",
            "5.",
            ".5",
            ".",
            "+5",
            "--5",
            "1e5",
            "1e",
            "1e+",
            "e5",
            "0x10",
            "5a",
            "5\0",
            "5\0a",
            "5\0\u{100}",
            "5\0\u{ff}",
            "5\0\u{1f600}",
            "\x005",
            "5 \0 ",
            "\0",
            "5\u{a0}",
            "\u{a0}5",
            "Inf",
            "1e999",
            "99999999999999999999",
            "5\u{100}",
            "\u{135}",
        ];
        let bound = 9_223_372_036_854_775_808.0;
        let reals = [5.0, -5.0, 0.5, 9.3e18, bound, -bound, 9.2e18, f64::INFINITY, 1e15, 0.0];
        for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
            let conn = columns(encoding);
            reals.iter().for_each(|real| agrees(&conn, &Cell::Real(*real)));
            if encoding == "UTF-8" {
                for bytes in [&b"5\0\xff"[..], b"5\xff", b"\xff", b"5 \0\xff"] {
                    agrees(&conn, &Cell::Encoded(Encoding::Utf8Invalid, bytes));
                }
            }
            texts.iter().for_each(|text| agrees(&conn, &Cell::Text(text)));
            agrees(&conn, &Cell::Integer(i64::MIN));
        }
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn arbitrary_values_are_altered_as_by_sqlite(text in "[ \t0-9.eE+-]{0,9}", bits in any::<u64>(), quarter in -100_i32..100) {
            let conn = columns("UTF-8");
            agrees(&conn, &Cell::Text(&text));
            let real = f64::from_bits(bits);
            if !real.is_nan() {
                agrees(&conn, &Cell::Real(real));
            }
            agrees(&conn, &Cell::Real(f64::from(quarter) / 4.0));
            agrees(&conn, &Cell::Integer(i64::from(quarter)));
        }
    }
}
