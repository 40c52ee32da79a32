//! Plans how the rows of each table are stored: the numbers of its columns, the columns of its key, the columns by
//! which the owner is found, and the keys by which other tables look up its rows.

use std::collections::HashMap;

use crate::engine::contract::{ForeignKey, Table};
use crate::format::catalog::{Catalog, ColumnEntry, OwnerPath, PathCondition, PathTerm, TableEntry, Visibility};
use crate::format::cell::OwnedCell;
use crate::format::key::{KIND_UNKNOWN, push_component};
use crate::format::manifest::Layout;
use crate::format::value_rule::ValueRule;
use crate::ops::placement::table_graph::parents_first;
use crate::ops::placement::update::Update;

/// A source column in a join key, and how its values are compared.
#[derive(Clone, Debug)]
pub struct JoinColumn {
    /// Position in the order in which the source delivers cells.
    pub at: usize,
    pub rule: ValueRule,
}

/// Identifies a map from parent keys to owners.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MapKey {
    /// The parent's table number.
    parent: u32,
    columns: Vec<MapColumn>,
}

/// A column of a parent in the keys of a map, and how its values are compared.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct MapColumn {
    number: u32,
    rule: ValueRule,
}

impl MapKey {
    /// The map that a path looks into.
    fn of_path(path: &OwnerPath) -> Self {
        let terms = path.terms.iter();
        let columns = terms.map(|term| MapColumn { number: term.parent_column, rule: term.parent_rule() }).collect();
        Self { parent: path.parent, columns }
    }
}

#[cfg(test)]
impl MapKey {
    /// A map of a table without columns.
    pub fn of_table(parent: u32) -> Self {
        Self { parent, columns: Vec::new() }
    }
}

/// Columns of a table that together form a key of a map.
#[derive(Clone, Debug)]
pub struct JoinKey {
    pub columns: Vec<JoinColumn>,
    pub map: MapKey,
}

/// A condition on a row.
#[derive(Clone, Debug)]
pub struct JoinCondition {
    pub at: usize,
    /// The key component of the value that the column must have.
    pub equals: Vec<u8>,
}

/// A path to the owner.
#[derive(Clone, Debug)]
pub struct JoinPath {
    pub key: JoinKey,
    /// If one of them does not hold, the path leads nowhere.
    pub conditions: Vec<JoinCondition>,
    /// The kind of the owner that a missing parent row would be, or [`KIND_UNKNOWN`].
    pub missing_kind: u8,
}

/// One stored column number of a table.
#[derive(Clone, Debug)]
pub enum Slot {
    /// A column of the source. `missing` is the value that is left out at the end of a row.
    Column { at: usize, missing: OwnedCell },
    /// The number of a dropped column.
    Dropped,
}

/// How to store the rows of one table.
#[derive(Clone, Debug)]
pub struct TablePlan {
    /// Position in the description.
    pub table: usize,
    pub number: u32,
    /// Per column number.
    pub slots: Vec<Slot>,
    /// Positions of the key's columns.
    pub key: Vec<usize>,
    /// The kind of its rows, if they are owners.
    pub owner_kind: Option<u8>,
    /// Columns by which the owner is found and the maps to look it up in, best first.
    pub paths: Vec<JoinPath>,
    /// Foreign keys for which the source adds the parent's values to a row. These cells come after the row's columns,
    /// in this order.
    pub parent_values: Vec<usize>,
    /// Maps of this table that other tables need.
    pub provides: Vec<JoinKey>,
}

/// The plans of all tables, in reading order.
#[must_use]
pub fn plan(update: &Update, tables: &[Table]) -> Vec<TablePlan> {
    let entries = positions_by_number(&update.catalog.tables);
    let tables_by_entry = tables_by_entry(update);
    let order = reading_order(update, &entries, &tables_by_entry);
    let planner = Planner { update, tables, wanted: wanted_maps(&update.catalog), entries };
    order.into_iter().map(|table| planner.plan_table(table)).collect()
}

/// The maps that the paths of all tables look into, by the number of the table that provides them.
fn wanted_maps(catalog: &Catalog) -> HashMap<u32, Vec<MapKey>> {
    let mut wanted: HashMap<u32, Vec<MapKey>> = HashMap::new();
    for path in catalog.tables.iter().flat_map(followed_paths) {
        add_once(wanted.entry(path.parent).or_default(), MapKey::of_path(path));
    }
    wanted
}

fn add_once(maps: &mut Vec<MapKey>, key: MapKey) {
    if !maps.contains(&key) {
        maps.push(key);
    }
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
    /// Positions of the catalog's entries by number.
    entries: HashMap<u32, usize>,
}

