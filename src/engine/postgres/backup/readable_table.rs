//! A table as the sessions of an image read it: its columns, the values of parents beside them, and the parts that are
//! read one at a time: its relations, and of large ones ranges of pages.
//!
//! Within one image a row stays where it is, so ranges of `ctid` neither miss a row nor have one twice. Servers before
//! 14 would scan the whole table for each range (PostgreSQL 14 release notes, TID range scans), and what is not a heap
//! need not have pages in an order.

use std::sync::OnceLock;

use crate::base::finding::{Finding, FindingKind};
use crate::engine::postgres::backup::image::{PgImage, TableLock};
use crate::engine::postgres::backup::parent_keys::{ParentLookup, ParentLookups, ParentValue};
use crate::engine::postgres::backup::read_options::{Gentle, ReadOptions};
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::schema::table::{Parent, PgTable, TablePart};
use crate::engine::postgres::value::column_type::{ColumnType, FormatPreference, PgTypes};
use crate::engine::postgres::value::companions::Companions;

/// The first server that reads ranges of pages.
const RANGES_SINCE: i32 = 140_000;
/// Pages of a part: 16 MB. Values that lie outside of their rows come on top.
const PART_PAGES: u64 = 2048;
/// The most that one SELECT can give.
const SELECTED_MAX: usize = 1664;

/// What one session reads in one go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ScanPart {
    /// Quoted for SQL.
    pub(super) sql_name: String,
    /// As SQL after WHERE.
    pub(super) range: Option<String>,
    pub(super) order: RowOrder,
}

/// In which order a server gives rows of a SELECT without ORDER BY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RowOrder {
    /// As they lie: the scan joins no other one, and no parallel worker takes part.
    ByCtid,
    Unknown,
}

/// The parts of a table with these relations on a server of this version. Together they are every row once.
pub(super) fn scan_parts(relations: &[TablePart], version: i32, options: &ReadOptions) -> Vec<ScanPart> {
    let has_ranges = options.gentle == Gentle::No && options.sessions.get() > 1 && version >= RANGES_SINCE;
    let mut parts = Vec::new();
    for relation in relations {
        let is_large = relation.pages >= 2 * PART_PAGES;
        if has_ranges && is_large && row_order(relation) == RowOrder::ByCtid {
            push_ranges(&mut parts, relation);
        } else {
            parts.push(ScanPart::new(relation, None));
        }
    }
    parts
}

fn row_order(relation: &TablePart) -> RowOrder {
    match relation.access_method.as_str() {
        "heap" => RowOrder::ByCtid,
        _ => RowOrder::Unknown,
    }
}

fn push_ranges(parts: &mut Vec<ScanPart>, relation: &TablePart) {
    let count = relation.pages / PART_PAGES;
    for at in 0..count {
        parts.push(ScanPart::new(relation, Some(range_condition(at, count))));
    }
}

fn range_condition(at: u64, count: u64) -> String {
    let next = at + 1;
    let range = format!("ctid >= '({},0)'::pg_catalog.tid", at * PART_PAGES);
    // The last range has no end: the table may have more pages by now.
    if next == count {
        return range;
    }
    format!("{range} AND ctid < '({},0)'::pg_catalog.tid", next * PART_PAGES)
}

impl ScanPart {
    fn new(relation: &TablePart, range: Option<String>) -> Self {
        Self { sql_name: relation.sql_name.clone(), range, order: row_order(relation) }
    }
}

/// A table, ready to be read.
pub(super) struct ReadableTable {
    pub(super) name: String,
    /// Names and types, in the order of delivery.
    columns: Vec<(String, ColumnType)>,
    /// A column whose type is not known: an error only if somebody wants the rows.
    pub(super) untyped_column: Option<String>,
    pub(super) condition: Option<String>,
    pub(super) parts: Vec<ScanPart>,
    /// By their place among the table's foreign keys: those that the server can look up.
    lookups: ParentLookups,
    /// Those whose parents' values were requested.
    requested: Vec<usize>,
    /// Why parents are not looked up, if they are not.
    pub(super) lookup_obstacle: Option<String>,
    /// Set once the gap is reported that parents could not be looked up.
    is_gap_reported: OnceLock<()>,
}

