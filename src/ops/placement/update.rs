//! Carries the previous catalog over to the current description. Matching tables and columns keep their numbers, so
//! that unchanged rows keep their bytes when tables and columns are renamed and columns are added or reordered. Numbers
//! are never reused.

use std::collections::{BTreeMap, HashMap};

use crate::base::finding::Finding;
use crate::base::finding::FindingKind::PlacementDrift;
use crate::engine::contract::{Column, Description, Engine, ForeignKey, Table};
use crate::format::catalog::{Catalog, OwnerPath, PathTerm, TableEntry, is_named};
use crate::format::manifest::Layout;
use crate::ops::placement::mapping::{self, Mapping, find_table};
use crate::ops::placement::matching::match_tables;
use crate::ops::placement::owner_kinds::OwnerKinds;
use crate::ops::placement::table_entry::{carry_entry, new_entry};
use crate::ops::placement::table_graph::positions_by_name;

/// What the configuration says about the placement of rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PlacementConfig {
    /// The tables whose rows are the owners. If empty, they are inferred.
    pub owner_tables: Vec<String>,
    /// Configured layouts by table name.
    pub layouts: BTreeMap<String, Layout>,
}

impl PlacementConfig {
    /// The configured layout of a table, by its full name or its name without the schema.
    #[must_use]
    pub fn layout_of(&self, table: &str) -> Option<Layout> {
        let by_bare_name = || self.layouts.iter().find(|(name, _)| is_named(table, name)).map(|(_, layout)| layout);
        self.layouts.get(table).or_else(by_bare_name).copied()
    }
}

/// The catalog of the next snapshot.
#[derive(Clone, Debug)]
pub struct Update {
    pub catalog: Catalog,
    /// For each table of the description, its position in `catalog.tables`.
    pub tables: Vec<usize>,
    /// Where the mapping would differ from the pinned one if it were inferred today.
    pub drift: Vec<Finding>,
    pub mapping: Mapping,
}

/// Whether the pinned placement is kept or inferred again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pinned {
    Keep,
    Renew,
}

/// Carries `prior` over to `description`. Each table of `prior` is dropped once it has been carried over: with 100,000
/// tables, a second catalog would take too much memory.
#[must_use]
pub fn update(
    mut prior: Option<Catalog>,
    description: &Description,
    config: &PlacementConfig,
    schema_digest: String,
    pinned: Pinned,
) -> Update {
    let mapping = mapping::infer(&description.tables, &config.owner_tables);
    let matched = match_tables(prior.as_ref(), description);
    let NumberedTables { mut entries, next_table } = number_tables(prior.as_mut(), &description.tables, &matched);
    let prior = prior.as_ref();
    let by_name = positions_by_name(&description.tables);
    let today = Today { tables: &description.tables, by_name, mapping: &mapping, config };
    let mut drift = Vec::new();
    let pinned_by = prior.filter(|_| pinned == Pinned::Keep);
    let OwnerKinds { owners, next_kind, .. } = today.owners(pinned_by, prior, &entries, &mut drift);
    today.place_all(&mut entries, &matched, pinned, &mut drift);
    drop_broken_paths(&mut entries, &mut drift);
    note_missing_owner_tables(config, &description.tables, &mut drift);
    let tables = (0..entries.len()).collect();
    let without_tables = described_parts(prior, description);
    let catalog = Catalog { schema_digest, owners, next_kind, next_table, tables: entries, ..without_tables };
    Update { catalog, tables, drift, mapping }
}

fn note_missing_owner_tables(config: &PlacementConfig, tables: &[Table], drift: &mut Vec<Finding>) {
    for name in config.owner_tables.iter().filter(|name| find_table(tables, name).is_none()) {
        let detail = format!("the configuration names {name} as the owner table, but it does not exist");
        drift.push(Finding::new(PlacementDrift, "owner_table", detail));
    }
}

fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "postgres",
    }
}

/// The entries of all tables, in the order of the description.
struct NumberedTables {
    entries: Vec<TableEntry>,
    next_table: u32,
}

/// A matched table keeps its number. A new table gets the next one.
fn number_tables(prior: Option<&mut Catalog>, tables: &[Table], matched: &[Option<u32>]) -> NumberedTables {
    let next_table = prior.as_ref().map_or(1, |catalog| catalog.next_table);
    let mut left = prior.map(|catalog| EntriesLeft::new(std::mem::take(&mut catalog.tables))).unwrap_or_default();
    let mut numbered = NumberedTables { entries: Vec::with_capacity(tables.len()), next_table };
    for (table, number) in tables.iter().zip(matched) {
        let old = number.and_then(|number| left.take(number));
        numbered.add(table, old.as_ref());
    }
    numbered
}

