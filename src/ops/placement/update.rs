//! Tonight's description against last night's catalog: which table and column is which, so that the
//! same rows keep their bytes through renames, added and reordered columns. Numbers are never reused.

use std::collections::BTreeMap;

use crate::base::finding::Finding;
use crate::base::finding::FindingKind::PlacementDrift;
use crate::engine::contract::{Column, Description, Engine, Table};
use crate::format::catalog::{Catalog, ColumnEntry, OwnerPath, TableEntry, Visibility};
use crate::format::cell::{Cell, OwnedCell};
use crate::format::manifest::Layout;
use crate::ops::placement::mapping::{self, Mapping};
use crate::ops::placement::matching::match_tables;

/// What the configuration says about the placement of rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PlacementConfig {
    /// The table whose rows are owners.
    pub owner_table: Option<String>,
    /// Tables with a layout of their own.
    pub layouts: BTreeMap<String, Layout>,
}

impl PlacementConfig {
    /// What is said about a table, by its whole name or without its schema.
    #[must_use]
    pub fn layout_of(&self, table: &str) -> Option<Layout> {
        let bare = table.rsplit('.').next().unwrap_or_default();
        self.layouts.get(table).or_else(|| self.layouts.get(bare)).copied()
    }
}

/// Tonight's catalog.
#[derive(Clone, Debug)]
pub struct Update {
    pub catalog: Catalog,
    /// For each table of the description, its position in `catalog.tables`.
    pub tables: Vec<usize>,
    /// What the mapping would be if it were made today, where that differs from what is pinned.
    pub drift: Vec<Finding>,
    pub mapping: Mapping,
}

/// Whether what is pinned stays or is made anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pinned {
    Keep,
    Renew,
}

/// Carries `prior` forward to `description`.
#[must_use]
pub fn update(
    prior: Option<&Catalog>,
    description: &Description,
    config: &PlacementConfig,
    schema_digest: String,
    pinned: Pinned,
) -> Update {
    let mapping = mapping::infer(&description.tables, config.owner_table.as_deref());
    let matched = match_tables(prior, description);
    let mut next_table = prior.map_or(1, |catalog| catalog.next_table);
    let mut entries: Vec<TableEntry> = description
        .tables
        .iter()
        .zip(&matched)
        .map(|(table, old)| match old {
            Some(old) => carry(old, table),
            None => {
                next_table += 1;
                create(next_table - 1, table)
            }
        })
        .collect();
    let mut drift = Vec::new();
    let fresh_owner = mapping.owner_table.map(|at| entries[at].number);
    let owner_table = match prior {
        Some(catalog) if pinned == Pinned::Keep => {
            let kept = catalog.owner_table.filter(|number| entries.iter().any(|entry| entry.number == *number));
            if kept != fresh_owner && catalog.owner_table.is_some() {
                drift.push(Finding::new(
                    PlacementDrift,
                    "owner_table",
                    "the table of owners would be another one today",
                ));
            }
            kept.or(fresh_owner)
        }
        _ => fresh_owner,
    };
    for at in 0..entries.len() {
        let paths = paths(&description.tables, &entries, &mapping, at);
        let layout = layout(&description.tables[at], config);
        let entry = &mut entries[at];
        if matched[at].is_none() || pinned == Pinned::Renew {
            (entry.paths, entry.layout) = (paths, layout);
            if pinned == Pinned::Renew {
                entry.rows_per_leaf = None;
            }
        } else if entry.paths != paths || entry.layout != layout {
            drift.push(Finding::new(PlacementDrift, &entry.name, "its rows would be placed differently today"));
        }
    }
    drop_broken_paths(&mut entries, &mut drift);
    if let (Some(name), None) = (&config.owner_table, mapping.owner_table) {
        let detail = format!("the configuration names {name} as the table of owners, which is not there");
        drift.push(Finding::new(PlacementDrift, "owner_table", detail));
    }
    let tables = (0..entries.len()).collect();
    let engine = match description.engine {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "postgres",
    };
    let identity = description.identity.clone();
    let catalog =
        Catalog { engine: engine.to_owned(), identity, schema_digest, owner_table, next_table, tables: entries };
    Update { catalog, tables, drift, mapping }
}

