//! What is left out of a script: owners, where nobody wants them; and where only some tables are wanted, all that
//! these do not need.

use std::collections::BTreeSet;

use crate::engine::postgres::restore::script::{Script, ScriptItem};
use crate::engine::postgres::restore::sql::StatementWords;
use crate::engine::postgres::schema::document::Purpose;

/// Classes that are made whatever tables are wanted: types, functions and the like cannot be told from those that the
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

/// Whether an item is made for the sake of others, so that nobody misses it by itself.
pub(super) fn is_support(item: &ScriptItem) -> bool {
    SUPPORT.contains(&item.class.as_str()) && item.subject().is_none()
}

/// Leaves owners out, with whatever names a role that is not among `roles`.
pub(super) fn leave_out_owners(script: &mut Script, roles: &[String]) {
    let is_wanted = |sql: &[u8], purpose: Purpose| match purpose {
        Purpose::Owner => false,
        Purpose::Privilege => {
            let words = StatementWords::of(sql);
            let switches = words.starts_with(&["SET", "SESSION"]) || words.starts_with(&["RESET", "SESSION"]);
            !switches && words.roles().iter().all(|role| roles.contains(role))
        }
        Purpose::Object => {
            let words = StatementWords::of(sql);
            let in_database = words.starts_with(&["ALTER", "ROLE"]) || words.starts_with(&["GRANT"]);
            !in_database && !words.starts_with(&["REVOKE"]) || words.roles().iter().all(|role| roles.contains(role))
        }
        Purpose::Session => true,
    };
    for items in lists(script) {
        items.retain(|item| item.class != "SECURITY LABEL");
        items.iter_mut().for_each(|item| item.statements.retain(|step| is_wanted(&step.sql, step.purpose)));
        items.retain(|item| !item.statements.is_empty());
    }
}

/// All that is about this database.
pub(super) fn lists(script: &mut Script) -> [&mut Vec<ScriptItem>; 9] {
    [
        &mut script.pre_data,
        &mut script.keys,
        &mut script.attached,
        &mut script.references,
        &mut script.others,
        &mut script.privileges,
        &mut script.refreshed,
        &mut script.event_triggers,
        &mut script.database,
    ]
}

/// Keeps what the chosen tables need. Gives foreign keys to tables that are not chosen: object and table.
pub(super) fn choose(script: &mut Script, tables: &[String]) -> Vec<(String, String)> {
    let wanted = closure(script, tables);
    let (made, named) = sequences(script, &wanted);
    let is_wanted = |item: &ScriptItem| match item.subject() {
        Some(subject) => wanted.contains(&subject) || made.contains(&subject) || named.contains(&subject),
        None => SUPPORT.contains(&item.class.as_str()),
    };
    let indexes: BTreeSet<String> = script.keys.iter().filter(|item| is_wanted(item)).filter_map(index_of).collect();
    script.pre_data.retain(|item| match item.class.as_str() {
        "VIEW" | "MATERIALIZED VIEW" | "FOREIGN TABLE" | "FOREIGN DATA WRAPPER" | "SERVER" | "USER MAPPING" => false,
        "TABLE ATTACH" => attached(item).is_some_and(|(_, partition)| wanted.contains(&partition)),
        _ => is_wanted(item),
    });
    script.keys.retain(|item| is_wanted(item));
    // An index of a partition is attached if it was made.
    script.attached.retain(|item| item.subject().is_some_and(|index| indexes.contains(&index)));
    script.others.retain(|item| !item.class.starts_with("PUBLICATION") && is_wanted(item));
    let mut absent = Vec::new();
    script.references.retain(|item| {
        let parent = item.statements.first().and_then(|step| StatementWords::of(&step.sql).referred());
        let is_there = parent.as_ref().is_some_and(|parent| wanted.contains(parent));
        if is_wanted(item) && !is_there {
            absent.push((item.object.clone(), parent.unwrap_or_default()));
        }
        is_wanted(item) && is_there
    });
    script.privileges.retain(|item| item.class != "DEFAULT ACL" && is_wanted(item));
    script.refreshed.clear();
    script.event_triggers.clear();
    script.database.clear();
    absent
}

/// The index that an item makes, by itself or for a constraint.
fn index_of(item: &ScriptItem) -> Option<String> {
    item.statements.first().and_then(|step| StatementWords::of(&step.sql).index())
}

fn attached(item: &ScriptItem) -> Option<(String, String)> {
    item.statements.iter().find_map(|step| StatementWords::of(&step.sql).attached())
}

/// The chosen tables with their partitions, and the tables that these inherit from.
fn closure(script: &Script, tables: &[String]) -> BTreeSet<String> {
    let mut wanted: BTreeSet<String> = tables.iter().cloned().collect();
    let attached: Vec<(String, String)> = script.pre_data.iter().filter_map(attached).collect();
    let parents: Vec<(String, Vec<String>)> = script
        .pre_data
        .iter()
        .filter(|item| item.class == "TABLE")
        .filter_map(|item| Some((item.subject()?, StatementWords::of(&item.statements[0].sql).parents())))
        .collect();
    loop {
        let before = wanted.len();
        for (parent, partition) in &attached {
            if wanted.contains(parent) {
                wanted.insert(partition.clone());
            }
        }
        for (table, parents) in &parents {
            if wanted.contains(table) {
                wanted.extend(parents.iter().cloned());
            }
        }
        if wanted.len() == before {
            return wanted;
        }
    }
}

/// Sequences that the tables own, and those that their statements name.
fn sequences(script: &Script, wanted: &BTreeSet<String>) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut owned = BTreeSet::new();
    let mut named = BTreeSet::new();
    let all: BTreeSet<String> =
        script.pre_data.iter().filter(|item| item.class == "SEQUENCE").filter_map(ScriptItem::subject).collect();
    for item in &script.pre_data {
        for step in &item.statements {
            let words = StatementWords::of(&step.sql);
            if words.owned_by().is_some_and(|table| wanted.contains(&table)) {
                owned.extend(item.subject());
            }
            // A default names its sequence in a text: 'app.counter'::regclass.
            if words.subject().is_some_and(|subject| wanted.contains(&subject)) {
                let text = String::from_utf8_lossy(&step.sql);
                named.extend(all.iter().filter(|sequence| text.contains(&format!("'{sequence}'"))).cloned());
            }
        }
    }
    (owned, named)
}
