//! Matches today's tables with the tables of the previous snapshot, renamed or not.
//!
//! A table that keeps its name is the same table. For the others, PostgreSQL's oid is certain. SQLite has nothing like
//! it: a renamed table keeps its row in the schema table and its root page, but a dropped table may have had the same
//! ones before another was created in its place. They count only if at least half of the columns are the same. Tables
//! in different places match if all their columns are the same. If a table is mistaken for another one, it costs no
//! more bytes than a new table and is restored correctly. But it is placed like the other table, which is reported as
//! drift, and a diff compares the two.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use crate::base::limit::COLUMN_NUMBERS_MAX;
use crate::base::shared_text::SharedText;
use crate::engine::contract::{Description, Engine, Table};
use crate::format::catalog::{Catalog, TableEntry, Visibility};

/// The number of each table of the description in the last snapshot, None for new tables.
pub fn match_tables(prior: Option<&Catalog>, description: &Description) -> Vec<Option<u32>> {
    let tables = &description.tables;
    let Some(prior) = prior else { return vec![None; tables.len()] };
    let mut matching = Matching::by_name(prior, tables);
    matching.match_renamed(description.engine);
    matching.drop_full();
    matching.matched.iter().map(|old| old.map(|old| old.number)).collect()
}

/// Entries whose name no table has.
fn entries_without_table<'a>(prior: &'a Catalog, tables: &[Table]) -> Vec<&'a TableEntry> {
    let names: HashSet<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    prior.tables.iter().filter(|old| !names.contains(old.name.as_str())).collect()
}

/// Tables and the entries that they have been matched with.
struct Matching<'a, 't> {
    tables: &'t [Table],
    /// Per table.
    matched: Vec<Option<&'a TableEntry>>,
    /// Entries that are not matched yet.
    left: Vec<&'a TableEntry>,
}

impl<'a, 't> Matching<'a, 't> {
    fn by_name(prior: &'a Catalog, tables: &'t [Table]) -> Self {
        let entries = prior.by_name();
        let matched = tables.iter().map(|table| entries.get(table.name.as_str()).copied()).collect();
        Self { tables, matched, left: entries_without_table(prior, tables) }
    }

    /// Matches renamed tables, first by what is certain, then by what is likely.
    fn match_renamed(&mut self, engine: Engine) {
        match engine {
            Engine::Postgres => {
                self.match_rest(|old| old.oid, |table| table.oid, |_, _| true);
                // Every table of PostgreSQL has an oid. Without the entry's there is no better sign.
                self.match_rest(names_without_oid, |table| Some(column_names(table)), |_, _| true);
            }
            Engine::Sqlite => {
                self.match_rest(|old| old.oid, |table| table.oid, is_alike);
                self.match_rest(|old| Some(entry_names(old)), |table| Some(column_names(table)), |_, _| true);
            }
        }
    }

    /// Matches tables that have no entry yet with the remaining entries that have the same sign and are accepted. Of
    /// several, the first.
    fn match_rest<K: Eq + Hash>(
        &mut self,
        sign_of_entry: impl Fn(&TableEntry) -> Option<K>,
        sign_of_table: impl Fn(&Table) -> Option<K>,
        accepts: impl Fn(&TableEntry, &Table) -> bool,
    ) {
        let mut by_sign = entries_by_sign(&self.left, sign_of_entry);
        let mut taken = HashSet::new();
        for (table, slot) in self.tables.iter().zip(&mut self.matched).filter(|(_, slot)| slot.is_none()) {
            let same = sign_of_table(table).and_then(|sign| by_sign.get_mut(&sign));
            *slot = same.and_then(|same| take_first(same, |old| accepts(old, table)));
            taken.extend(slot.map(|old| old.number));
        }
        self.left.retain(|old| !taken.contains(&old.number));
    }

    /// Drops matches whose entry has too few column numbers left. Such a table is stored as a new one.
    fn drop_full(&mut self) {
        for (table, slot) in self.tables.iter().zip(&mut self.matched) {
            *slot = slot.filter(|old| has_room(old, table));
        }
    }
}

fn entries_by_sign<'a, K: Eq + Hash>(
    entries: &[&'a TableEntry],
    sign_of: impl Fn(&TableEntry) -> Option<K>,
) -> HashMap<K, VecDeque<&'a TableEntry>> {
    let mut by_sign: HashMap<K, VecDeque<&TableEntry>> = HashMap::new();
    for entry in entries {
        if let Some(sign) = sign_of(entry) {
            by_sign.entry(sign).or_default().push_back(entry);
        }
    }
    by_sign
}

fn take_first<'a>(
    same: &mut VecDeque<&'a TableEntry>,
    accepts: impl Fn(&TableEntry) -> bool,
) -> Option<&'a TableEntry> {
    same.remove(same.iter().position(|old| accepts(old))?)
}

fn has_room(old: &TableEntry, table: &Table) -> bool {
    old.next_column.saturating_add(table.columns.len() as u32) <= COLUMN_NUMBERS_MAX
}

/// The names of all columns, sorted.
fn entry_names(old: &TableEntry) -> Vec<SharedText> {
    sorted(old.columns.iter().map(|column| &column.name))
}

fn names_without_oid(old: &TableEntry) -> Option<Vec<SharedText>> {
    old.oid.is_none().then(|| entry_names(old))
}

/// The names of all columns, sorted.
fn column_names(table: &Table) -> Vec<SharedText> {
    sorted(table.columns.iter().map(|column| &column.name))
}

fn sorted<'n>(names: impl Iterator<Item = &'n SharedText>) -> Vec<SharedText> {
    let mut names: Vec<SharedText> = names.cloned().collect();
    names.sort_unstable();
    names
}

