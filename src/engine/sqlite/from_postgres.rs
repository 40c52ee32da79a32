//! A PostgreSQL snapshot as an SQLite database: the rows of its tables with their keys. Types become affinities.
//! Values of types that SQLite lacks become ISO text. Views, indexes, constraints and functions are not converted.

use std::collections::{HashMap, HashSet};

use crate::engine::contract::{EngineError, TargetTable};
use crate::engine::files::plain_text;
use crate::engine::postgres::schema::declared_types::{DeclaredType, types_in_document};
use crate::engine::sqlite::schema::{SqliteSchema, TableDefinition};
use crate::engine::sqlite::sql::{failed, quoted};
use crate::format::cell::Cell;

/// Declared types of a table's columns, by name.
type ColumnTypes = HashMap<String, DeclaredType>;

/// The tables under their SQLite names, and the document that creates them.
/// `schema` is the snapshot's schema document.
/// Fails if the document is damaged or needs a newer release.
pub(super) fn tables(schema: &[u8], tables: &[TargetTable]) -> Result<(Vec<TargetTable>, SqliteSchema), EngineError> {
    let types =
        types_in_document(schema).map_err(|error| failed("read the schema of the snapshot", error.to_string()))?;
    let renamed = rename_tables(tables);
    let definitions = tables.iter().zip(&renamed).map(|(table, renamed)| {
        let declared = declared_columns(table, types.get(&table.name));
        TableDefinition { name: renamed.name.clone(), sql: definition(renamed, &declared) }
    });
    let document = SqliteSchema::of_tables(definitions);
    Ok((renamed, document))
}

/// The tables with their names and column names in SQLite.
fn rename_tables(tables: &[TargetTable]) -> Vec<TargetTable> {
    let bare_names = count_bare_names(tables);
    let renamed = tables.iter().map(|table| {
        let name = table_name(&table.name, &bare_names);
        TargetTable { name, ..with_distinct_columns(table) }
    });
    renamed.collect()
}

fn declared_columns(table: &TargetTable, types: Option<&ColumnTypes>) -> Vec<Option<DeclaredType>> {
    let declared = |name: &str| types.and_then(|types| types.get(name)).copied();
    table.columns.iter().map(|column| declared(&column.name)).collect()
}

/// Counts the tables with the same unqualified name, in lower case.
fn count_bare_names(tables: &[TargetTable]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for table in tables {
        *counts.entry(bare_name(&table.name).to_lowercase()).or_default() += 1;
    }
    counts
}

/// The unqualified name, unless another table has the same one.
fn table_name(name: &str, bare_names: &HashMap<String, usize>) -> String {
    let bare = bare_name(name);
    let lower = bare.to_lowercase();
    let is_free = bare_names.get(&lower) == Some(&1) && !lower.starts_with("sqlite_");
    if is_free { bare } else { name.to_owned() }
}

/// The name without its schema.
fn bare_name(name: &str) -> String {
    let part = &name[bare_name_start(name)..];
    match part.strip_prefix('"').and_then(|part| part.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => part.to_owned(),
    }
}

/// The position after the last dot that is not in quotes.
fn bare_name_start(name: &str) -> usize {
    let mut is_quoted = false;
    let mut start = 0;
    for (at, c) in name.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => start = at + 1,
            _ => {}
        }
    }
    start
}

/// Adds numbers to column names that differ only in letter case.
fn with_distinct_columns(table: &TargetTable) -> TargetTable {
    let mut table = table.clone();
    let mut taken = HashSet::new();
    for column in &mut table.columns {
        column.name = distinct_name(&column.name, &mut taken).into();
    }
    table
}

fn distinct_name(name: &str, taken: &mut HashSet<String>) -> String {
    let mut distinct = name.to_owned();
    let mut number = 2;
    while !taken.insert(distinct.to_lowercase()) {
        distinct = format!("{name}_{number}");
        number += 1;
    }
    distinct
}

fn definition(table: &TargetTable, declared: &[Option<DeclaredType>]) -> String {
    let mut parts = Vec::new();
    for (column, declared) in table.columns.iter().zip(declared) {
        parts.push(format!("{} {}", quoted(&column.name), sqlite_type(*declared)));
    }
    parts.extend(primary_key(table));
    format!("CREATE TABLE {} ({})", quoted(&table.name), parts.join(", "))
}

fn primary_key(table: &TargetTable) -> Option<String> {
    let key: Vec<String> = table.key.iter().map(|&at| quoted(&table.columns[at].name)).collect();
    (!key.is_empty()).then(|| format!("PRIMARY KEY ({})", key.join(", ")))
}

