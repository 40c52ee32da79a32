//! How the rows of each table become stored rows: which source column has which number, which make
//! the key, by which columns the owner is found, and what other tables need to know of a row.

use std::collections::HashMap;

use crate::engine::contract::Table;
use crate::format::catalog::{Catalog, OwnerPath, TableEntry};
use crate::format::cell::OwnedCell;
use crate::format::key::Fold;
use crate::format::manifest::Layout;
use crate::ops::placement::update::Update;

/// A set of columns of the source, in the order of delivery, with the equality of their values.
pub type JoinColumns = Vec<(usize, Fold)>;

/// Names a map from parent keys to owners: parent's table number and columns.
pub type MapKey = (u32, Vec<u32>);

/// One stored column number of a table.
#[derive(Clone, Debug)]
pub enum Slot {
    /// A column of the source and what is left out at the end of a row.
    Column { at: usize, missing: OwnedCell },
    /// A number whose column is gone.
    Dropped,
}

/// How to store the rows of one table.
#[derive(Clone, Debug)]
pub struct TablePlan {
    /// Position in the description.
    pub table: usize,
    pub number: u32,
    pub layout: Layout,
    /// Per column number.
    pub slots: Vec<Slot>,
    /// Positions of the key's columns.
    pub key: Vec<usize>,
    /// Whether its rows are the owners.
    pub is_owner: bool,
    /// Columns by which the owner is found, and the map to look into; best first.
    pub paths: Vec<(JoinColumns, MapKey)>,
    /// Foreign keys that the source is to follow: what they add to a row comes after its columns, in this order.
    pub follows: Vec<usize>,
    /// Maps that other tables need of this one.
    pub provides: Vec<(JoinColumns, MapKey)>,
    pub rows_per_leaf: Option<u32>,
}

/// The plans of all tables, in reading order, and how many tables still need each map.
#[must_use]
pub fn plan(update: &Update, tables: &[Table]) -> Vec<TablePlan> {
    let catalog = &update.catalog;
    let mut provided: HashMap<u32, Vec<MapKey>> = HashMap::new();
    for entry in catalog.tables.iter().filter(|entry| entry.layout == Layout::Owner) {
        for path in &entry.paths {
            let wanted = provided.entry(path.parent).or_default();
            let key = map_key(path);
            if !wanted.contains(&key) {
                wanted.push(key);
            }
        }
    }
    reading_order(update)
        .into_iter()
        .map(|table| {
            let entry = &catalog.tables[update.tables[table]];
            let position = positions(entry, &tables[table]);
            let columns = |numbers: &[u32], folds: &dyn Fn(usize) -> Fold| -> JoinColumns {
                numbers.iter().enumerate().map(|(n, number)| (position[number], folds(n))).collect()
            };
            let paths = if entry.layout == Layout::Owner { entry.paths.as_slice() } else { &[] };
            let mut follows = Follows { table: &tables[table], keys: Vec::new() };
            let paths = paths
                .iter()
                .map(|path| {
                    let folds = parent_folds(path, catalog, update, tables);
                    let mut columns = columns(&path.columns, &|n| folds.get(n).copied().unwrap_or(Fold::Exact));
                    follows.redirect(&mut columns, path, catalog);
                    (columns, map_key(path))
                })
                .collect();
            let follows = follows.keys;
            let own = &tables[table].columns;
            let provides = provided.remove(&entry.number).unwrap_or_default();
            let provides = provides
                .into_iter()
                .map(|key| (columns(&key.1, &|n| own[position[&key.1[n]]].fold), key.clone()))
                .collect();
            TablePlan {
                table,
                number: entry.number,
                layout: entry.layout,
                slots: slots(entry, &position),
                key: entry.key.iter().map(|number| position[number]).collect(),
                is_owner: catalog.owner_table == Some(entry.number),
                paths,
                follows,
                provides,
                rows_per_leaf: entry.rows_per_leaf,
            }
        })
        .collect()
}

/// The foreign keys of a table that its source is to follow.
struct Follows<'a> {
    table: &'a Table,
    keys: Vec<usize>,
}

