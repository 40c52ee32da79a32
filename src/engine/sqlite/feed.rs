//! Recognizes tables that look like a feed: rows are appended with increasing numbers, and old ones expire. Only a
//! hint if both name and form match, because rows of a feed are not placed by user.

use crate::engine::contract::Column;

/// Words in the names of tables that are usually feeds.
const NAMES: [&str; 11] =
    ["log", "logs", "changelog", "feed", "audit", "history", "outbox", "queue", "changes", "journal", "oplog"];
/// Columns for what happened.
const ACTIONS: [&str; 6] = ["op", "operation", "action", "change_type", "event_type", "kind"];
/// Columns for when it happened.
const TIMES: [&str; 6] = ["changed_at", "logged_at", "occurred_at", "recorded_at", "happened_at", "ts"];

/// How rows get their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RowidSource {
    /// Numbers are never reused (AUTOINCREMENT).
    Growing,
    /// The number of a deleted row may be reused.
    Any,
}

impl RowidSource {
    /// Determined from the definition of the table.
    pub(super) fn of_definition(sql: &str) -> Self {
        let mut words = sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        if words.any(|word| word.eq_ignore_ascii_case("AUTOINCREMENT")) { Self::Growing } else { Self::Any }
    }
}

/// Why a table with numbered rows that nothing refers to looks like a feed.
pub(super) fn hint(table: &str, columns: &[Column], ids: RowidSource) -> Option<String> {
    let name = feed_name(table);
    let action = find_column(columns, &ACTIONS);
    let time = find_column(columns, &TIMES);
    let why = match (name, ids, action, time) {
        (Some(name), RowidSource::Growing, ..) => format!("its name contains {name:?}, its row numbers only grow"),
        (Some(name), RowidSource::Any, Some(action), Some(time)) => {
            format!("its name contains {name:?}, it has columns {action} and {time}")
        }
        (None, RowidSource::Growing, Some(action), Some(time)) => {
            format!("its row numbers only grow, it has columns {action} and {time}")
        }
        _ => return None,
    };
    Some(format!("{why}, and no foreign key refers to it"))
}

/// The word in a table's name that suggests a feed.
fn feed_name(table: &str) -> Option<&'static str> {
    let lower = table.to_ascii_lowercase();
    let mut words = lower.split('_');
    words.find_map(|word| NAMES.into_iter().find(|name| *name == word))
}

/// The first of these names that a column has.
fn find_column(columns: &[Column], names: &[&'static str]) -> Option<&'static str> {
    let has = |name: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    names.iter().copied().find(|name| has(name))
}

#[cfg(test)]
mod tests {
    use super::{RowidSource, hint};
    use crate::engine::contract::{Affinity, Column};
    use crate::format::cell::{Cell, OwnedCell};
    use crate::format::key::Fold;

    fn is_feed(table: &str, columns: &[&str], sql: &str) -> bool {
        let columns: Vec<Column> = columns
            .iter()
            .map(|name| Column {
                name: (*name).into(),
                position: 0,
                missing: OwnedCell::new(&Cell::Null),
                hidden: false,
                fold: Fold::Exact,
                affinity: Affinity::None,
            })
            .collect();
        hint(table, &columns, RowidSource::of_definition(sql)).is_some()
    }

    #[test]
    fn a_feed_needs_a_matching_name_and_form() {
        let growing = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, x)";
        let plain = "CREATE TABLE t (id INTEGER PRIMARY KEY, autoincremented)";
        assert!(is_feed("sync_log", &["id", "x"], growing));
        assert!(is_feed("Change_Feed", &["id", "op", "changed_at"], plain));
        assert!(is_feed("deltas", &["id", "op", "changed_at"], growing));
        assert!(!is_feed("sync_log", &["id", "x"], plain));
        assert!(!is_feed("events", &["id", "title"], growing));
        assert!(!is_feed("catalog", &["id", "op"], growing));
        assert!(!is_feed("blog", &["id", "action"], growing));
        assert!(!is_feed("medical_history", &["id", "changed_at"], plain));
    }
}