/// A pinned path over a column or table that is gone can place nothing.
fn drop_broken_paths(entries: &mut [TableEntry], drift: &mut Vec<Finding>) {
    let columns: BTreeMap<u32, Vec<u32>> = entries
        .iter()
        .map(|entry| (entry.number, entry.columns.iter().map(|column| column.number).collect()))
        .collect();
    for entry in entries {
        let before = entry.paths.len();
        entry.paths.retain(|path| {
            let here = &columns[&entry.number];
            path.columns.iter().all(|column| here.contains(column))
                && columns.get(&path.parent).is_some_and(|there| path.parent_columns.iter().all(|c| there.contains(c)))
        });
        if entry.paths.len() < before {
            let detail = "a column or table on its way to the owner is gone";
            drift.push(Finding::new(PlacementDrift, &entry.name, detail));
        }
    }
}

fn layout(table: &Table, config: &PlacementConfig) -> Layout {
    let default = if table.feed_hint.is_some() { Layout::Key } else { Layout::Owner };
    config.layout_of(&table.name).unwrap_or(default)
}

fn paths(tables: &[Table], entries: &[TableEntry], mapping: &Mapping, at: usize) -> Vec<OwnerPath> {
    let number = |entry: &TableEntry, name: &str| {
        entry.columns.iter().find(|column| column.name == name).map(|column| column.number)
    };
    mapping.paths[at]
        .iter()
        .filter_map(|&key| {
            let foreign = &tables[at].foreign_keys[key];
            let parent = entries.iter().find(|entry| entry.name == foreign.parent)?;
            let name = |column: &usize| number(&entries[at], &tables[at].columns[*column].name);
            Some(OwnerPath {
                columns: foreign.columns.iter().map(name).collect::<Option<_>>()?,
                parent: parent.number,
                parent_columns: foreign
                    .parent_columns
                    .iter()
                    .map(|name| number(parent, name))
                    .collect::<Option<_>>()?,
            })
        })
        .collect()
}

fn create(number: u32, table: &Table) -> TableEntry {
    let columns: Vec<ColumnEntry> = (0u32..)
        .zip(&table.columns)
        .map(|(number, column)| entry(number, column, OwnedCell::new(&Cell::Null)))
        .collect();
    let key = table.key.iter().map(|&at| at as u32).collect();
    TableEntry {
        number,
        name: table.name.clone(),
        oid: table.oid,
        next_column: columns.len() as u32,
        columns,
        key,
        layout: Layout::Owner,
        paths: Vec::new(),
        rows_per_leaf: None,
    }
}

fn entry(number: u32, column: &Column, missing: OwnedCell) -> ColumnEntry {
    let visibility = if column.hidden { Visibility::Hidden } else { Visibility::Declared };
    ColumnEntry { number, name: column.name.clone(), position: column.position, visibility, missing }
}

fn carry(old: &TableEntry, table: &Table) -> TableEntry {
    let mut next_column = old.next_column;
    let same = |entry: &ColumnEntry, column: &Column| {
        entry.name == column.name && (entry.visibility == Visibility::Hidden) == column.hidden
    };
    let vanished = |entry: &ColumnEntry| !table.columns.iter().any(|column| same(entry, column));
    let numbers: Vec<(u32, OwnedCell)> = table
        .columns
        .iter()
        .map(|column| {
            let found = old.columns.iter().find(|entry| same(entry, column));
            let renamed = || old.columns.iter().find(|entry| vanished(entry) && entry.position == column.position);
            match found.or_else(renamed) {
                Some(entry) => (entry.number, entry.missing.clone()),
                None => {
                    next_column += 1;
                    (next_column - 1, column.missing.clone())
                }
            }
        })
        .collect();
    let mut columns: Vec<ColumnEntry> = table
        .columns
        .iter()
        .zip(&numbers)
        .map(|(column, (number, missing))| entry(*number, column, missing.clone()))
        .collect();
    columns.sort_by_key(|column| column.number);
    TableEntry {
        number: old.number,
        name: table.name.clone(),
        oid: table.oid,
        columns,
        next_column,
        key: table.key.iter().map(|&at| numbers[at].0).collect(),
        layout: old.layout,
        paths: old.paths.clone(),
        rows_per_leaf: old.rows_per_leaf,
    }
}