impl Planner<'_> {
    fn plan_table(&self, table: usize) -> TablePlan {
        let entry = &self.update.catalog.tables[self.update.tables[table]];
        let positions = positions(entry, &self.tables[table]);
        let mut requests = ParentValueRequests { table: &self.tables[table], keys: Vec::new() };
        let paths = self.plan_paths(entry, &positions, &mut requests);
        TablePlan {
            table,
            number: entry.number,
            slots: slots(entry, &positions),
            key: entry.key.iter().map(|number| positions[number]).collect(),
            owner_kind: self.owner_kind(entry),
            paths,
            parent_values: requests.keys,
            provides: self.provided_keys(entry.number, &positions),
        }
    }

    /// The kind of a table's rows, if they are owners.
    fn owner_kind(&self, entry: &TableEntry) -> Option<u8> {
        let is_placed = entry.layout == Layout::Owner;
        self.update.catalog.owner_kind(entry.number).filter(|_| is_placed)
    }

    fn plan_paths(
        &self,
        entry: &TableEntry,
        positions: &ColumnPositions,
        requests: &mut ParentValueRequests<'_>,
    ) -> Vec<JoinPath> {
        followed_paths(entry).iter().map(|path| self.plan_path(path, positions, requests)).collect()
    }

    fn plan_path(
        &self,
        path: &OwnerPath,
        positions: &ColumnPositions,
        requests: &mut ParentValueRequests<'_>,
    ) -> JoinPath {
        let mut columns: Vec<JoinColumn> = path.terms.iter().map(|term| join_column(term, positions)).collect();
        let parent = self.entries.get(&path.parent).map(|&parent| &self.update.catalog.tables[parent]);
        if let Some(parent) = parent.filter(|_| path.compares_whole_values()) {
            requests.redirect(&mut columns, path, parent);
        }
        JoinPath {
            key: JoinKey { columns, map: MapKey::of_path(path) },
            conditions: path.conditions.iter().map(|condition| join_condition(condition, positions)).collect(),
            missing_kind: parent.and_then(|parent| self.missing_kind(path, parent)).unwrap_or(KIND_UNKNOWN),
        }
    }

    /// The kind of the owner that a missing parent row would be. Known only if the path refers to the owner's key.
    fn missing_kind(&self, path: &OwnerPath, parent: &TableEntry) -> Option<u8> {
        let has_whole_key = path.parent_columns().eq(parent.key.iter().copied());
        let is_whole = path.terms.iter().all(|term| term.parent_prefix.is_empty() && term.parent_suffix.is_empty());
        self.owner_kind(parent).filter(|_| has_whole_key && is_whole)
    }

    /// The keys of this table's maps that other tables need.
    fn provided_keys(&self, number: u32, positions: &ColumnPositions) -> Vec<JoinKey> {
        self.wanted_of(number).iter().map(|map| provided_key(map, positions)).collect()
    }

    fn wanted_of(&self, number: u32) -> &[MapKey] {
        self.wanted.get(&number).map_or(&[], Vec::as_slice)
    }
}

fn join_column(term: &PathTerm, positions: &ColumnPositions) -> JoinColumn {
    JoinColumn { at: positions[&term.column], rule: term.child_rule() }
}

fn join_condition(condition: &PathCondition, positions: &ColumnPositions) -> JoinCondition {
    let mut equals = Vec::new();
    push_component(&mut equals, &condition.equals.get());
    JoinCondition { at: positions[&condition.column], equals }
}

fn provided_key(map: &MapKey, positions: &ColumnPositions) -> JoinKey {
    let own = map.columns.iter();
    let own = own.map(|column| JoinColumn { at: positions[&column.number], rule: column.rule.clone() });
    JoinKey { columns: own.collect(), map: map.clone() }
}

/// The foreign keys of a table for which its source adds the parent's values.
struct ParentValueRequests<'a> {
    table: &'a Table,
    keys: Vec<usize>,
}

/// A column of a table and the name of the parent's column that it refers to.
type ColumnPair<'a> = (usize, Option<&'a str>);

/// A cell that the source adds to a row because of a foreign key.
struct PlannedParentValue<'a> {
    at: usize,
    pair: ColumnPair<'a>,
}