fn typed_columns(table: &PgTable, types: &PgTypes) -> Vec<(String, ColumnType)> {
    let mut columns = Vec::with_capacity(table.columns.len());
    for (column, stored) in table.table.columns.iter().zip(&table.columns) {
        if let Some(kind) = types.get(stored.type_oid) {
            columns.push((column.name.clone(), kind.clone()));
        }
    }
    columns
}

/// The first column whose type is not known.
fn untyped_column(table: &PgTable, types: &PgTypes) -> Option<String> {
    let mut columns = table.table.columns.iter().zip(&table.columns);
    let (column, _) = columns.find(|(_, stored)| types.get(stored.type_oid).is_none())?;
    Some(column.name.clone())
}

/// Whether a SELECT looks parents up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ParentMode {
    LookUp,
    /// The row's own value stands in place of each parent value.
    Skip,
}

/// A column of a SELECT.
pub(super) struct SelectedColumn {
    pub(super) column: (String, ColumnType),
    pub(super) sql: String,
}

impl SelectedColumn {
    fn own(name: &str, kind: &ColumnType, mode: FormatPreference) -> Self {
        Self { column: (name.to_owned(), kind.clone()), sql: kind.select(name, mode) }
    }

    fn of_parent(value: &ParentValue<'_>, part: &ScanPart, mode: FormatPreference) -> Self {
        Self { column: value.column(), sql: value.select(&part.sql_name, mode) }
    }
}

impl ReadableTable {
    pub(super) fn new(table: &PgTable, types: &PgTypes, parts: Vec<ScanPart>, lookups: ParentLookups) -> Self {
        Self {
            name: table.table.name.clone(),
            columns: typed_columns(table, types),
            untyped_column: untyped_column(table, types),
            condition: table.condition.as_ref().map(|sql| format!("({sql})")),
            parts,
            lookups,
            requested: Vec::new(),
            lookup_obstacle: None,
            is_gap_reported: OnceLock::new(),
        }
    }

    /// From now on its rows have parent values for this foreign key.
    pub(super) fn request_parent_values(&mut self, foreign_key: usize) {
        if self.lookups.contains_key(&foreign_key) {
            self.requested.push(foreign_key);
        }
    }

    /// Locks the parents that are not locked yet.
    pub(super) fn lock_parents(&mut self, image: &PgImage) -> Result<(), PostgresError> {
        self.lookup_obstacle = self.lock_requested_parents(image)?;
        if self.columns.len() + self.parent_values().count() > SELECTED_MAX {
            self.lookup_obstacle = Some("the table has too many columns".to_owned());
        }
        Ok(())
    }

    /// Why one of them cannot be read, if so.
    fn lock_requested_parents(&self, image: &PgImage) -> Result<Option<String>, PostgresError> {
        let mut obstacle = None;
        for lookup in self.requested_lookups() {
            let Parent::Partitioned(parent) = &lookup.parent else { continue };
            if image.try_lock(image.leader(), parent)? == TableLock::Contended {
                obstacle = Some(format!("somebody keeps {parent} locked"));
            }
        }
        Ok(obstacle)
    }

    fn requested_lookups(&self) -> impl Iterator<Item = &ParentLookup> {
        self.requested.iter().filter_map(|foreign_key| self.lookups.get(foreign_key))
    }

