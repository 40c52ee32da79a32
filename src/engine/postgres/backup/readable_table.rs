//! A table as the sessions of an image read it: its columns, its parent values, and the parts that are read separately
//! (its relations, and page ranges of large relations).
//!
//! Within one image a row keeps its `ctid`, so ranges of `ctid` together contain every row exactly once. Servers before
//! 14 would scan the whole table for each range (PostgreSQL 14 release notes, TID range scans). Access methods other
//! than heap need not have ordered pages.

use std::sync::OnceLock;

use crate::base::finding::{Finding, FindingKind};
use crate::engine::postgres::backup::image::{PgImage, TableLock};
use crate::engine::postgres::backup::parent_values::{ParentValue, ParentValues, ParentValuesByKey};
use crate::engine::postgres::backup::read_options::{Gentle, ReadOptions};
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::schema::table::{Parent, PgTable, TableRelation};
use crate::engine::postgres::value::column_type::{ColumnType, FormatPreference, PgTypes};
use crate::engine::postgres::value::parent_value_cells::ParentValueCells;

/// The first version with TID range scans.
const RANGES_SINCE: i32 = 140_000;
/// Pages of a part: 16 MB, not counting TOAST values.
const PART_PAGES: u64 = 2048;
/// PostgreSQL's limit on the columns of a SELECT.
const SELECTED_MAX: usize = 1664;

/// What one session reads at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ScanPart {
    /// Qualified and quoted for SQL.
    pub(super) sql_name: String,
    /// SQL condition for the WHERE clause.
    pub(super) range: Option<String>,
    pub(super) order: RowOrder,
}

/// The order in which a server returns the rows of a SELECT without ORDER BY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RowOrder {
    /// In physical order: synchronized scans and parallel workers are off.
    ByCtid,
    Unknown,
}

/// Splits a table with these relations into parts for a server of this version. Together they contain every row exactly
/// once.
pub(super) fn scan_parts(relations: &[TableRelation], version: i32, options: &ReadOptions) -> Vec<ScanPart> {
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

fn row_order(relation: &TableRelation) -> RowOrder {
    match relation.access_method.as_str() {
        "heap" => RowOrder::ByCtid,
        _ => RowOrder::Unknown,
    }
}

fn push_ranges(parts: &mut Vec<ScanPart>, relation: &TableRelation) {
    let count = relation.pages / PART_PAGES;
    for at in 0..count {
        parts.push(ScanPart::new(relation, Some(range_condition(at, count))));
    }
}

fn range_condition(at: u64, count: u64) -> String {
    let next = at + 1;
    let range = format!("ctid >= '({},0)'::pg_catalog.tid", at * PART_PAGES);
    // The last range is open: the table may have grown since.
    if next == count {
        return range;
    }
    format!("{range} AND ctid < '({},0)'::pg_catalog.tid", next * PART_PAGES)
}

impl ScanPart {
    fn new(relation: &TableRelation, range: Option<String>) -> Self {
        Self { sql_name: relation.sql_name.clone(), range, order: row_order(relation) }
    }
}

/// A table that is ready to be read.
pub(super) struct ReadableTable {
    pub(super) name: String,
    /// Names and types, in the order in which cells are delivered.
    columns: Vec<(String, ColumnType)>,
    /// A column of unknown type. An error only if the rows are read.
    pub(super) untyped_column: Option<String>,
    pub(super) condition: Option<String>,
    pub(super) parts: Vec<ScanPart>,
    /// Parent values that the server can look up, by the position of their foreign key in the table.
    available: ParentValuesByKey,
    /// Positions of the foreign keys whose parent values were requested.
    requested: Vec<usize>,
    /// Why parents are not looked up, if they are not.
    pub(super) lookup_obstacle: Option<String>,
    /// Set once the gap about missing parent values is reported.
    is_gap_reported: OnceLock<()>,
}

fn typed_columns(table: &PgTable, types: &PgTypes) -> Vec<(String, ColumnType)> {
    let mut columns = Vec::with_capacity(table.columns.len());
    for (column, stored) in table.described.columns.iter().zip(&table.columns) {
        if let Some(kind) = types.get(stored.type_oid) {
            columns.push((column.name.to_string(), kind.clone()));
        }
    }
    columns
}

/// The first column of unknown type.
fn untyped_column(table: &PgTable, types: &PgTypes) -> Option<String> {
    let mut columns = table.described.columns.iter().zip(&table.columns);
    let (column, _) = columns.find(|(_, stored)| types.get(stored.type_oid).is_none())?;
    Some(column.name.to_string())
}

/// Whether a SELECT looks up parents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ParentMode {
    LookUp,
    /// Each parent value is replaced by the row's own value.
    Skip,
}

/// A column of a SELECT.
pub(super) struct SelectedColumn {
    pub(super) column: (String, ColumnType),
    pub(super) sql: String,
}

impl SelectedColumn {
    fn own(name: &str, kind: &ColumnType, preference: FormatPreference) -> Self {
        Self { column: (name.to_owned(), kind.clone()), sql: kind.select(name, preference) }
    }

    fn of_parent(value: &ParentValue<'_>, part: &ScanPart, preference: FormatPreference) -> Self {
        Self { column: value.column(), sql: value.select(&part.sql_name, preference) }
    }
}