impl ParentValueRequests<'_> {
    /// If a path is a current foreign key that the server compares in its own way, makes it join by the parent's
    /// values. Only the source can determine these.
    fn redirect(&mut self, columns: &mut [JoinColumn], path: &OwnerPath, parent: &TableEntry) {
        let pairs = path_pairs(columns, path, parent);
        let Some(at) = self.foreign_key(parent, &pairs) else { return };
        for cell in self.parent_values_of(at) {
            if let Some(n) = pairs.iter().position(|pair| *pair == cell.pair) {
                columns[n].at = cell.at;
            }
        }
    }

    /// The cells that a foreign key adds to a row.
    fn parent_values_of(&mut self, at: usize) -> Vec<PlannedParentValue<'_>> {
        let first = self.first_cell(at);
        let key = &self.table.foreign_keys[at];
        let pairs = key_pairs(key);
        let cells = (first..).zip(&key.parent_values);
        cells.map(|(at, &in_key)| PlannedParentValue { at, pair: pairs[in_key] }).collect()
    }

    /// The foreign key with these columns, if the server compares it.
    fn foreign_key(&self, parent: &TableEntry, pairs: &[ColumnPair<'_>]) -> Option<usize> {
        let is_path = |key: &ForeignKey| key.parent == parent.name && are_same_pairs(&key_pairs(key), pairs);
        let mut keys = self.table.foreign_keys.iter();
        keys.position(|key| is_path(key) && !key.parent_values.is_empty())
    }

    /// Position of the first cell that this key adds.
    fn first_cell(&mut self, key: usize) -> usize {
        let position = self.position(key);
        let before = self.keys[..position].iter().map(|&key| self.table.foreign_keys[key].parent_values.len());
        self.table.columns.len() + before.sum::<usize>()
    }

    /// The position of a key among the requested keys. Adds it at the end if it is not requested yet.
    fn position(&mut self, key: usize) -> usize {
        if let Some(position) = self.keys.iter().position(|&known| known == key) {
            return position;
        }
        self.keys.push(key);
        self.keys.len() - 1
    }
}

fn are_same_pairs(own: &[ColumnPair<'_>], others: &[ColumnPair<'_>]) -> bool {
    own.len() == others.len() && own.iter().all(|pair| others.contains(pair))
}

fn path_pairs<'a>(columns: &[JoinColumn], path: &OwnerPath, parent: &'a TableEntry) -> Vec<ColumnPair<'a>> {
    let name = |number: u32| parent.column(number).map(|column| column.name.as_str());
    let parent_columns = path.parent_columns().map(name);
    columns.iter().map(|column| column.at).zip(parent_columns).collect()
}

fn key_pairs(key: &ForeignKey) -> Vec<ColumnPair<'_>> {
    let parent_columns = key.parent_columns.iter().map(|name| Some(name.as_str()));
    key.columns.iter().copied().zip(parent_columns).collect()
}

/// Parents before children, by the pinned paths. They may differ from the paths that would be chosen today.
fn reading_order(
    update: &Update,
    entries: &HashMap<u32, usize>,
    tables_by_entry: &HashMap<usize, usize>,
) -> Vec<usize> {
    let parents =
        |entry: &TableEntry| entry.paths.iter().filter_map(|path| entries.get(&path.parent).copied()).collect();
    let parents: Vec<Vec<usize>> = update.catalog.tables.iter().map(parents).collect();
    let starts: Vec<usize> = update.mapping.order.iter().map(|&table| update.tables[table]).collect();
    parents_first(&starts, &parents).into_iter().map(|entry| tables_by_entry[&entry]).collect()
}

fn tables_by_entry(update: &Update) -> HashMap<usize, usize> {
    update.tables.iter().enumerate().map(|(table, &entry)| (entry, table)).collect()
}

/// Positions of entries by number.
fn positions_by_number(entries: &[TableEntry]) -> HashMap<u32, usize> {
    entries.iter().enumerate().map(|(at, entry)| (entry.number, at)).collect()
}

/// Column number -> position in the order in which the source delivers cells.
type ColumnPositions = HashMap<u32, usize>;

fn positions(entry: &TableEntry, table: &Table) -> ColumnPositions {
    let own = table.columns.iter().enumerate().map(|(at, own)| ((own.name.as_str(), own.hidden), at));
    let own: HashMap<(&str, bool), usize> = own.collect();
    let position = |column: &ColumnEntry| {
        let at = own.get(&(column.name.as_str(), column.visibility == Visibility::Hidden))?;
        Some((column.number, *at))
    };
    entry.columns.iter().filter_map(position).collect()
}

fn slots(entry: &TableEntry, positions: &ColumnPositions) -> Vec<Slot> {
    let end = entry.columns.iter().map(|column| column.number as usize + 1).max().unwrap_or(0);
    let mut slots = vec![Slot::Dropped; end];
    for column in &entry.columns {
        let at = positions[&column.number];
        slots[column.number as usize] = Slot::Column { at, missing: column.missing.clone() };
    }
    slots
}