    fn parent_values(&self) -> impl Iterator<Item = ParentValue<'_>> {
        self.requested_lookups().flat_map(ParentLookup::values)
    }

    pub(super) fn has_parent_values(&self) -> bool {
        self.parent_values().next().is_some()
    }

    /// The tables that are to be locked while a part is read.
    pub(super) fn tables_to_lock(&self, part: &ScanPart) -> Vec<String> {
        let mut tables = vec![format!("ONLY {}", part.sql_name)];
        if self.lookup_obstacle.is_none() {
            tables.extend(self.requested_lookups().map(|lookup| lookup.parent.sql().to_owned()));
        }
        tables
    }

    /// Everything that is selected.
    pub(super) fn selected(&self, part: &ScanPart, parents: ParentMode, mode: FormatPreference) -> Vec<SelectedColumn> {
        let mut selected: Vec<SelectedColumn> =
            self.columns.iter().map(|(name, kind)| SelectedColumn::own(name, kind, mode)).collect();
        if parents == ParentMode::LookUp {
            selected.extend(self.parent_values().map(|value| SelectedColumn::of_parent(&value, part, mode)));
        }
        selected
    }

    /// The cells that follow the table's own.
    pub(super) fn parent_cells(&self) -> Companions {
        let positions = self.parent_values().map(|value| value.child_position()).collect();
        Companions { after: self.columns.len(), of: positions }
    }

    /// That parents could not be looked up; None if it is reported already.
    pub(super) fn lookup_gap(&self, reason: &str) -> Option<Finding> {
        self.is_gap_reported.set(()).ok()?;
        let reason = format!(
            "the parents of its rows could not be asked how they write their keys ({reason}): rows that write them \
             otherwise are captured, but not found by their user"
        );
        Some(Finding::new(FindingKind::ParentsNotAsked, &self.name, reason))
    }

    /// A SELECT of rows that meet this condition, and those of table and part.
    pub(super) fn select(&self, part: &ScanPart, what: &str, condition: Option<&str>) -> String {
        let conditions = [self.condition.as_deref(), part.range.as_deref(), condition];
        let conditions: Vec<&str> = conditions.into_iter().flatten().collect();
        let keyword = if conditions.is_empty() { "" } else { " WHERE " };
        format!("SELECT {what} FROM ONLY {}{keyword}{}", part.sql_name, conditions.join(" AND "))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::{PART_PAGES, scan_parts};
    use crate::engine::postgres::backup::read_options::{Gentle, ReadOptions};
    use crate::engine::postgres::schema::table::TablePart;

    fn part(pages: u64, access_method: &str) -> TablePart {
        TablePart {
            oid: 1,
            name: "public.t".to_owned(),
            sql_name: "\"public\".\"t\"".to_owned(),
            access_method: access_method.to_owned(),
            pages,
        }
    }

    fn options(sessions: usize, gentle: Gentle) -> ReadOptions {
        let sessions = NonZeroUsize::new(sessions).expect("not zero");
        ReadOptions { sessions, gentle, ..ReadOptions::default() }
    }

    #[test]
    fn ranges_touch_and_the_last_has_no_end() {
        let found = scan_parts(&[part(PART_PAGES * 3 + 5, "heap")], 150_000, &options(2, Gentle::No));
        let ranges: Vec<String> = found.into_iter().filter_map(|part| part.range).collect();
        let expected = [
            "ctid >= '(0,0)'::pg_catalog.tid AND ctid < '(2048,0)'::pg_catalog.tid",
            "ctid >= '(2048,0)'::pg_catalog.tid AND ctid < '(4096,0)'::pg_catalog.tid",
            "ctid >= '(4096,0)'::pg_catalog.tid",
        ];
        assert_eq!(ranges, expected);
    }

    #[test]
    fn one_part_where_ranges_help_nobody() {
        let large = || [part(PART_PAGES * 100, "heap")];
        for (parts, version, options) in [
            (large(), 130_000, options(4, Gentle::No)),
            (large(), 150_000, options(4, Gentle::Yes)),
            (large(), 150_000, options(1, Gentle::No)),
            ([part(PART_PAGES * 100, "columnar")], 150_000, options(4, Gentle::No)),
            ([part(PART_PAGES, "heap")], 150_000, options(4, Gentle::No)),
        ] {
            let found = scan_parts(&parts, version, &options);
            assert!(matches!(found.as_slice(), [one] if one.range.is_none()), "{found:?}");
        }
    }
}
