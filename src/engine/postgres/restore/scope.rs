//! Reduces a script: removes owners if they are not wanted and, if only some tables are restored, everything that these
//! tables do not need.

use std::collections::{BTreeSet, HashSet};

use crate::engine::postgres::restore::script::{Script, ScriptItem, ScriptStep};
use crate::engine::postgres::schema::document::Purpose;
use crate::engine::postgres::schema::statement_words::{AttachedPartition, StatementWords};

/// Classes that are created whichever tables are restored, because it is not known which types, functions and so on the
/// tables need.
const SUPPORT: [&str; 24] = [
    "ACCESS METHOD",
    "AGGREGATE",
    "CAST",
    "COLLATION",
    "CONVERSION",
    "DOMAIN",
    "EXTENSION",
    "FUNCTION",
    "OPERATOR",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE",
    "PROCEDURE",
    "SCHEMA",
    "SHELL TYPE",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
    "TRANSFORM",
    "TYPE",
    "CHECK CONSTRAINT",
    "COMMENT",
    "ACL",
];

/// Classes that are skipped if only some tables are restored.
const LEFT_OUT: [&str; 6] =
    ["VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "FOREIGN DATA WRAPPER", "SERVER", "USER MAPPING"];

/// Whether an item only supports other items, so that nobody misses it by itself.
pub(super) fn is_support(item: &ScriptItem) -> bool {
    SUPPORT.contains(&item.class.as_str()) && item.subject().is_none()
}

/// Removes owners, and statements that name a role that is not among `roles`.
pub(super) fn leave_out_owners(script: &mut Script, roles: &[String]) {
    let roles: HashSet<&str> = roles.iter().map(String::as_str).collect();
    for items in script.lists_of_database() {
        items.retain(|item| item.class != "SECURITY LABEL");
        for item in items.iter_mut() {
            item.statements.retain(|step| is_wanted_without_owners(step, &roles));
        }
        items.retain(|item| !item.statements.is_empty());
    }
}

fn is_wanted_without_owners(step: &ScriptStep, roles: &HashSet<&str>) -> bool {
    let words = step.words();
    match step.purpose {
        Purpose::Owner => false,
        Purpose::Privilege => !switches_role(&words) && names_only(&words, roles),
        Purpose::Object => !is_about_roles(&words) || names_only(&words, roles),
        Purpose::Session => true,
    }
}

/// Whether all roles that the statement names are among `roles`.
fn names_only(words: &StatementWords<'_>, roles: &HashSet<&str>) -> bool {
    words.roles().iter().all(|role| roles.contains(role.as_str()))
}

fn switches_role(words: &StatementWords<'_>) -> bool {
    words.starts_with(&["SET", "SESSION"]) || words.starts_with(&["RESET", "SESSION"])
}

fn is_about_roles(words: &StatementWords<'_>) -> bool {
    words.starts_with(&["ALTER", "ROLE"]) || words.starts_with(&["GRANT"]) || words.starts_with(&["REVOKE"])
}

/// A foreign key that is skipped because its parent table is not restored.
pub(super) struct OrphanedKey {
    pub(super) object: String,
    pub(super) parent: String,
}

/// Keeps only what these tables need. Returns their foreign keys to tables that are not restored.
pub(super) fn keep_tables(script: &mut Script, tables: &[String]) -> Vec<OrphanedKey> {
    let wanted = WantedObjects::of(script, tables);
    let indexes = wanted.indexes(&script.keys);
    script.pre_data.retain(|item| wanted.has_definition(item));
    script.keys.retain(|item| wanted.has(item));
    // An index of a partition is attached if it was created.
    script.attached.retain(|item| item.subject().is_some_and(|index| indexes.contains(&index)));
    script.others.retain(|item| !item.class.starts_with("PUBLICATION") && wanted.has(item));
    script.references.retain(|item| wanted.has(item));
    let orphaned = take_orphaned_keys(&mut script.references, &wanted);
    script.privileges.retain(|item| item.class != "DEFAULT ACL" && wanted.has(item));
    script.refreshed.clear();
    script.event_triggers.clear();
    script.database.clear();
    orphaned
}

fn take_orphaned_keys(references: &mut Vec<ScriptItem>, wanted: &WantedObjects) -> Vec<OrphanedKey> {
    let mut orphaned = Vec::new();
    references.retain(|item| {
        let parent = item.first_words().and_then(|words| words.referenced_table()).unwrap_or_default();
        let has_parent = wanted.tables.contains(&parent);
        if !has_parent {
            orphaned.push(OrphanedKey { object: item.object.clone(), parent });
        }
        has_parent
    });
    orphaned
}

/// If only some tables are restored: these tables and what they need.
struct WantedObjects {
    tables: BTreeSet<String>,
    sequences: BTreeSet<String>,
}

impl WantedObjects {
    fn of(script: &Script, tables: &[String]) -> Self {
        let tables = with_relatives(script, tables);
        let sequences = wanted_sequences(script, &tables);
        Self { tables, sequences }
    }

    fn has(&self, item: &ScriptItem) -> bool {
        match item.subject() {
            Some(subject) => self.has_relation(&subject),
            None => SUPPORT.contains(&item.class.as_str()),
        }
    }

    fn has_relation(&self, name: &str) -> bool {
        self.tables.contains(name) || self.sequences.contains(name)
    }

    fn has_definition(&self, item: &ScriptItem) -> bool {
        if item.class == "TABLE ATTACH" {
            return attached_partition(item).is_some_and(|attached| self.tables.contains(&attached.partition));
        }
        !LEFT_OUT.contains(&item.class.as_str()) && self.has(item)
    }

    /// The indexes that these items create, directly or for a constraint.
    fn indexes(&self, keys: &[ScriptItem]) -> BTreeSet<String> {
        keys.iter().filter(|item| self.has(item)).filter_map(ScriptItem::index_made).collect()
    }
}

fn attached_partition(item: &ScriptItem) -> Option<AttachedPartition> {
    item.statements.iter().find_map(|step| step.words().attached_partition())
}

/// A table and the tables that it inherits from.
struct Inheritance {
    table: String,
    parents: Vec<String>,
}

impl Inheritance {
    fn of(item: &ScriptItem) -> Option<Self> {
        if item.class != "TABLE" {
            return None;
        }
        let table = item.subject()?;
        let parents = item.first_words()?.inherited_tables();
        Some(Self { table, parents })
    }
}

/// The tables with their partitions and the tables that they inherit from.
fn with_relatives(script: &Script, tables: &[String]) -> BTreeSet<String> {
    let attached: Vec<AttachedPartition> = script.pre_data.iter().filter_map(attached_partition).collect();
    let inheritance: Vec<Inheritance> = script.pre_data.iter().filter_map(Inheritance::of).collect();
    let mut wanted: BTreeSet<String> = tables.iter().cloned().collect();
    loop {
        let before = wanted.len();
        add_partitions(&mut wanted, &attached);
        add_inherited(&mut wanted, &inheritance);
        if wanted.len() == before {
            return wanted;
        }
    }
}

fn add_partitions(wanted: &mut BTreeSet<String>, attached: &[AttachedPartition]) {
    for AttachedPartition { parent, partition } in attached {
        if wanted.contains(parent) {
            wanted.insert(partition.clone());
        }
    }
}

fn add_inherited(wanted: &mut BTreeSet<String>, inheritance: &[Inheritance]) {
    for Inheritance { table, parents } in inheritance {
        if wanted.contains(table) {
            wanted.extend(parents.iter().cloned());
        }
    }
}

/// Sequences that the tables own or that their statements name.
fn wanted_sequences(script: &Script, tables: &BTreeSet<String>) -> BTreeSet<String> {
    let all = all_sequences(script);
    let mut wanted = BTreeSet::new();
    for item in &script.pre_data {
        for step in &item.statements {
            let words = step.words();
            if words.owned_by().is_some_and(|table| tables.contains(&table)) {
                wanted.extend(item.subject());
            }
            if words.subject().is_some_and(|subject| tables.contains(&subject)) {
                wanted.extend(named_sequences(&step.sql, &all));
            }
        }
    }
    wanted
}

fn all_sequences(script: &Script) -> BTreeSet<String> {
    let sequences = script.pre_data.iter().filter(|item| item.class == "SEQUENCE");
    sequences.filter_map(ScriptItem::subject).collect()
}

/// Finds sequences in defaults, which name them in a literal: `'app.counter'::regclass`.
fn named_sequences(sql: &[u8], all: &BTreeSet<String>) -> Vec<String> {
    let text = String::from_utf8_lossy(sql);
    let after_quotes: Vec<&str> = text.split('\'').skip(1).collect();
    // After the last quote there is no literal.
    let literals = after_quotes.split_last().map_or(&[][..], |(_, literals)| literals);
    literals.iter().filter_map(|literal| all.get(*literal)).cloned().collect()
}
