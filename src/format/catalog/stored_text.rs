//! Compares a stored catalog with the catalog that was to be stored.

use std::io::{Error, ErrorKind, Result, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::format::catalog::catalog::Catalog;

impl Catalog {
    /// Whether `stored` is the text of this catalog, and readers understand it. Reads one table at a time: with 100,000
    /// tables, a second catalog would take more memory than everything else.
    #[must_use]
    pub fn is_stored_as(&self, stored: &[u8]) -> bool {
        let mut rest = ExpectedText(stored);
        let is_same = serde_json::to_writer(&mut rest, self).is_ok() && rest.0.is_empty();
        is_same && is_understood(&self.without_tables()) && self.tables.iter().all(is_understood)
    }

    fn without_tables(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            identity: self.identity.clone(),
            addresses: self.addresses.clone(),
            schema_digest: self.schema_digest.clone(),
            owners: self.owners.clone(),
            next_kind: self.next_kind,
            next_table: self.next_table,
            large_object_page: self.large_object_page,
            settings: self.settings.clone(),
            tables: Vec::new(),
            dictionaries: self.dictionaries.clone(),
            unknown: self.unknown.clone(),
        }
    }
}

fn is_understood<T: Serialize + DeserializeOwned + PartialEq>(value: &T) -> bool {
    let text = serde_json::to_vec(value);
    let read = text.and_then(|text| serde_json::from_slice::<T>(&text));
    read.is_ok_and(|read| read == *value)
}

/// Text that is expected to be written. A write of anything else fails.
struct ExpectedText<'t>(&'t [u8]);

impl Write for ExpectedText<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or_else(|| Error::from(ErrorKind::InvalidData))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::format::catalog::Catalog;

    #[test]
    fn only_the_text_of_a_catalog_is_accepted() {
        let table = json!({
            "number": 1, "name": "t", "oid": null, "columns": [], "next_column": 0, "key": [], "layout": "owner",
            "paths": [], "later": {"a": 1},
        });
        let catalog: Catalog = serde_json::from_value(json!({
            "engine": "sqlite", "identity": {}, "schema_digest": "", "owners": [], "next_kind": 1, "next_table": 2,
            "tables": [table],
        }))
        .expect("a catalog");
        let text = serde_json::to_vec(&catalog).expect("JSON");
        assert!(catalog.is_stored_as(&text));
        assert!(!catalog.is_stored_as(&text[..text.len() - 1]));
        assert!(!catalog.is_stored_as(&[&text[..], b" "].concat()));
        for at in 0..text.len() {
            let mut other = text.clone();
            other[at] ^= 1;
            assert!(!catalog.is_stored_as(&other), "{at}");
        }
    }
}