impl Follows<'_> {
    /// Lets a path that is a foreign key of today join by what the parent writes, where the source alone knows that.
    fn redirect(&mut self, columns: &mut JoinColumns, path: &OwnerPath, catalog: &Catalog) {
        let Some(parent) = catalog.tables.iter().find(|entry| entry.number == path.parent) else { return };
        let name = |number: &u32| parent.column(*number).map(|column| column.name.as_str());
        let pairs: Vec<_> = columns.iter().map(|&(at, _)| at).zip(path.parent_columns.iter().map(name)).collect();
        for (at, key) in self.table.foreign_keys.iter().enumerate() {
            let theirs = key.parent_columns.iter().map(|name| Some(name.as_str()));
            let own: Vec<_> = key.columns.iter().copied().zip(theirs).collect();
            let is_path =
                key.parent == parent.name && own.len() == pairs.len() && own.iter().all(|p| pairs.contains(p));
            if !is_path || key.by_server.is_empty() {
                continue;
            }
            let first = self.first_cell(at);
            for (cell, &place) in (first..).zip(&key.by_server) {
                if let Some(n) = pairs.iter().position(|pair| *pair == own[place]) {
                    columns[n].0 = cell;
                }
            }
            return;
        }
    }

    /// Where what this key adds begins.
    fn first_cell(&mut self, key: usize) -> usize {
        let place = self.keys.iter().position(|&known| known == key).unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        });
        let before = self.keys[..place].iter().map(|&key| self.table.foreign_keys[key].by_server.len());
        self.table.columns.len() + before.sum::<usize>()
    }
}

/// Parents before children by the pinned paths, which may differ from those of today.
fn reading_order(update: &Update) -> Vec<usize> {
    let entries = &update.catalog.tables;
    let mut walk = PathOrder { entries, begun: vec![false; entries.len()], order: Vec::new() };
    for &table in &update.mapping.order {
        walk.visit(update.tables[table]);
    }
    let back: HashMap<usize, usize> = update.tables.iter().enumerate().map(|(table, &entry)| (entry, table)).collect();
    walk.order.into_iter().map(|entry| back[&entry]).collect()
}

/// A walk up the owner paths of entries.
struct PathOrder<'a> {
    entries: &'a [TableEntry],
    begun: Vec<bool>,
    order: Vec<usize>,
}

impl PathOrder<'_> {
    fn visit(&mut self, entry: usize) {
        if std::mem::replace(&mut self.begun[entry], true) {
            return;
        }
        let entries = self.entries;
        for path in &entries[entry].paths {
            if let Some(parent) = entries.iter().position(|entry| entry.number == path.parent) {
                self.visit(parent);
            }
        }
        self.order.push(entry);
    }
}

fn map_key(path: &OwnerPath) -> MapKey {
    (path.parent, path.parent_columns.clone())
}

/// How the parent compares the values that its children refer to.
fn parent_folds(path: &OwnerPath, catalog: &Catalog, update: &Update, tables: &[Table]) -> Vec<Fold> {
    let Some(entry) = catalog.tables.iter().position(|entry| entry.number == path.parent) else { return Vec::new() };
    let Some(table) = update.tables.iter().position(|&at| at == entry) else { return Vec::new() };
    let position = positions(&catalog.tables[entry], &tables[table]);
    path.parent_columns.iter().map(|number| tables[table].columns[position[number]].fold).collect()
}

/// Column number -> position in the order of delivery.
fn positions(entry: &TableEntry, table: &Table) -> HashMap<u32, usize> {
    entry
        .columns
        .iter()
        .filter_map(|column| {
            let hidden = column.visibility == crate::format::catalog::Visibility::Hidden;
            let at = table.columns.iter().position(|own| own.name == column.name && own.hidden == hidden)?;
            Some((column.number, at))
        })
        .collect()
}

fn slots(entry: &TableEntry, position: &HashMap<u32, usize>) -> Vec<Slot> {
    let end = entry.columns.iter().map(|column| column.number + 1).max().unwrap_or(0);
    (0..end)
        .map(|number| match entry.column(number) {
            Some(column) => Slot::Column { at: position[&number], missing: column.missing.clone() },
            None => Slot::Dropped,
        })
        .collect()
}
