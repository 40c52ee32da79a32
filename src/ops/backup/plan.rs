//! How the rows of each table become stored rows: which source column has which number, which make
//! the key, by which columns the owner is found, and what other tables need to know of a row.

use std::collections::HashMap;

use crate::engine::contract::{Column, ForeignKey, Table};
use crate::format::catalog::{Catalog, OwnerPath, TableEntry, Visibility};
use crate::format::cell::OwnedCell;
use crate::format::key::Fold;
use crate::format::manifest::Layout;
use crate::ops::placement::update::Update;

/// A column of the source in a join key, with the equality of its values.
#[derive(Clone, Copy, Debug)]
pub struct JoinColumn {
    /// Position in the order of delivery.
    pub at: usize,
    pub fold: Fold,
}

/// Names a map from parent keys to owners.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MapKey {
    /// The parent's table number.
    parent: u32,
    /// The parent's columns.
    columns: Vec<u32>,
}

/// Columns of a table that together are a key of a map.
#[derive(Clone, Debug)]
pub struct JoinKey {
    pub columns: Vec<JoinColumn>,
    pub map: MapKey,
}

/// One stored column number of a table.
#[derive(Clone, Debug)]
pub enum Slot {
    /// A column of the source and what is left out at the end of a row.
    Column { at: usize, missing: OwnedCell },
    /// A number whose column is gone.
    Dropped,
}

impl Slot {
    /// Whether this is the cell that a reader fills in.
    #[must_use]
    pub fn is_missing(&self, cell: &[u8]) -> bool {
        match self {
            Self::Column { missing, .. } => cell == missing.as_bytes(),
            Self::Dropped => true,
        }
    }
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
    pub paths: Vec<JoinKey>,
    /// Foreign keys that the source is to follow: what they add to a row comes after its columns, in this order.
    pub follows: Vec<usize>,
    /// Maps that other tables need of this one.
    pub provides: Vec<JoinKey>,
    pub rows_per_leaf: Option<u32>,
}

/// The plans of all tables, in reading order.
#[must_use]
pub fn plan(update: &Update, tables: &[Table]) -> Vec<TablePlan> {
    let planner = Planner { update, tables, wanted: wanted_maps(&update.catalog) };
    reading_order(update).into_iter().map(|table| planner.plan_table(table)).collect()
}

/// The maps that the paths of all tables look into, by the number of the table that provides them.
fn wanted_maps(catalog: &Catalog) -> HashMap<u32, Vec<MapKey>> {
    let mut wanted: HashMap<u32, Vec<MapKey>> = HashMap::new();
    for path in catalog.tables.iter().flat_map(followed_paths) {
        let maps = wanted.entry(path.parent).or_default();
        let key = map_key(path);
        if !maps.contains(&key) {
            maps.push(key);
        }
    }
    wanted
}

/// The paths by which the rows of a table are placed.
fn followed_paths(entry: &TableEntry) -> &[OwnerPath] {
    match entry.layout {
        Layout::Owner => &entry.paths,
        Layout::Key => &[],
    }
}

struct Planner<'a> {
    update: &'a Update,
    tables: &'a [Table],
    wanted: HashMap<u32, Vec<MapKey>>,
}

impl Planner<'_> {
    fn plan_table(&self, table: usize) -> TablePlan {
        let entry = &self.update.catalog.tables[self.update.tables[table]];
        let positions = positions(entry, &self.tables[table]);
        let mut follows = Follows { table: &self.tables[table], keys: Vec::new() };
        let paths = self.plan_paths(entry, &positions, &mut follows);
        TablePlan {
            table,
            number: entry.number,
            layout: entry.layout,
            slots: slots(entry, &positions),
            key: entry.key.iter().map(|number| positions[number]).collect(),
            is_owner: self.update.catalog.owner_table == Some(entry.number),
            paths,
            follows: follows.keys,
            provides: self.provided_keys(table, entry.number, &positions),
            rows_per_leaf: entry.rows_per_leaf,
        }
    }

    fn plan_paths(&self, entry: &TableEntry, positions: &ColumnPositions, follows: &mut Follows<'_>) -> Vec<JoinKey> {
        followed_paths(entry).iter().map(|path| self.plan_path(path, positions, follows)).collect()
    }

    fn plan_path(&self, path: &OwnerPath, positions: &ColumnPositions, follows: &mut Follows<'_>) -> JoinKey {
        // A child's value equals what the parent takes it for.
        let folds = self.parent_folds(path);
        let mut columns = Vec::with_capacity(path.columns.len());
        for (n, number) in path.columns.iter().enumerate() {
            let fold = folds.get(n).copied().unwrap_or(Fold::Exact);
            columns.push(JoinColumn { at: positions[number], fold });
        }
        follows.redirect(&mut columns, path, &self.update.catalog);
        JoinKey { columns, map: map_key(path) }
    }

    /// How the parent compares the values that its children refer to.
    fn parent_folds(&self, path: &OwnerPath) -> Vec<Fold> {
        let entries = &self.update.catalog.tables;
        let Some(entry) = entries.iter().position(|entry| entry.number == path.parent) else { return Vec::new() };
        let Some(table) = self.update.tables.iter().position(|&at| at == entry) else { return Vec::new() };
        let table = &self.tables[table];
        let positions = positions(&entries[entry], table);
        path.parent_columns.iter().map(|number| table.columns[positions[number]].fold).collect()
    }

    /// The keys of the maps that other tables need of this one.
    fn provided_keys(&self, table: usize, number: u32, positions: &ColumnPositions) -> Vec<JoinKey> {
        let columns = &self.tables[table].columns;
        let column = |number: &u32| {
            let at = positions[number];
            JoinColumn { at, fold: columns[at].fold }
        };
        let wanted = self.wanted.get(&number).map_or(&[][..], Vec::as_slice);
        let provided = |map: &MapKey| JoinKey { columns: map.columns.iter().map(column).collect(), map: map.clone() };
        wanted.iter().map(provided).collect()
    }
}