/// Entries that have not been carried over yet.
#[derive(Default)]
struct EntriesLeft {
    entries: Vec<Option<TableEntry>>,
    /// Positions by number.
    positions: HashMap<u32, usize>,
}

impl EntriesLeft {
    fn new(entries: Vec<TableEntry>) -> Self {
        let positions = entries.iter().map(|entry| entry.number).zip(0..).collect();
        Self { entries: entries.into_iter().map(Some).collect(), positions }
    }

    fn take(&mut self, number: u32) -> Option<TableEntry> {
        self.entries[*self.positions.get(&number)?].take()
    }
}

impl NumberedTables {
    fn add(&mut self, table: &Table, old: Option<&TableEntry>) {
        let entry = match old {
            Some(old) => carry_entry(old, table),
            None => {
                self.next_table += 1;
                new_entry(self.next_table - 1, table)
            }
        };
        self.entries.push(entry);
    }
}

/// How the rows of a table are placed.
struct PlacementChoice {
    paths: Vec<OwnerPath>,
    layout: Layout,
}

impl PlacementChoice {
    fn pin(self, entry: &mut TableEntry) {
        entry.paths = self.paths;
        entry.layout = self.layout;
    }
}

fn note_drift(entry: &TableEntry, today: &PlacementChoice, drift: &mut Vec<Finding>) {
    if entry.paths != today.paths || entry.layout != today.layout {
        drift.push(Finding::new(PlacementDrift, &entry.name, "its rows would be placed differently today"));
    }
}

/// What decides how rows would be placed today.
struct Today<'a> {
    tables: &'a [Table],
    /// Positions of tables by name.
    by_name: HashMap<&'a str, usize>,
    mapping: &'a Mapping,
    config: &'a PlacementConfig,
}

impl Today<'_> {
    /// The pinned owner tables that still exist, otherwise those that would be chosen today.
    fn owners(
        &self,
        pinned: Option<&Catalog>,
        prior: Option<&Catalog>,
        entries: &[TableEntry],
        drift: &mut Vec<Finding>,
    ) -> OwnerKinds {
        let todays: Vec<u32> = self.mapping.owner_tables.iter().map(|&at| entries[at].number).collect();
        match pinned {
            Some(pinned) => {
                let existing = entries.iter().map(|entry| entry.number).collect();
                OwnerKinds::pinned(pinned, &existing, &todays, drift)
            }
            None => OwnerKinds::chosen(prior, &todays, drift),
        }
    }

    /// Places the rows of all tables. `matched` has the number of each in the previous snapshot.
    fn place_all(&self, entries: &mut [TableEntry], matched: &[Option<u32>], pinned: Pinned, drift: &mut Vec<Finding>) {
        for (at, old) in matched.iter().enumerate() {
            let keeps_pinned = pinned == Pinned::Keep && old.is_some();
            self.place(entries, at, keeps_pinned, drift);
        }
    }

    /// Pins how a table's rows are placed. If the pinned placement is kept, only notes drift.
    fn place(&self, entries: &mut [TableEntry], at: usize, keeps_pinned: bool, drift: &mut Vec<Finding>) {
        let placement = self.placement(entries, at);
        if keeps_pinned {
            self.compare_as_today(entries, at);
            note_drift(&entries[at], &placement, drift);
        } else {
            placement.pin(&mut entries[at]);
        }
    }

    fn placement(&self, entries: &[TableEntry], at: usize) -> PlacementChoice {
        let table = &self.tables[at];
        let keys = self.mapping.paths[at].iter().map(|&key| &table.foreign_keys[key]);
        let mut paths: Vec<OwnerPath> = keys.filter_map(|key| self.owner_path(entries, at, key)).collect();
        paths.shrink_to_fit();
        PlacementChoice { paths, layout: self.layout(table) }
    }

    /// Pinned paths that are foreign keys compare values as the columns have them today.
    fn compare_as_today(&self, entries: &mut [TableEntry], at: usize) {
        if entries[at].paths.is_empty() {
            return;
        }
        let todays = self.foreign_key_paths(entries, at);
        for path in entries[at].paths.iter_mut().filter(|path| path.compares_whole_values()) {
            compare_like_same(path, &todays);
        }
    }

    /// All foreign keys of the table at `at` that can be paths.
    fn foreign_key_paths(&self, entries: &[TableEntry], at: usize) -> Vec<OwnerPath> {
        let keys = self.tables[at].foreign_keys.iter();
        keys.filter_map(|key| self.owner_path(entries, at, key)).collect()
    }

    /// A foreign key of the table at `at` as a path, with numbers instead of names.
    fn owner_path(&self, entries: &[TableEntry], at: usize, key: &ForeignKey) -> Option<OwnerPath> {
        let parent_at = *self.by_name.get(key.parent.as_str())?;
        let pairs = key.columns.iter().zip(&key.parent_columns);
        let term = |(&column, parent_name): (&usize, &String)| {
            let parent = find_column(&self.tables[parent_at], parent_name)?;
            Some(PathTerm {
                column: column_number(&entries[at], &self.tables[at].columns[column].name)?,
                parent_column: column_number(&entries[parent_at], parent_name)?,
                fold: parent.fold,
                affinity: parent.affinity,
                ..PathTerm::default()
            })
        };
        let mut terms: Vec<PathTerm> = pairs.map(term).collect::<Option<_>>()?;
        terms.shrink_to_fit();
        Some(OwnerPath { parent: entries[parent_at].number, terms, conditions: Vec::new() })
    }

    fn layout(&self, table: &Table) -> Layout {
        let default = if table.feed_hint.is_some() { Layout::Key } else { Layout::Owner };
        self.config.layout_of(&table.name).unwrap_or(default)
    }
}

