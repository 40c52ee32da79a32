//! Tables and columns of the catalog.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::base::shared_text::SharedText;
use crate::format::catalog::numbers::replace;
use crate::format::catalog::path::{DownwardPath, OwnerPath};
use crate::format::catalog::{cell_text, exact};
use crate::format::cell::OwnedCell;
use crate::format::manifest::Layout;

/// Members that this version does not know. They are carried forward unchanged.
pub type UnknownMembers = serde_json::Map<String, serde_json::Value>;

/// A table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableEntry {
    pub number: u32,
    pub name: String,
    pub oid: Option<u64>,
    /// Live columns, in ascending order of number.
    #[serde(deserialize_with = "exact::list")]
    pub columns: Vec<ColumnEntry>,
    pub next_column: u32,
    /// Column numbers of the key.
    #[serde(deserialize_with = "exact::list")]
    pub key: Vec<u32>,
    pub layout: Layout,
    /// Paths to the owner. The first path that leads anywhere places a row. If empty, rows have no owner.
    #[serde(deserialize_with = "exact::list")]
    pub paths: Vec<OwnerPath>,
    /// Paths from below: the rows belong to the owners of the rows that refer to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub below: Vec<DownwardPath>,
    /// What somebody declared about the owner of the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Column numbers by whose values people find an owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<u32>,
    #[serde(flatten)]
    pub unknown: UnknownMembers,
}

/// A declared answer to the question which owner the rows of a table have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// They belong to no owner.
    Global,
    /// They are stored in the order of their keys, whatever owner they have.
    Key,
}

/// A column.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ColumnEntry {
    pub number: u32,
    pub name: SharedText,
    /// Position in the source's column order.
    pub position: u32,
    #[serde(default, skip_serializing_if = "Visibility::is_declared")]
    pub visibility: Visibility,
    /// Set if the database computes the values, so that a restore must not insert them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<Generated>,
    /// The value that rows written before the column existed have. Trailing cells equal to it are left out.
    #[serde(with = "cell_text")]
    pub missing: OwnedCell,
    #[serde(flatten)]
    pub unknown: UnknownMembers,
}

/// When the database computes the values of a generated column.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Generated {
    /// When a row is written.
    Stored,
    /// When a row is read.
    Virtual,
}

/// Whether a column is part of the table's definition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    #[default]
    Declared,
    /// `SQLite`'s rowid.
    Hidden,
}

impl Visibility {
    fn is_declared(&self) -> bool {
        *self == Self::Declared
    }
}

impl TableEntry {
    /// Gives the table and the tables that its paths lead to other numbers. Paths to other tables are dropped.
    pub(super) fn renumber(&mut self, numbers: &HashMap<u32, u32>) {
        replace(&mut self.number, numbers);
        self.paths.retain_mut(|path| replace(&mut path.parent, numbers));
        self.below.retain_mut(|path| replace(&mut path.child, numbers));
    }

    /// The live column with this number.
    #[must_use]
    pub fn column(&self, number: u32) -> Option<&ColumnEntry> {
        self.columns.iter().find(|column| column.number == number)
    }
}

#[cfg(test)]
mod tests {
    use super::ColumnEntry;
    use crate::format::catalog::Catalog;

    /// A million columns must not take more memory than everything else.
    #[test]
    fn a_column_takes_little_memory() {
        assert!(size_of::<ColumnEntry>() <= 72);
        let column =
            |number: u32| serde_json::json!({"number": number, "name": "id", "position": 0, "missing": "AA=="});
        let table = |number: u32| {
            serde_json::json!({
                "number": number, "name": "t", "oid": null, "columns": [column(0), column(1)], "next_column": 2,
                "key": [], "layout": "owner", "paths": [],
            })
        };
        let mut catalog: Catalog = serde_json::from_value(serde_json::json!({
            "engine": "sqlite", "identity": {}, "schema_digest": "", "owners": [], "next_kind": 1, "next_table": 3,
            "tables": [table(1), table(2)],
        }))
        .expect("a catalog");
        catalog.share_names();
        let names: Vec<*const u8> = catalog
            .tables
            .iter()
            .flat_map(|table| &table.columns)
            .map(|column| column.name.as_str().as_ptr())
            .collect();
        assert!(names.iter().all(|name| *name == names[0]));
    }
}