/// Whether at least half of the columns have the same names.
fn is_alike(old: &TableEntry, table: &Table) -> bool {
    let before: HashSet<&str> = declared_names(old).collect();
    let now: HashSet<&str> = visible_names(table).collect();
    let same = before.intersection(&now).count();
    same > 0 && same * 2 >= before.len().max(now.len())
}

fn declared_names(entry: &TableEntry) -> impl Iterator<Item = &str> {
    let declared = entry.columns.iter().filter(|column| column.visibility == Visibility::Declared);
    declared.map(|column| column.name.as_str())
}

fn visible_names(table: &Table) -> impl Iterator<Item = &str> {
    table.columns.iter().filter(|column| !column.hidden).map(|column| column.name.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::match_tables;
    use crate::base::limit::COLUMN_NUMBERS_MAX;
    use crate::base::time::Moment;
    use crate::engine::contract::{Affinity, Column, Description, Engine, Fold, Table};
    use crate::format::catalog::Catalog;
    use crate::format::cell::{Cell, OwnedCell};
    use crate::ops::placement::table_entry::new_entry;

    fn described(engine: Engine, tables: &[(&str, u64, &[&str])]) -> Description {
        let column = |(position, name): (u32, &&str)| Column {
            name: (*name).into(),
            position,
            missing: OwnedCell::new(&Cell::Null),
            hidden: *name == "rowid",
            fold: Fold::Exact,
            affinity: Affinity::None,
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
            large_object_page: None,
            bytes_estimate: None,
            tables: tables.iter().map(table).collect(),
            gaps: Vec::new(),
        }
    }

    fn catalog(description: &Description) -> Catalog {
        let tables = (1..).zip(&description.tables).map(|(number, table)| new_entry(number, table)).collect();
        Catalog { tables, ..Catalog::default() }
    }

    /// The earlier name of each current table.
    fn earlier_names(
        engine: Engine,
        before: &[(&str, u64, &[&str])],
        now: &[(&str, u64, &[&str])],
    ) -> Vec<Option<String>> {
        let prior = catalog(&described(engine, before));
        let matched = match_tables(Some(&prior), &described(engine, now));
        matched.into_iter().map(|old| Some(prior.table(old?)?.name.clone())).collect()
    }

    #[test]
    fn a_renamed_sqlite_table_is_matched_by_its_place_and_half_of_its_columns() {
        let before: &[(&str, u64, &[&str])] = &[("a", 1, &["id", "x", "rowid"]), ("b", 2, &["id", "x", "rowid"])];
        let is = |now: &[(&str, u64, &[&str])], expected: &[Option<&str>]| {
            let expected: Vec<Option<String>> = expected.iter().map(|name| name.map(str::to_owned)).collect();
            assert_eq!(earlier_names(Engine::Sqlite, before, now), expected, "{now:?}");
        };
        is(&[("b2", 2, &["id", "y", "rowid"]), ("a2", 1, &["id", "x", "rowid"])], &[Some("b"), Some("a")]);
        is(&[("a", 9, &["q"]), ("c", 2, &["id", "y", "z", "rowid"])], &[Some("a"), None]);
        is(&[("a", 9, &["q"]), ("c", 2, &["id", "y", "x", "z", "rowid"])], &[Some("a"), Some("b")]);
        // Other tables in the places of dropped ones.
        is(&[("c", 1, &["p", "q", "rowid"]), ("d", 2, &["p", "rowid"])], &[None, None]);
        // In another place, after a VACUUM.
        is(&[("a", 1, &["id", "x", "rowid"]), ("c", 7, &["id", "x", "rowid"])], &[Some("a"), Some("b")]);
        // An unchanged name outweighs a place.
        is(&[("a", 2, &["id", "x", "rowid"]), ("c", 1, &["id", "y", "rowid"])], &[Some("a"), None]);
    }

    #[test]
    fn in_postgresql_only_the_oid_matches_a_renamed_table() {
        let before: &[(&str, u64, &[&str])] = &[("a", 1, &["id", "x"]), ("b", 2, &["id", "x"])];
        let now: &[(&str, u64, &[&str])] = &[("c", 2, &["p", "q"]), ("d", 3, &["id", "x"])];
        assert_eq!(earlier_names(Engine::Postgres, before, now), [Some("b".to_owned()), None]);
    }

    #[test]
    fn a_table_without_free_column_numbers_is_a_new_one() {
        let description = described(Engine::Sqlite, &[("a", 1, &["id", "x"])]);
        let mut prior = catalog(&description);
        prior.tables[0].next_column = COLUMN_NUMBERS_MAX - 2;
        assert!(match_tables(Some(&prior), &description)[0].is_some());
        prior.tables[0].next_column += 1;
        assert!(match_tables(Some(&prior), &description)[0].is_none());
    }

    /// With a search for each table, this takes minutes.
    #[test]
    fn many_renamed_tables_are_matched_at_a_cost_per_table() {
        let names = |prefix: &str| -> Vec<String> { (0..20_000).map(|n| format!("{prefix}{n}")).collect() };
        let tables = |names: &[String], first_oid: u64| {
            let columns: &[&str] = &["id", "x", "rowid"];
            let named = names.iter().zip(first_oid..);
            let tables: Vec<(&str, u64, &[&str])> = named.map(|(name, oid)| (name.as_str(), oid, columns)).collect();
            described(Engine::Sqlite, &tables)
        };
        let before = names("a");
        let prior = catalog(&tables(&before, 1));
        for first_oid in [1, 1_000_000] {
            let now = tables(&names("b"), first_oid);
            let matched = match_tables(Some(&prior), &now);
            let entries = prior.by_number();
            let names = matched.iter().map(|old| &entries[&old.expect("a match")].name);
            assert!(names.eq(&before), "from oid {first_oid}");
        }
    }
}
