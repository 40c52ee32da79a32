//! The catalog section of a manifest (`docs/format.md` section 9): what the next backup run needs to turn the same rows
//! into the same bytes. Numbers are assigned once and never reused.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::format::cell::OwnedCell;
use crate::format::manifest::Layout;

/// The pinned parameters of a source.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Catalog {
    /// `sqlite` or `postgres`.
    pub engine: String,
    /// Facts that distinguish this source from another one with the same name.
    pub identity: BTreeMap<String, String>,
    /// Keyed hash of the schema document, hex.
    pub schema_digest: String,
    /// Number of the table whose rows are the owners.
    pub owner_table: Option<u32>,
    pub next_table: u32,
    pub tables: Vec<TableEntry>,
}

/// A table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableEntry {
    pub number: u32,
    pub name: String,
    pub oid: Option<u64>,
    /// Live columns, in ascending order of number.
    pub columns: Vec<ColumnEntry>,
    pub next_column: u32,
    /// Column numbers of the key.
    pub key: Vec<u32>,
    pub layout: Layout,
    /// Paths to the owner. The first path without a null places a row. If empty, rows have no owner.
    pub paths: Vec<OwnerPath>,
    /// Pinned once the table has enough rows.
    pub rows_per_leaf: Option<u32>,
}

/// A column.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ColumnEntry {
    pub number: u32,
    pub name: String,
    /// Position in the source's column order.
    pub position: u32,
    #[serde(default, skip_serializing_if = "Visibility::is_declared")]
    pub visibility: Visibility,
    /// The value that rows written before the column existed have. Trailing cells equal to it are left out.
    #[serde(with = "cell_as_base64")]
    pub missing: OwnedCell,
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

/// A foreign key to a parent row that has the owner.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OwnerPath {
    /// Column numbers in this table.
    pub columns: Vec<u32>,
    /// Table number of the parent.
    pub parent: u32,
    /// Column numbers in the parent table.
    pub parent_columns: Vec<u32>,
}

/// Position of the table that a user means by `wanted`: an exact match or, failing that, the only name that equals
/// `wanted` without its schema.
pub fn find_name<'n>(names: impl Iterator<Item = &'n str> + Clone, wanted: &str) -> Option<usize> {
    let exactly = names.clone().position(|name| name == wanted);
    exactly.or_else(|| only_position(names, |name| is_without_schema(wanted, name)))
}

/// Position of the only name that satisfies `matches`. `None` if several do.
fn only_position<'n>(names: impl Iterator<Item = &'n str>, matches: impl Fn(&str) -> bool) -> Option<usize> {
    let mut matching = names.enumerate().filter(|(_, name)| matches(name));
    let (only, _) = matching.next()?;
    matching.next().is_none().then_some(only)
}

/// Whether a user may mean the table `name` by `wanted`: its full name, or its name without the schema.
#[must_use]
pub fn is_named(name: &str, wanted: &str) -> bool {
    name == wanted || is_without_schema(wanted, name)
}

/// Whether `wanted` is `name` without its schema.
fn is_without_schema(wanted: &str, name: &str) -> bool {
    name.strip_suffix(wanted).is_some_and(|schema| schema.ends_with('.'))
}

impl Catalog {
    /// The table with this number.
    #[must_use]
    pub fn table(&self, number: u32) -> Option<&TableEntry> {
        self.tables.iter().find(|table| table.number == number)
    }

    /// All tables by number, for many lookups.
    #[must_use]
    pub fn by_number(&self) -> HashMap<u32, &TableEntry> {
        // Reversed: the first of equal numbers counts.
        self.tables.iter().rev().map(|table| (table.number, table)).collect()
    }

    /// All tables by name, for many lookups.
    #[must_use]
    pub fn by_name(&self) -> HashMap<&str, &TableEntry> {
        self.tables.iter().rev().map(|table| (table.name.as_str(), table)).collect()
    }

    /// The table with exactly this name.
    #[must_use]
    pub fn table_named(&self, name: &str) -> Option<&TableEntry> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The table that a user means by `name`: an exact match or, failing that, the only table with this name in any
    /// schema.
    #[must_use]
    pub fn find_table(&self, name: &str) -> Option<&TableEntry> {
        let names = self.tables.iter().map(|table| table.name.as_str());
        Some(&self.tables[find_name(names, name)?])
    }

    /// The same catalog with tables numbered from `first`. Columns keep their numbers.
    #[must_use]
    pub fn renumbered(mut self, first: u32) -> Self {
        let numbers = self.numbers_from(first);
        self.owner_table = self.owner_table.and_then(|number| numbers.get(&number).copied());
        self.next_table = first.saturating_add(self.tables.len() as u32);
        for table in &mut self.tables {
            table.renumber(&numbers);
        }
        self
    }

    /// Maps each table number to its replacement, starting at `first`.
    fn numbers_from(&self, first: u32) -> BTreeMap<u32, u32> {
        self.tables.iter().map(|table| table.number).zip(first..).collect()
    }
}

impl TableEntry {
    fn renumber(&mut self, numbers: &BTreeMap<u32, u32>) {
        self.number = numbers[&self.number];
        // Drop paths whose parent table is not in the catalog.
        self.paths.retain(|path| numbers.contains_key(&path.parent));
        for path in &mut self.paths {
            path.parent = numbers[&path.parent];
        }
    }

    /// The live column with this number.
    #[must_use]
    pub fn column(&self, number: u32) -> Option<&ColumnEntry> {
        self.columns.iter().find(|column| column.number == number)
    }
}

mod cell_as_base64 {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::format::cell::OwnedCell;

    /// Writes the canonical bytes of a cell as base64 text.
    /// Fails only if the serializer fails.
    pub fn serialize<S: Serializer>(cell: &OwnedCell, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(cell.as_bytes()))
    }

    /// Reads base64 text of the canonical bytes of a cell.
    /// Fails if there is no text, if it is not base64, or if the bytes are not exactly one cell.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OwnedCell, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(Error::custom)?;
        OwnedCell::from_bytes(&bytes).map_err(Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::find_name;

    #[test]
    fn an_unqualified_name_matches_only_if_one_table_has_it() {
        let names = ["public.users", "app.photos", "old.photos", "users.log", "\"App Data\".\"Mixed\""];
        let meant = |wanted| find_name(names.into_iter(), wanted);
        assert_eq!((meant("users"), meant("public.users"), meant("old.photos")), (Some(0), Some(0), Some(2)));
        assert_eq!((meant("photos"), meant("sers"), meant("\"Mixed\"")), (None, None, Some(4)));
    }
}
