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
const NOT_MAPPING: [&str; 5] = ["name", "next_column", "number", "oid", "rows_per_leaf"];

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
    /// The texts about a table of the catalog. `name_of` finds the names of tables.
    #[must_use]
    pub fn of<'n>(catalog: &Catalog, table: &TableEntry, name_of: &dyn Fn(u32) -> Option<&'n str>) -> Self {
        let mut columns = Value::Null;
        let mut members = json!(table);
        if let Some(members) = members.as_object_mut() {
            columns = members.remove("columns").unwrap_or_default();
            NOT_MAPPING.iter().for_each(|name| drop(members.remove(*name)));
        }
        let mut owners = json!(catalog.owners);
        put_names(&mut owners, "table", name_of);
        put_names(&mut members["paths"], "parent", name_of);
        if let Some(below) = members.get_mut("below") {
            put_names(below, "child", name_of);
        }
        let mapping = json!({ "owners": owners, "table": members });
        Self { columns: text(&columns), mapping: text(&mapping) }
    }
}

/// Replaces the number of a table, a member of each of these objects, by the table's name. Numbers change when snapshots
/// are passed over, which places no row elsewhere.
fn put_names<'n>(objects: &mut Value, member: &str, name_of: &dyn Fn(u32) -> Option<&'n str>) {
    for object in objects.as_array_mut().into_iter().flatten() {
        let number = object[member].as_u64().and_then(|number| u32::try_from(number).ok());
        if let Some(name) = number.and_then(name_of) {
            object[member] = name.into();
        }
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
        let path = |parent: u32| json!({"parent": parent, "match": [{"column": 1, "parent_column": 0}], "where": []});
        let table = json!({
            "number": 7, "name": "t", "oid": null, "columns": [column], "next_column": 1, "key": [0], "layout": "owner",
            "paths": [path(7), path(2)], "rows_per_leaf": 9,
            "below": [{"child": 7, "match": [{"column": 1, "parent_column": 0}]}],
        });
        let catalog: Catalog = serde_json::from_value(json!({
            "engine": "sqlite", "identity": {"b": "2", "a": "1"}, "schema_digest": "", "next_table": 8,
            "owners": [{"kind": 1, "table": 7}], "next_kind": 2,
            "tables": [table],
        }))
        .expect("a catalog");
        assert_eq!(identity_text(&catalog), br#"{"a":"1","b":"2"}"#);
        let name_of = |number| catalog.table(number).map(|table| table.name.as_str());
        let texts = TableTexts::of(&catalog, &catalog.tables[0], &name_of);
        let columns = "[{\"missing\":\"AA==\",\"name\":\"\u{e9}\\\"\\n\",\"number\":0,\"position\":3}]";
        assert_eq!(String::from_utf8(texts.columns).expect("UTF-8"), columns);
        let terms = r#""match":[{"column":1,"parent_column":0}]"#;
        let mapping = [
            r#"{"owners":[{"kind":1,"table":"t"}],"table":{"below":[{"child":"t","#,
            terms,
            r#"}],"key":[0],"layout":"owner","paths":[{"#,
            terms,
            r#","parent":"t"},{"#,
            terms,
            r#","parent":2}]}}"#,
        ]
        .concat();
        assert_eq!(String::from_utf8(texts.mapping).expect("UTF-8"), mapping);
    }
}
