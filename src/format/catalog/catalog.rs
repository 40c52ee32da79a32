//! What the next backup run needs to turn the same rows into the same bytes, and what a restore without the host needs.
//! Numbers and kinds are assigned once and never reused.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::base::limit::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, DICTIONARIES_MAX};
use crate::base::shared_text::SharedTexts;
use crate::format::catalog::dictionary_entry::DictionaryEntry;
use crate::format::catalog::name::find_name;
use crate::format::catalog::numbers::replace;
use crate::format::catalog::settings::Settings;
use crate::format::catalog::table::{TableEntry, UnknownMembers};

/// The pinned parameters of a source.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Catalog {
    /// `sqlite` or `postgres`.
    pub engine: String,
    /// Facts that distinguish this source from another one with the same name.
    pub identity: BTreeMap<String, String>,
    /// Addresses under which the source was backed up, the newest last. They contain no user and no password.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Keyed hash of the schema document, hex.
    pub schema_digest: String,
    /// The tables whose rows are the owners.
    pub owners: Vec<OwnerTable>,
    /// No table ever had a kind from here on.
    pub next_kind: u16,
    pub next_table: u32,
    /// Bytes per page of large objects, if the source has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_object_page: Option<u32>,
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
    pub tables: Vec<TableEntry>,
    /// The dictionaries of this epoch, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dictionaries: Vec<DictionaryEntry>,
    #[serde(flatten)]
    pub unknown: UnknownMembers,
}

/// A table whose rows are owners.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OwnerTable {
    /// Precedes the owner's key in placement keys. Never 0.
    pub kind: u8,
    /// Its table number.
    pub table: u32,
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

    /// The kind of the owners that are rows of this table.
    #[must_use]
    pub fn owner_kind(&self, table: u32) -> Option<u8> {
        let mut owners = self.owners.iter();
        owners.find(|owner| owner.table == table).map(|owner| owner.kind)
    }

    /// Makes this the newest address. The oldest ones are dropped, and an address that is too long is not kept.
    pub fn add_address(&mut self, address: &str) {
        if address.len() > ADDRESS_BYTES_MAX {
            return;
        }
        self.addresses.retain(|known| known != address);
        self.addresses.push(address.to_owned());
        let surplus = self.addresses.len().saturating_sub(ADDRESSES_MAX);
        self.addresses.drain(..surplus);
    }

    /// Names these dictionaries, the newest last. The oldest ones are left out: a leaf's own pack has them too.
    pub fn set_dictionaries(&mut self, dictionaries: &[DictionaryEntry]) {
        let surplus = dictionaries.len().saturating_sub(DICTIONARIES_MAX);
        self.dictionaries = dictionaries[surplus..].to_vec();
    }

    /// Lets columns with equal names share them.
    pub fn share_names(&mut self) {
        let mut names = SharedTexts::default();
        for column in self.tables.iter_mut().flat_map(|table| &mut table.columns) {
            names.share(&mut column.name);
        }
    }

    /// The same catalog with tables numbered from `first`. Columns keep their numbers, and owner tables their kinds.
    #[must_use]
    pub fn renumbered(mut self, first: u32) -> Self {
        let numbers = self.numbers_from(first);
        self.owners.retain_mut(|owner| replace(&mut owner.table, &numbers));
        self.settings.renumber(&numbers);
        self.dictionaries.retain_mut(|dictionary| replace(&mut dictionary.table, &numbers));
        self.next_table = first.saturating_add(self.tables.len() as u32);
        for table in &mut self.tables {
            table.renumber(&numbers);
        }
        self
    }

    /// Maps each table number to its replacement, starting at `first`.
    fn numbers_from(&self, first: u32) -> HashMap<u32, u32> {
        self.tables.iter().map(|table| table.number).zip(first..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Catalog;

    #[test]
    fn the_newest_addresses_are_kept() {
        let mut catalog = Catalog::default();
        (0..20).for_each(|n| catalog.add_address(&format!("sqlite:///{n}")));
        catalog.add_address("sqlite:///7");
        catalog.add_address(&"x".repeat(2000));
        assert_eq!(catalog.addresses.len(), 16);
        assert_eq!(catalog.addresses[0], "sqlite:///4");
        assert_eq!(catalog.addresses[14..], ["sqlite:///19", "sqlite:///7"]);
        assert_eq!(catalog.addresses.iter().filter(|address| *address == "sqlite:///7").count(), 1);
    }
}
