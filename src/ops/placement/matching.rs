//! Which table of last night a table of tonight is, renamed or not.
//!
//! A name that stays is a table that stays. Of the others, PostgreSQL's oid tells for certain. SQLite has nothing of
//! the kind: its row of the schema and its root page stay when a table is renamed, but may be those of a dropped
//! table in whose place another was created. So they count only where at least half of the columns are the same; and
//! the same columns count anywhere. A table that is taken for another by mistake costs no bytes that a new one would
//! not, and is restored as it is; but it is placed as the other was, which is reported as drift, and a diff compares
//! the two.

use crate::base::limit::COLUMN_NUMBERS_MAX;
use crate::engine::contract::{Description, Engine, Table};
use crate::format::catalog::{Catalog, TableEntry, Visibility};

/// Last night's entry of each table of tonight.
pub fn match_tables<'a>(prior: Option<&'a Catalog>, description: &Description) -> Vec<Option<&'a TableEntry>> {
    let tables = &description.tables;
    let Some(prior) = prior else { return vec![None; tables.len()] };
    let mut matched: Vec<Option<&TableEntry>> = tables.iter().map(|table| prior.table_named(&table.name)).collect();
    let mut left: Vec<&TableEntry> =
        prior.tables.iter().filter(|old| !tables.iter().any(|table| table.name == old.name)).collect();
    let same_oid = |old: &TableEntry, table: &Table| old.oid.is_some() && old.oid == table.oid;
    let is_postgres = description.engine == Engine::Postgres;
    let certain = |old: &TableEntry, table: &Table| same_oid(old, table) && (is_postgres || is_alike(old, table));
    let likely = |old: &TableEntry, table: &Table| {
        let other_oid = is_postgres && old.oid.is_some() && table.oid.is_some();
        !other_oid && has_same_names(old, table)
    };
    for is_same in [&certain as &dyn Fn(&TableEntry, &Table) -> bool, &likely] {
        for (table, slot) in tables.iter().zip(&mut matched).filter(|(_, slot)| slot.is_none()) {
            *slot = left.iter().position(|old| is_same(old, table)).map(|at| left.swap_remove(at));
        }
    }
    // Whose numbers of columns are used up is stored as a new table.
    let has_room = |old: &TableEntry, table: &Table| {
        old.next_column.saturating_add(table.columns.len() as u32) <= COLUMN_NUMBERS_MAX
    };
    tables.iter().zip(matched).map(|(table, old)| old.filter(|old| has_room(old, table))).collect()
}

fn has_same_names(old: &TableEntry, table: &Table) -> bool {
    old.columns.len() == table.columns.len()
        && table.columns.iter().all(|column| old.columns.iter().any(|entry| entry.name == column.name))
}

/// Whether at least half of the columns have the same names.
fn is_alike(old: &TableEntry, table: &Table) -> bool {
    let before: Vec<&str> = old
        .columns
        .iter()
        .filter(|column| column.visibility == Visibility::Declared)
        .map(|column| column.name.as_str())
        .collect();
    let now: Vec<&str> =
        table.columns.iter().filter(|column| !column.hidden).map(|column| column.name.as_str()).collect();
    let same = now.iter().filter(|name| before.contains(name)).count();
    same > 0 && same * 2 >= before.len().max(now.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::match_tables;
    use crate::base::limit::COLUMN_NUMBERS_MAX;
    use crate::base::time::Moment;
    use crate::engine::contract::{Column, Description, Engine, Fold, Table};
    use crate::format::catalog::Catalog;
    use crate::format::cell::{Cell, OwnedCell};
    use crate::ops::placement::update::{Pinned, PlacementConfig, update};

    fn described(engine: Engine, tables: &[(&str, u64, &[&str])]) -> Description {
        let column = |(position, name): (u32, &&str)| Column {
            name: (*name).to_owned(),
            position,
            missing: OwnedCell::new(&Cell::Null),
            hidden: *name == "rowid",
            fold: Fold::Exact,
        };
        let table = |(name, oid, columns): &(&str, u64, &[&str])| Table {
            name: (*name).to_owned(),
            oid: Some(*oid),
            columns: (0..).zip(*columns).map(column).collect(),
            key: Vec::new(),
            foreign_keys: Vec::new(),
            rows_estimate: None,
            feed_hint: None,
        };
        Description {
            engine,
            identity: BTreeMap::new(),
            source_clock: Moment(0),
            schema: Vec::new(),
            bytes_estimate: None,
            tables: tables.iter().map(table).collect(),
            gaps: Vec::new(),
        }
    }

    fn catalog(description: &Description) -> Catalog {
        update(None, description, &PlacementConfig::default(), String::new(), Pinned::Keep).catalog
    }

    /// Names of last night's tables that tonight's are.
    fn were(engine: Engine, before: &[(&str, u64, &[&str])], now: &[(&str, u64, &[&str])]) -> Vec<Option<String>> {
        let prior = catalog(&described(engine, before));
        let matched = match_tables(Some(&prior), &described(engine, now));
        matched.into_iter().map(|old| old.map(|old| old.name.clone())).collect()
    }

    #[test]
    fn a_renamed_table_of_sqlite_is_known_by_its_place_and_half_of_its_columns() {
        let before: &[(&str, u64, &[&str])] = &[("a", 1, &["id", "x", "rowid"]), ("b", 2, &["id", "x", "rowid"])];
        let is = |now: &[(&str, u64, &[&str])], expected: &[Option<&str>]| {
            let expected: Vec<Option<String>> = expected.iter().map(|name| name.map(str::to_owned)).collect();
            assert_eq!(were(Engine::Sqlite, before, now), expected, "{now:?}");
        };
        is(&[("b2", 2, &["id", "y", "rowid"]), ("a2", 1, &["id", "x", "rowid"])], &[Some("b"), Some("a")]);
        is(&[("a", 9, &["q"]), ("c", 2, &["id", "y", "z", "rowid"])], &[Some("a"), None]);
        is(&[("a", 9, &["q"]), ("c", 2, &["id", "y", "x", "z", "rowid"])], &[Some("a"), Some("b")]);
        // Another table in the place of a dropped one.
        is(&[("c", 1, &["p", "q", "rowid"]), ("d", 2, &["p", "rowid"])], &[None, None]);
        // Anywhere, after a VACUUM.
        is(&[("a", 1, &["id", "x", "rowid"]), ("c", 7, &["id", "x", "rowid"])], &[Some("a"), Some("b")]);
        // A name that stays outweighs a place.
        is(&[("a", 2, &["id", "x", "rowid"]), ("c", 1, &["id", "y", "rowid"])], &[Some("a"), None]);
    }

    #[test]
    fn in_postgresql_the_oid_alone_tells() {
        let before: &[(&str, u64, &[&str])] = &[("a", 1, &["id", "x"]), ("b", 2, &["id", "x"])];
        let now: &[(&str, u64, &[&str])] = &[("c", 2, &["p", "q"]), ("d", 3, &["id", "x"])];
        assert_eq!(were(Engine::Postgres, before, now), [Some("b".to_owned()), None]);
    }

    #[test]
    fn a_table_whose_numbers_are_used_up_is_a_new_one() {
        let description = described(Engine::Sqlite, &[("a", 1, &["id", "x"])]);
        let mut prior = catalog(&description);
        prior.tables[0].next_column = COLUMN_NUMBERS_MAX - 2;
        assert!(match_tables(Some(&prior), &description)[0].is_some());
        prior.tables[0].next_column += 1;
        assert!(match_tables(Some(&prior), &description)[0].is_none());
    }
}