impl ReadableTable {
    /// A table that is read in these parts. `available` are the parent values that the server can look up.
    pub(super) fn new(table: &PgTable, types: &PgTypes, parts: Vec<ScanPart>, available: ParentValuesByKey) -> Self {
        Self {
            name: table.described.name.clone(),
            columns: typed_columns(table, types),
            untyped_column: untyped_column(table, types),
            condition: table.condition.as_ref().map(|sql| format!("({sql})")),
            parts,
            available,
            requested: Vec::new(),
            lookup_obstacle: None,
            is_gap_reported: OnceLock::new(),
        }
    }

    /// Requests that rows have parent values for this foreign key.
    pub(super) fn request_parent_values(&mut self, foreign_key: usize) {
        if self.available.contains_key(&foreign_key) {
            self.requested.push(foreign_key);
        }
    }

    /// Locks the parents that are not locked yet.
    /// Fails as [`PgImage::try_lock`] does. Parents whose lock is not available are not looked up.
    pub(super) fn lock_parents(&mut self, image: &PgImage) -> Result<(), PostgresError> {
        self.lookup_obstacle = self.lock_requested_parents(image)?;
        if self.columns.len() + self.parent_values().count() > SELECTED_MAX {
            self.lookup_obstacle = Some("the table has too many columns".to_owned());
        }
        Ok(())
    }

    /// Why one of the parents cannot be read, if so.
    fn lock_requested_parents(&self, image: &PgImage) -> Result<Option<String>, PostgresError> {
        let mut obstacle = None;
        for values in self.requested_parent_values() {
            let Parent::Partitioned(parent) = &values.parent else { continue };
            if image.try_lock(image.leader(), parent)? == TableLock::Contended {
                obstacle = Some(format!("another session keeps {parent} locked"));
            }
        }
        Ok(obstacle)
    }

    fn requested_parent_values(&self) -> impl Iterator<Item = &ParentValues> {
        self.requested.iter().filter_map(|foreign_key| self.available.get(foreign_key))
    }

    fn parent_values(&self) -> impl Iterator<Item = ParentValue<'_>> {
        self.requested_parent_values().flat_map(ParentValues::values)
    }

    /// Whether parent values were requested.
    pub(super) fn has_parent_values(&self) -> bool {
        self.parent_values().next().is_some()
    }

    /// The tables that must be locked while a part is read.
    pub(super) fn tables_to_lock(&self, part: &ScanPart) -> Vec<String> {
        let mut tables = vec![format!("ONLY {}", part.sql_name)];
        if self.lookup_obstacle.is_none() {
            tables.extend(self.requested_parent_values().map(|values| values.parent.sql().to_owned()));
        }
        tables
    }

    /// All columns of the SELECT.
    pub(super) fn selected(
        &self,
        part: &ScanPart,
        parents: ParentMode,
        preference: FormatPreference,
    ) -> Vec<SelectedColumn> {
        let mut selected: Vec<SelectedColumn> =
            self.columns.iter().map(|(name, kind)| SelectedColumn::own(name, kind, preference)).collect();
        if parents == ParentMode::LookUp {
            selected.extend(self.parent_values().map(|value| SelectedColumn::of_parent(&value, part, preference)));
        }
        selected
    }

    /// The cells that follow the table's own.
    pub(super) fn parent_value_cells(&self) -> ParentValueCells {
        let positions = self.parent_values().map(|value| value.child_position()).collect();
        ParentValueCells { after: self.columns.len(), of: positions }
    }

    /// The gap that parents could not be looked up. None if it is already reported.
    pub(super) fn lookup_gap(&self, reason: &str) -> Option<Finding> {
        self.is_gap_reported.set(()).ok()?;
        let reason = format!(
            "the parent values of its rows could not be looked up ({reason}): rows that write their parent's key \
             differently are captured, but not assigned to their owner"
        );
        Some(Finding::new(FindingKind::ParentsNotAsked, &self.name, reason))
    }

    /// A SELECT of the rows that meet this condition and the conditions of the table and the part.
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
    use crate::engine::postgres::schema::table::TableRelation;

    fn relation(pages: u64, access_method: &str) -> TableRelation {
        TableRelation {
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
    fn ranges_are_contiguous_and_the_last_is_open() {
        let found = scan_parts(&[relation(PART_PAGES * 3 + 5, "heap")], 150_000, &options(2, Gentle::No));
        let ranges: Vec<String> = found.into_iter().filter_map(|part| part.range).collect();
        let expected = [
            "ctid >= '(0,0)'::pg_catalog.tid AND ctid < '(2048,0)'::pg_catalog.tid",
            "ctid >= '(2048,0)'::pg_catalog.tid AND ctid < '(4096,0)'::pg_catalog.tid",
            "ctid >= '(4096,0)'::pg_catalog.tid",
        ];
        assert_eq!(ranges, expected);
    }

    #[test]
    fn a_relation_that_gains_nothing_from_ranges_is_one_part() {
        let large = || [relation(PART_PAGES * 100, "heap")];
        for (relations, version, options) in [
            (large(), 130_000, options(4, Gentle::No)),
            (large(), 150_000, options(4, Gentle::Yes)),
            (large(), 150_000, options(1, Gentle::No)),
            ([relation(PART_PAGES * 100, "columnar")], 150_000, options(4, Gentle::No)),
            ([relation(PART_PAGES, "heap")], 150_000, options(4, Gentle::No)),
        ] {
            let found = scan_parts(&relations, version, &options);
            assert!(matches!(found.as_slice(), [one] if one.range.is_none()), "{found:?}");
        }
    }
}
