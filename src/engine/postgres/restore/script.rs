//! The statements of a schema document, sorted into what a restore does one after the other. Statements about one
//! object that follow each other are one item.
//!
//! Pre-data goes first; after the rows keys and indexes, then foreign keys, then the rest in the order of the dump;
//! grants after that, because materialized views are filled by their owners; event triggers last of all.

use crate::engine::postgres::restore::ledger::Part;
use crate::engine::postgres::restore::older_server::for_version;
use crate::engine::postgres::restore::server::Server;
use crate::engine::postgres::restore::sql::Words;
use crate::engine::postgres::schema::catalog::qualified;
use crate::engine::postgres::schema::document::{Document, Purpose, Statement};

/// Settings of a dump that its statements depend on; all others are the session's own.
const SETTINGS: [&str; 3] = ["default_tablespace", "default_table_access_method", "standard_conforming_strings"];

/// Statements about one object.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) part: Part,
    /// Of the first statement in its section of the document.
    pub(super) number: u32,
    /// As `pg_dump` has it.
    pub(super) class: String,
    /// For a person.
    pub(super) object: String,
    /// What the session must be set to first.
    pub(super) settings: Vec<String>,
    pub(super) statements: Vec<Step>,
}

/// A statement.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) purpose: Purpose,
    pub(super) sql: Vec<u8>,
}

impl Item {
    /// The table that the first statement is about.
    pub(super) fn subject(&self) -> Option<String> {
        self.statements.iter().find_map(|step| Words::of(&step.sql).subject())
    }

    /// It only says who may do what.
    pub(super) fn is_privilege(&self) -> bool {
        self.statements.iter().all(|step| step.purpose == Purpose::Privilege)
    }
}

/// Everything, by when it is done.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) globals: Vec<Item>,
    pub(super) pre_data: Vec<Item>,
    /// Indexes and constraints that are made by them.
    pub(super) keys: Vec<Item>,
    /// Indexes of partitions, made parts of those of their root.
    pub(super) attached: Vec<Item>,
    pub(super) references: Vec<Item>,
    /// In the order of the dump.
    pub(super) others: Vec<Item>,
    pub(super) privileges: Vec<Item>,
    /// Materialized views are filled.
    pub(super) refreshed: Vec<Item>,
    pub(super) event_triggers: Vec<Item>,
    pub(super) database: Vec<Item>,
}

impl Script {
    /// The statements of a document as this server takes them, those about the database itself with its name.
    pub(super) fn of(document: &Document, server: &Server) -> Self {
        let version = server.place.version;
        let as_is = |statement: &Statement| for_version(&statement.class, statement.sql.bytes(), version);
        let mut script = Self {
            globals: items(Part::Globals, &document.globals, &as_is),
            database: items(Part::Database, &document.database, &|statement| statement.in_database(&server.database)),
            ..Self::default()
        };
        // The database is there.
        let is_wanted = |step: &Step| !Words::of(&step.sql).starts_with(&["CREATE", "DATABASE"]);
        script.database.iter_mut().for_each(|item| item.statements.retain(is_wanted));
        script.database.retain(|item| !item.statements.is_empty());
        for item in items(Part::PreData, &document.pre_data, &as_is) {
            if item.is_privilege() { &mut script.privileges } else { &mut script.pre_data }.push(item);
        }
        for item in items(Part::PostData, &document.post_data, &as_is) {
            script.post_data(&item).push(item);
        }
        script
    }

    fn post_data(&mut self, item: &Item) -> &mut Vec<Item> {
        match item.class.as_str() {
            "INDEX" | "CONSTRAINT" => &mut self.keys,
            "INDEX ATTACH" => &mut self.attached,
            "FK CONSTRAINT" => &mut self.references,
            "MATERIALIZED VIEW DATA" => &mut self.refreshed,
            "EVENT TRIGGER" => &mut self.event_triggers,
            "COMMENT" | "SECURITY LABEL" if item.object.contains("EVENT TRIGGER ") => &mut self.event_triggers,
            _ if item.is_privilege() => &mut self.privileges,
            _ => &mut self.others,
        }
    }
}

fn items(part: Part, statements: &[Statement], sql: &dyn Fn(&Statement) -> Vec<u8>) -> Vec<Item> {
    let mut settings: Vec<(&str, String)> = Vec::new();
    let mut items: Vec<Item> = Vec::new();
    let mut last: Option<&Statement> = None;
    for (number, statement) in (0..).zip(statements) {
        if statement.purpose == Purpose::Session {
            let bytes = statement.sql.bytes();
            let words = Words::of(&bytes);
            let name = words.name(1).filter(|_| words.is(0, "SET")).unwrap_or_default();
            if let Some(name) = SETTINGS.into_iter().find(|setting| *setting == name) {
                settings.retain(|(known, _)| *known != name);
                settings.push((name, statement.sql.lossy()));
            }
            continue;
        }
        let same = |other: &Statement| {
            (&other.class, &other.schema, &other.name) == (&statement.class, &statement.schema, &statement.name)
        };
        let step = Step { purpose: statement.purpose, sql: sql(statement) };
        let settings: Vec<String> = settings.iter().map(|(_, sql)| sql.clone()).collect();
        match items.last_mut() {
            // Statements about roles have nothing above them that says whose they are.
            Some(item) if part != Part::Globals && last.is_some_and(same) && item.settings == settings => {
                item.statements.push(step);
            }
            _ => {
                let class = statement.class.clone();
                let object = object(statement, part);
                items.push(Item { part, number, class, object, settings, statements: vec![step] });
            }
        }
        last = Some(statement);
    }
    items
}

fn object(statement: &Statement, part: Part) -> String {
    let name = statement.name.lossy();
    let class = statement.class.to_lowercase();
    match &statement.schema {
        _ if part == Part::Globals => remark(statement).unwrap_or_else(|| format!("{} {name}", statement.class)),
        // A name that has more than a name in it, such as `TABLE users` or `users users_pkey`.
        Some(schema) if name.contains(' ') || name.contains('(') => format!("{class} {}.{name}", schema.lossy()),
        Some(schema) => format!("{class} {}", qualified(&schema.lossy(), &name)),
        None => format!("{class} {name}"),
    }
}

/// A comment or a label, with what it is about further on than the third word.
fn remark(statement: &Statement) -> Option<String> {
    let class = Some(statement.class.as_str())
        .filter(|class| ["COMMENT ON", "SECURITY LABEL"].contains(class))?
        .trim_end_matches(" ON");
    let sql = statement.sql.bytes();
    let words = Words::of(&sql);
    // SECURITY LABEL FOR provider ON ROLE name
    let kinds = ["ROLE", "TABLESPACE"].into_iter();
    let (kind, at) = kinds.flat_map(|kind| (1..6).map(move |at| (kind, at))).find(|(kind, at)| words.is(*at, kind))?;
    Some(format!("{class} {kind} {}", words.name(at + 1)?))
}
