//! Names tables of which rows or values could not be read when the snapshot was taken.

use crate::base::finding::{Finding, FindingKind};
use crate::format::manifest::TableSummary;

/// The finding about such a table.
#[must_use]
pub(super) fn lost_data(table: &TableSummary) -> Option<Finding> {
    let TableSummary { name, lost_rows: rows, lost_cells: values, .. } = table;
    let kind = FindingKind::LostData { rows: *rows, values: *values };
    let detail = format!("{rows} rows and {values} values could not be read when the snapshot was taken");
    (*rows > 0 || *values > 0).then(|| Finding::new(kind, name, detail))
}