/// Lets a path compare values like the path over the same columns, if there is one.
fn compare_like_same(path: &mut OwnerPath, todays: &[OwnerPath]) {
    if let Some(todays) = todays.iter().find(|todays| todays.has_pairs_of(path)) {
        path.compare_like(todays);
    }
}

fn find_column<'t>(table: &'t Table, name: &str) -> Option<&'t Column> {
    table.columns.iter().find(|column| column.name == name)
}

/// A catalog without tables: what the description says about the source, and what is carried over.
fn described_parts(prior: Option<&Catalog>, description: &Description) -> Catalog {
    Catalog {
        engine: engine_name(description.engine).to_owned(),
        identity: description.identity.clone(),
        large_object_page: description.large_object_page,
        ..prior.map(carried_parts).unwrap_or_default()
    }
}

/// What a catalog carries over that no table needs: settings, addresses, unknown members.
fn carried_parts(prior: &Catalog) -> Catalog {
    Catalog {
        addresses: prior.addresses.clone(),
        settings: prior.settings.clone(),
        dictionaries: prior.dictionaries.clone(),
        unknown: prior.unknown.clone(),
        ..Catalog::default()
    }
}

fn column_number(entry: &TableEntry, name: &str) -> Option<u32> {
    entry.columns.iter().find(|column| column.name == name).map(|column| column.number)
}

/// Drops pinned paths over a column or table that no longer exists.
fn drop_broken_paths(entries: &mut [TableEntry], drift: &mut Vec<Finding>) {
    let columns = ColumnsByTable::of(entries);
    for entry in entries {
        let before = entry.paths.len();
        let number = entry.number;
        entry.paths.retain(|path| columns.has_path(number, path));
        if entry.paths.len() < before {
            let detail = "a column or table on the path to its owner no longer exists";
            drift.push(Finding::new(PlacementDrift, &entry.name, detail));
        }
    }
}

/// The numbers of all existing columns, by the number of their table.
struct ColumnsByTable(BTreeMap<u32, Vec<u32>>);

impl ColumnsByTable {
    fn of(entries: &[TableEntry]) -> Self {
        Self(entries.iter().map(|entry| (entry.number, column_numbers(entry))).collect())
    }

    fn has_path(&self, table: u32, path: &OwnerPath) -> bool {
        !path.terms.is_empty()
            && self.has_all(path.parent, path.parent_columns())
            && self.has_all(table, path.columns())
    }

    fn has_all(&self, table: u32, mut needed: impl Iterator<Item = u32>) -> bool {
        let columns = self.0.get(&table);
        columns.is_some_and(|columns| needed.all(|column| columns.contains(&column)))
    }
}

fn column_numbers(entry: &TableEntry) -> Vec<u32> {
    entry.columns.iter().map(|column| column.number).collect()
}