fn sqlite_type(declared: Option<DeclaredType>) -> &'static str {
    match declared {
        Some(DeclaredType::Bool) => "BOOLEAN",
        Some(DeclaredType::Integer) => "INTEGER",
        Some(DeclaredType::Real) => "REAL",
        Some(DeclaredType::Bytes) => "BLOB",
        Some(DeclaredType::Text) => "TEXT",
        // For example a column that the table inherits. Values stay as they are.
        Some(DeclaredType::Other) | None => "BLOB",
    }
}

/// Replaces a value that SQLite does not support. `None` if it supports the value.
pub(super) fn replacement(cell: &Cell<'_>) -> Option<ReplacedValue> {
    match *cell {
        Cell::Null
        | Cell::Absent
        | Cell::Lost
        | Cell::Integer(_)
        | Cell::Text(_)
        | Cell::Bytes(_)
        | Cell::Stream(..) => None,
        Cell::Bool(value) => Some(ReplacedValue::Integer(i64::from(value))),
        Cell::Real(value) => value.is_nan().then(not_a_number),
        Cell::Real32(value) if value.is_nan() => Some(not_a_number()),
        Cell::Real32(value) => Some(ReplacedValue::Real(f64::from(value))),
        Cell::Encoded(_, bytes) | Cell::Output(bytes) => Some(text_or_bytes(bytes)),
        Cell::TimeZoned(time, west) => Some(ReplacedValue::Text(time_with_zone(time, west))),
        Cell::Interval { months, days, microseconds } => {
            Some(ReplacedValue::Text(format!("P{months}M{days}D{}", interval_time(microseconds))))
        }
        Cell::Numeric(_) | Cell::Timestamp(_) | Cell::Date(_) | Cell::Time(_) | Cell::Uuid(_) => {
            plain_text(cell).map(ReplacedValue::Text)
        }
    }
}

/// As text, because SQLite turns a NaN real into NULL.
fn not_a_number() -> ReplacedValue {
    ReplacedValue::Text("NaN".to_owned())
}

fn text_or_bytes(bytes: &[u8]) -> ReplacedValue {
    match std::str::from_utf8(bytes) {
        Ok(text) => ReplacedValue::Text(text.to_owned()),
        Err(_) => ReplacedValue::Bytes(bytes.to_vec()),
    }
}

/// `west`: seconds west of UTC.
fn time_with_zone(time: i64, west: i32) -> String {
    let zone = zone_text(west);
    plain_text(&Cell::Time(time)).unwrap_or_default() + zone.trim_end_matches(":00")
}

fn zone_text(west: i32) -> String {
    let sign = if west > 0 { '-' } else { '+' };
    let seconds = west.unsigned_abs();
    format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The part of an ISO 8601 interval below one day.
fn interval_time(microseconds: i64) -> String {
    let sign = if microseconds < 0 { "-" } else { "" };
    let rest = microseconds.unsigned_abs();
    format!("T{sign}{}.{:06}S", rest / 1_000_000, rest % 1_000_000)
}

/// The cells of a row, with replacements.
pub(super) fn replace_cells<'a>(cells: &[Cell<'a>], replaced: &'a [Option<ReplacedValue>]) -> Vec<Cell<'a>> {
    let pairs = replaced.iter().zip(cells);
    pairs.map(|(value, cell)| value.as_ref().map_or(*cell, ReplacedValue::cell)).collect()
}

/// A value that replaces another.
pub(super) enum ReplacedValue {
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl ReplacedValue {
    /// The value as a cell.
    pub(super) fn cell(&self) -> Cell<'_> {
        match self {
            Self::Integer(value) => Cell::Integer(*value),
            Self::Real(value) => Cell::Real(*value),
            Self::Text(text) => Cell::Text(text),
            Self::Bytes(bytes) => Cell::Bytes(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{bare_name, replacement};
    use crate::format::cell::Cell;

    #[test]
    fn the_schema_is_removed_from_names() {
        for (name, expected) in [("public.users", "users"), ("\"a.b\".\"C\"\"d.e\"", "C\"d.e"), ("plain", "plain")] {
            assert_eq!(bare_name(name), expected);
        }
    }

    #[test]
    fn values_that_sqlite_lacks_become_text() {
        let text = |cell: &Cell<'_>| match replacement(cell).expect("another").cell() {
            Cell::Text(text) => text.to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text(&Cell::Timestamp(0)), "2000-01-01T00:00:00.000000");
        assert_eq!(text(&Cell::TimeZoned(1, -19_800)), "00:00:00.000001+05:30");
        assert_eq!(text(&Cell::TimeZoned(0, 3_601)), "00:00:00.000000-01:00:01");
        let interval = Cell::Interval { months: 14, days: -3, microseconds: -1_500_000 };
        assert_eq!(text(&interval), "P14M-3DT-1.500000S");
        assert!(replacement(&Cell::Integer(1)).is_none());
    }
}
