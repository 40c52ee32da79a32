//! A PostgreSQL snapshot as an SQLite database: the rows of its tables with their keys. Types become affinities, and
//! values of types that SQLite lacks ISO texts. Views, indexes, constraints and functions stay behind.

use std::collections::{HashMap, HashSet};

use crate::engine::contract::{SourceError, TargetTable};
use crate::engine::files::plain;
use crate::engine::postgres::restore::{Declared, declared_types};
use crate::engine::sqlite::schema::stand_in;
use crate::engine::sqlite::sql::{failed, quoted};
use crate::format::cell::Cell;

/// The tables as SQLite has them, and the document that makes them.
pub(super) fn tables(schema: &[u8], tables: &[TargetTable]) -> Result<(Vec<TargetTable>, Vec<u8>), SourceError> {
    let types = declared_types(schema).map_err(|error| failed("read the schema of the snapshot", error.to_string()))?;
    let mut shorts: HashMap<String, usize> = HashMap::new();
    for table in tables {
        *shorts.entry(short(&table.name).to_lowercase()).or_default() += 1;
    }
    let none = HashMap::new();
    let (mut renamed, mut definitions) = (Vec::new(), Vec::new());
    for table in tables {
        let own = types.get(&table.name).unwrap_or(&none);
        let declared = table.columns.iter().map(|column| own.get(&column.name).copied());
        let declared: Vec<Option<Declared>> = declared.collect();
        let short = short(&table.name);
        let is_free = shorts.get(&short.to_lowercase()) == Some(&1) && !short.to_lowercase().starts_with("sqlite_");
        let name = if is_free { short } else { table.name.clone() };
        let table = TargetTable { name, ..told_apart(table) };
        definitions.push((table.name.clone(), definition(&table, &declared)));
        renamed.push(table);
    }
    Ok((renamed, stand_in(definitions)))
}

/// The name without its schema.
fn short(name: &str) -> String {
    let (mut inside, mut start) = (false, 0);
    for (at, c) in name.char_indices() {
        match c {
            '"' => inside = !inside,
            '.' if !inside => start = at + 1,
            _ => {}
        }
    }
    let part = &name[start..];
    match part.strip_prefix('"').and_then(|part| part.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => part.to_owned(),
    }
}

/// The same table; columns whose names differ in the case of letters only get a number.
fn told_apart(table: &TargetTable) -> TargetTable {
    let mut table = table.clone();
    let mut taken = HashSet::new();
    for column in &mut table.columns {
        let (plain, mut number) = (column.name.clone(), 2);
        while !taken.insert(column.name.to_lowercase()) {
            column.name = format!("{plain}_{number}");
            number += 1;
        }
    }
    table
}

fn definition(table: &TargetTable, declared: &[Option<Declared>]) -> String {
    let affinity = |declared: &Option<Declared>| match declared {
        Some(Declared::Bool) => "BOOLEAN",
        Some(Declared::Integer) => "INTEGER",
        Some(Declared::Real) => "REAL",
        Some(Declared::Bytes) => "BLOB",
        Some(Declared::Text) => "TEXT",
        // Such as a column that the table inherits: values stay as they are.
        Some(Declared::Other) | None => "BLOB",
    };
    let columns = table.columns.iter().zip(declared);
    let columns = columns.map(|(column, declared)| format!("{} {}", quoted(&column.name), affinity(declared)));
    let mut parts: Vec<String> = columns.collect();
    let key: Vec<String> = table.key.iter().map(|&at| quoted(&table.columns[at].name)).collect();
    if !key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    format!("CREATE TABLE {} ({})", quoted(&table.name), parts.join(", "))
}

/// A value that SQLite has, in place of one that it lacks; None: it has this one.
pub(super) fn value(cell: &Cell<'_>) -> Option<ReplacedValue> {
    match *cell {
        Cell::Null | Cell::Absent | Cell::Integer(_) | Cell::Text(_) | Cell::Bytes(_) => None,
        Cell::Bool(value) => Some(ReplacedValue::Integer(i64::from(value))),
        // SQLite takes it for NULL.
        Cell::Real(value) if value.is_nan() => Some(ReplacedValue::Text("NaN".to_owned())),
        Cell::Real(_) => None,
        Cell::Real32(value) if value.is_nan() => Some(ReplacedValue::Text("NaN".to_owned())),
        Cell::Real32(value) => Some(ReplacedValue::Real(f64::from(value))),
        Cell::Encoded(_, bytes) | Cell::Output(bytes) => Some(match std::str::from_utf8(bytes) {
            Ok(text) => ReplacedValue::Text(text.to_owned()),
            Err(_) => ReplacedValue::Bytes(bytes.to_vec()),
        }),
        Cell::TimeZoned(time, west) => {
            let (sign, east) = (if west > 0 { '-' } else { '+' }, west.unsigned_abs());
            let zone = format!("{sign}{:02}:{:02}:{:02}", east / 3600, east / 60 % 60, east % 60);
            Some(ReplacedValue::Text(plain(&Cell::Time(time)).unwrap_or_default() + zone.trim_end_matches(":00")))
        }
        Cell::Interval { months, days, microseconds } => {
            let (sign, rest) = (if microseconds < 0 { "-" } else { "" }, microseconds.unsigned_abs());
            let seconds = format!("{sign}{}.{:06}", rest / 1_000_000, rest % 1_000_000);
            Some(ReplacedValue::Text(format!("P{months}M{days}DT{seconds}S")))
        }
        Cell::Numeric(_) | Cell::Timestamp(_) | Cell::Date(_) | Cell::Time(_) | Cell::Uuid(_) => {
            plain(cell).map(ReplacedValue::Text)
        }
        Cell::Stream(..) => None,
    }
}

/// A value in the place of another.
pub(super) enum ReplacedValue {
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl ReplacedValue {
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
    use super::{short, value};
    use crate::format::cell::Cell;

    #[test]
    fn names_lose_their_schema() {
        for (name, expected) in [("public.users", "users"), ("\"a.b\".\"C\"\"d.e\"", "C\"d.e"), ("plain", "plain")] {
            assert_eq!(short(name), expected);
        }
    }

    #[test]
    fn what_sqlite_lacks_is_text() {
        let text = |cell: &Cell<'_>| match value(cell).expect("another").cell() {
            Cell::Text(text) => text.to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text(&Cell::Timestamp(0)), "2000-01-01T00:00:00.000000");
        assert_eq!(text(&Cell::TimeZoned(1, -19_800)), "00:00:00.000001+05:30");
        assert_eq!(text(&Cell::TimeZoned(0, 3_601)), "00:00:00.000000-01:00:01");
        let interval = Cell::Interval { months: 14, days: -3, microseconds: -1_500_000 };
        assert_eq!(text(&interval), "P14M-3DT-1.500000S");
        assert!(value(&Cell::Integer(1)).is_none());
    }
}
