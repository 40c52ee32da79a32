//! The foreign keys of a table, as SQLite lists them.

use std::collections::HashMap;

use rusqlite::{Connection, Row};

use crate::engine::contract::{ForeignKey, Strength, Table};
use crate::engine::sqlite::sql::{lossy_text, query_all};

/// One column of one foreign key, as the pragma lists it.
struct KeyLine {
    id: i64,
    parent: String,
    from: String,
    to: Option<String>,
    on_delete: String,
}

/// Tables by name, in any case.
pub(super) struct TablesByName<'t>(HashMap<String, &'t Table>);

impl<'t> TablesByName<'t> {
    /// Finds these tables.
    pub(super) fn new(tables: &'t [Table]) -> Self {
        // Reversed: the first of equal names counts.
        Self(tables.iter().rev().map(|table| (table.name.to_ascii_lowercase(), table)).collect())
    }

    fn get(&self, name: &str) -> Option<&'t Table> {
        self.0.get(&name.to_ascii_lowercase()).copied()
    }
}

/// The foreign keys of a table whose columns and parent are known, in the order of their definition.
/// Fails if SQLite cannot list them.
pub(super) fn foreign_keys(
    conn: &Connection,
    tables: &TablesByName<'_>,
    table: &Table,
) -> rusqlite::Result<Vec<ForeignKey>> {
    let lines = key_lines(conn, &table.name)?;
    let keys = lines.chunk_by(|a, b| a.id == b.id);
    let found = keys.filter_map(|lines| foreign_key(table, tables.get(&lines[0].parent)?, lines));
    let mut found: Vec<ForeignKey> = found.collect();
    // There may be 100,000 tables with one key each.
    found.shrink_to_fit();
    Ok(found)
}

impl KeyLine {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let text = |column| Ok::<_, rusqlite::Error>(lossy_text(row.get_ref(column)?));
        Ok(Self {
            id: row.get(0)?,
            parent: text(1)?.unwrap_or_default(),
            from: text(2)?.unwrap_or_default(),
            to: text(3)?,
            on_delete: row.get(4)?,
        })
    }
}

fn key_lines(conn: &Connection, table: &str) -> rusqlite::Result<Vec<KeyLine>> {
    let sql = "SELECT id, \"table\", \"from\", \"to\", on_delete FROM pragma_foreign_key_list(?1, 'main') ORDER BY id DESC, seq";
    query_all(conn, sql, [table], KeyLine::read)
}

fn foreign_key(table: &Table, parent: &Table, lines: &[KeyLine]) -> Option<ForeignKey> {
    let columns = positions(table, lines.iter().map(|line| line.from.as_str()))?;
    let parent_columns = parent_columns(parent, lines)?;
    if columns.len() != parent_columns.len() {
        return None;
    }
    Some(ForeignKey {
        columns,
        parent: parent.name.clone(),
        parent_columns: column_names(parent, &parent_columns),
        strength: strength_of(&lines[0].on_delete),
        parent_values: Vec::new(),
    })
}

fn column_names(table: &Table, positions: &[usize]) -> Vec<String> {
    positions.iter().map(|at| table.columns[*at].name.to_string()).collect()
}

fn strength_of(on_delete: &str) -> Strength {
    match on_delete {
        "SET NULL" | "SET DEFAULT" => Strength::Weak,
        _ => Strength::Owning,
    }
}

/// The parent's columns that a key refers to: the ones it names, or the parent's own key.
fn parent_columns(parent: &Table, lines: &[KeyLine]) -> Option<Vec<usize>> {
    let named: Option<Vec<&str>> = lines.iter().map(|line| line.to.as_deref()).collect();
    match named {
        Some(names) => positions(parent, names.into_iter()),
        None => Some(parent.key.clone()),
    }
}

/// Positions of columns, or `None` if the table lacks one.
fn positions<'n>(table: &Table, names: impl Iterator<Item = &'n str>) -> Option<Vec<usize>> {
    names.map(|name| table.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))).collect()
}