/// The foreign keys of a table that its source is to follow.
struct Follows<'a> {
    table: &'a Table,
    keys: Vec<usize>,
}

/// A column of a table and the name of the parent's column that it refers to.
type ColumnPair<'a> = (usize, Option<&'a str>);

impl Follows<'_> {
    /// Lets a path that is a foreign key of today join by what the parent writes, where the source alone knows that.
    fn redirect(&mut self, columns: &mut [JoinColumn], path: &OwnerPath, catalog: &Catalog) {
        let Some(parent) = catalog.tables.iter().find(|entry| entry.number == path.parent) else { return };
        let pairs = path_pairs(columns, path, parent);
        let Some(at) = self.foreign_key(parent, &pairs) else { return };
        let table = self.table;
        let key = &table.foreign_keys[at];
        let key_pairs = key_pairs(key);
        let first = self.first_cell(at);
        for (cell, &by_server) in (first..).zip(&key.by_server) {
            if let Some(n) = pairs.iter().position(|pair| *pair == key_pairs[by_server]) {
                columns[n].at = cell;
            }
        }
    }

    /// The foreign key that joins by these columns, of those that the server compares.
    fn foreign_key(&self, parent: &TableEntry, pairs: &[ColumnPair<'_>]) -> Option<usize> {
        self.table.foreign_keys.iter().position(|key| {
            let own = key_pairs(key);
            let is_path = own.len() == pairs.len() && own.iter().all(|pair| pairs.contains(pair));
            is_path && key.parent == parent.name && !key.by_server.is_empty()
        })
    }

    /// Where what this key adds begins.
    fn first_cell(&mut self, key: usize) -> usize {
        let known = self.keys.iter().position(|&known| known == key);
        let position = known.unwrap_or(self.keys.len());
        if known.is_none() {
            self.keys.push(key);
        }
        let before = self.keys[..position].iter().map(|&key| self.table.foreign_keys[key].by_server.len());
        self.table.columns.len() + before.sum::<usize>()
    }
}

fn path_pairs<'a>(columns: &[JoinColumn], path: &OwnerPath, parent: &'a TableEntry) -> Vec<ColumnPair<'a>> {
    let name = |number: &u32| parent.column(*number).map(|column| column.name.as_str());
    let parent_columns = path.parent_columns.iter().map(name);
    columns.iter().map(|column| column.at).zip(parent_columns).collect()
}

fn key_pairs(key: &ForeignKey) -> Vec<ColumnPair<'_>> {
    let parent_columns = key.parent_columns.iter().map(|name| Some(name.as_str()));
    key.columns.iter().copied().zip(parent_columns).collect()
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
    MapKey { parent: path.parent, columns: path.parent_columns.clone() }
}

/// Column number -> position in the order of delivery.
type ColumnPositions = HashMap<u32, usize>;

fn positions(entry: &TableEntry, table: &Table) -> ColumnPositions {
    let mut positions = ColumnPositions::new();
    for column in &entry.columns {
        let hidden = column.visibility == Visibility::Hidden;
        let is_same = |own: &Column| own.name == column.name && own.hidden == hidden;
        if let Some(at) = table.columns.iter().position(is_same) {
            positions.insert(column.number, at);
        }
    }
    positions
}

fn slots(entry: &TableEntry, positions: &ColumnPositions) -> Vec<Slot> {
    let end = entry.columns.iter().map(|column| column.number + 1).max().unwrap_or(0);
    let slot = |number: u32| match entry.column(number) {
        Some(column) => Slot::Column { at: positions[&number], missing: column.missing.clone() },
        None => Slot::Dropped,
    };
    (0..end).map(slot).collect()
}
