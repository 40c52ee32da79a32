//! Compares a stored catalog with the catalog that was to be stored.

use std::io::{Error, ErrorKind, Read, Result, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::format::catalog::catalog::Catalog;

impl Catalog {
    /// Whether `stored` is the text of this catalog, and readers understand it. Reads one table at a time: with 100,000
    /// tables, a second catalog would take more memory than everything else.
    #[must_use]
    pub fn is_stored_as(&self, stored: &mut impl Read) -> bool {
        let mut expected = ExpectedText { stored, read: Vec::new() };
        let is_same = serde_json::to_writer(&mut expected, self).is_ok() && expected.is_at_end();
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
struct ExpectedText<'t, R> {
    stored: &'t mut R,
    read: Vec<u8>,
}

impl<R: Read> ExpectedText<'_, R> {
    fn is_at_end(&mut self) -> bool {
        matches!(self.stored.read(&mut [0]), Ok(0))
    }
}

impl<R: Read> Write for ExpectedText<'_, R> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.read.resize(bytes.len(), 0);
        self.stored.read_exact(&mut self.read)?;
        if self.read == bytes { Ok(bytes.len()) } else { Err(Error::from(ErrorKind::InvalidData)) }
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
        assert!(catalog.is_stored_as(&mut &text[..]));
        assert!(!catalog.is_stored_as(&mut &text[..text.len() - 1]));
        assert!(!catalog.is_stored_as(&mut &[&text[..], b" "].concat()[..]));
        for at in 0..text.len() {
            let mut other = text.clone();
            other[at] ^= 1;
            assert!(!catalog.is_stored_as(&mut &other[..]), "{at}");
        }
    }
}
