//! Facts about a source that the summary keeps as keyed digests, so that roles that cannot read the catalog can compare
//! snapshots (`docs/format.md` section 9).

use serde_json::{Value, json};

use crate::format::catalog::{Catalog, TableEntry};

/// What a digest is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FactKind {
    /// Which database it is.
    Identity = 1,
    /// The columns of a table.
    Columns = 2,
    /// How the rows of a table are placed.
    Mapping = 3,
}

/// Members of a table in the catalog, besides its columns, that do not say how its rows are placed.
const NOT_MAPPING: [&str; 4] = ["name", "next_column", "number", "oid"];

/// The text of the identity.
#[must_use]
pub fn identity_text(catalog: &Catalog) -> Vec<u8> {
    text(&json!(catalog.identity))
}

/// The texts about a table.
#[derive(Debug)]
pub struct TableTexts {
    pub columns: Vec<u8>,
    pub mapping: Vec<u8>,
}

impl TableTexts {
    /// The texts about a table of the catalog.
    #[must_use]
    pub fn of(catalog: &Catalog, table: &TableEntry) -> Self {
        let mut columns = Value::Null;
        let mut members = json!(table);
        if let Some(members) = members.as_object_mut() {
            columns = members.remove("columns").unwrap_or_default();
            NOT_MAPPING.iter().for_each(|name| drop(members.remove(*name)));
        }
        let mapping = json!({ "owners": catalog.owners, "table": members });
        Self { columns: text(&columns), mapping: text(&mapping) }
    }
}

/// Canonical JSON: members in the order of their names, no blanks. The maps of `serde_json` are sorted.
fn text(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a value is JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{TableTexts, identity_text};
    use crate::format::catalog::Catalog;

    #[test]
    fn members_are_in_the_order_of_their_names() {
        let column = json!({"number": 0, "name": "\u{e9}\"\n", "position": 3, "missing": "AA=="});
        let path = json!({"parent": 2, "match": [{"column": 1, "parent_column": 0}], "where": []});
        let table = json!({
            "number": 7, "name": "t", "oid": null, "columns": [column], "next_column": 1, "key": [0], "layout": "owner",
            "paths": [path],
        });
        let catalog: Catalog = serde_json::from_value(json!({
            "engine": "sqlite", "identity": {"b": "2", "a": "1"}, "schema_digest": "", "next_table": 8,
            "owners": [{"kind": 1, "table": 2}], "next_kind": 2,
            "tables": [table],
        }))
        .expect("a catalog");
        assert_eq!(identity_text(&catalog), br#"{"a":"1","b":"2"}"#);
        let texts = TableTexts::of(&catalog, &catalog.tables[0]);
        let columns = "[{\"missing\":\"AA==\",\"name\":\"\u{e9}\\\"\\n\",\"number\":0,\"position\":3}]";
        assert_eq!(String::from_utf8(texts.columns).expect("UTF-8"), columns);
        let mapping = r#"{"owners":[{"kind":1,"table":2}],"table":{"key":[0],"layout":"owner","paths":[{"match":[{"column":1,"parent_column":0}],"parent":2}]}}"#;
        assert_eq!(String::from_utf8(texts.mapping).expect("UTF-8"), mapping);
    }
}
