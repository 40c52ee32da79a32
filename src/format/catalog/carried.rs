//! Limits of what a writer carries forward without understanding it. It would otherwise be stored for ever, in every
//! snapshot, whatever somebody once put into one.

use serde::Serialize;
use serde_json::Value;

use crate::base::limit::{
    CARRIED_BYTES_MAX, CARRIED_DEPTH_MAX, CARRIED_ENTRY_BYTES_MAX, CARRIED_PART_BYTES_MAX, CARRIED_TABLE_BYTES_MAX,
};
use crate::format::catalog::catalog::Catalog;
use crate::format::catalog::settings::Settings;
use crate::format::catalog::table::{TableEntry, UnknownMembers};

/// Room that is left for unknown members.
struct Room {
    bytes: usize,
    /// What was left out, such as a table.
    left_out: Vec<String>,
}

impl Catalog {
    /// Leaves out what is not carried forward: unknown members, settings and paths from below that exceed the limits.
    /// Returns the names of what they belong to.
    pub fn limit_carried(&mut self) -> Vec<String> {
        let entries: usize = self.tables.iter().map(|table| 1 + table.columns.len()).sum();
        let bytes = CARRIED_BYTES_MAX + entries.saturating_mul(CARRIED_ENTRY_BYTES_MAX);
        let mut room = Room { bytes, left_out: Vec::new() };
        room.limit("the catalog", &mut self.unknown, CARRIED_BYTES_MAX);
        room.limit("the settings", &mut self.settings.unknown, CARRIED_BYTES_MAX);
        if text_len(&self.settings) > CARRIED_BYTES_MAX {
            self.settings = Settings::default();
            room.left_out.push("the settings".to_owned());
        }
        self.tables.iter_mut().for_each(|table| room.limit_table(table));
        room.left_out
    }
}

impl Room {
    fn limit_table(&mut self, table: &mut TableEntry) {
        self.limit(&table.name, &mut table.unknown, CARRIED_PART_BYTES_MAX);
        for column in &mut table.columns {
            self.limit(&table.name, &mut column.unknown, CARRIED_PART_BYTES_MAX);
        }
        if owner_len(table) > CARRIED_TABLE_BYTES_MAX {
            table.below.clear();
            table.labels.clear();
            self.leave_out(&table.name);
        }
    }

    /// Leaves out the unknown members of an object if they have more than `most` bytes, or there is no room for them.
    fn limit(&mut self, object: &str, unknown: &mut UnknownMembers, most: usize) {
        if unknown.is_empty() {
            return;
        }
        let bytes = text_len(unknown);
        if bytes <= most.min(self.bytes) && are_carried(unknown) {
            self.bytes -= bytes;
        } else {
            unknown.clear();
            self.leave_out(object);
        }
    }

    fn leave_out(&mut self, object: &str) {
        if self.left_out.last().is_none_or(|last| last != object) {
            self.left_out.push(object.to_owned());
        }
    }
}

fn are_carried(unknown: &UnknownMembers) -> bool {
    unknown.values().all(|value| is_carried(value, CARRIED_DEPTH_MAX))
}

/// Whether all numbers in it are integers, and it has at most this many levels.
fn is_carried(value: &Value, depth: usize) -> bool {
    match value {
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Array(items) => depth > 0 && items.iter().all(|item| is_carried(item, depth - 1)),
        Value::Object(members) => depth > 0 && members.values().all(|member| is_carried(member, depth - 1)),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// Bytes of the paths from below and the labels.
fn owner_len(table: &TableEntry) -> usize {
    text_len(&table.below).saturating_add(text_len(&table.labels))
}

/// Bytes of its JSON, without blanks.
fn text_len(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |text| text.len())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::format::catalog::Catalog;

    fn catalog(unknown: &Value, of_table: &Value, of_column: &Value) -> Catalog {
        let column = json!({"number": 0, "name": "id", "position": 0, "missing": "AA==", "later": of_column});
        let table = json!({
            "number": 1, "name": "t", "oid": null, "columns": [column], "next_column": 1, "key": [], "layout": "owner",
            "paths": [], "later": of_table,
        });
        serde_json::from_value(json!({
            "engine": "sqlite", "identity": {}, "schema_digest": "", "owners": [], "next_kind": 1, "next_table": 2,
            "tables": [table], "later": unknown,
        }))
        .expect("a catalog")
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!([inner]))
    }

    #[test]
    fn only_small_plain_unknown_members_are_carried_forward() {
        let long = |bytes: usize| json!("x".repeat(bytes));
        let left_out = |unknown, of_table, of_column| catalog(&unknown, &of_table, &of_column).limit_carried();
        let one = || json!(1);
        assert!(left_out(nested(16), json!({"a": [null, true, "b", -5]}), json!(u64::MAX)).is_empty());
        assert!(left_out(long(65_000), long(100), one()).is_empty());
        assert_eq!(left_out(long(66_000), long(4000), one()), ["the catalog"]);
        assert_eq!(left_out(nested(17), json!(1.5), one()), ["the catalog", "t"]);
        assert_eq!(left_out(one(), long(4100), long(4100)), ["t"]);
        // There is room for each of them, but not for both.
        assert_eq!(left_out(long(65_500), long(4000), one()), ["t"]);
        let mut limited = catalog(&one(), &json!(1e3), &one());
        limited.limit_carried();
        assert!(limited.tables[0].unknown.is_empty() && limited.tables[0].columns[0].unknown.len() == 1);
    }

    #[test]
    fn settings_and_paths_from_below_have_limits() {
        let mut limited = catalog(&json!(1), &json!(1), &json!(1));
        let statement = |bytes: usize| json!([{"statement": "x".repeat(bytes), "rows": null}]);
        let term = |bytes: usize| json!({"column": 0, "parent_column": 0, "prefix": "x".repeat(bytes)});
        let below = |bytes: usize| json!([{"child": 1, "match": [term(bytes)]}]);
        for (bytes, left_out) in [(60_000, 0), (70_000, 1)] {
            limited.settings.epoch_statements = serde_json::from_value(statement(bytes)).expect("statements");
            assert_eq!(limited.limit_carried().len(), left_out);
            assert_eq!(limited.settings.epoch_statements.is_empty(), left_out > 0);
        }
        for (bytes, left_out) in [(16_000, 0), (17_000, 1)] {
            limited.tables[0].below = serde_json::from_value(below(bytes)).expect("paths");
            assert_eq!(limited.limit_carried().len(), left_out);
            assert_eq!(limited.tables[0].below.is_empty(), left_out > 0);
        }
    }
}
