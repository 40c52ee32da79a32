//! The statements of a schema document, sorted into what a restore does one after the other. Statements about one
//! object that follow each other are one item.
//!
//! Pre-data goes first; after the rows keys and indexes, then foreign keys, then the rest in the order of the dump;
//! grants after that, because materialized views are filled by their owners; event triggers last of all.

use crate::engine::postgres::restore::ledger::RestorePart;
use crate::engine::postgres::restore::older_server::for_version;
use crate::engine::postgres::restore::server::TargetServer;
use crate::engine::postgres::restore::sql::StatementWords;
use crate::engine::postgres::schema::document::{Purpose, SchemaDocument, SchemaStatement};
use crate::engine::postgres::schema::table::qualified;

/// Settings of a dump that its statements depend on; all others are the session's own.
const SETTINGS: [&str; 3] = ["default_tablespace", "default_table_access_method", "standard_conforming_strings"];

/// Statements about one object.
#[derive(Clone, Debug)]
pub(super) struct ScriptItem {
    pub(super) part: RestorePart,
    /// Of the first statement in its section of the document.
    pub(super) number: u32,
    /// As `pg_dump` has it.
    pub(super) class: String,
    /// For a person.
    pub(super) object: String,
    /// What the session must be set to first.
    pub(super) settings: Vec<String>,
    pub(super) statements: Vec<ScriptStep>,
}

/// A statement.
#[derive(Clone, Debug)]
pub(super) struct ScriptStep {
    pub(super) purpose: Purpose,
    pub(super) sql: Vec<u8>,
}

impl ScriptItem {
    /// The table that the first statement is about.
    pub(super) fn subject(&self) -> Option<String> {
        self.statements.iter().find_map(|step| StatementWords::of(&step.sql).subject())
    }

    /// It only says who may do what.
    pub(super) fn is_privilege(&self) -> bool {
        self.statements.iter().all(|step| step.purpose == Purpose::Privilege)
    }
}

/// Everything, by when it is done.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) globals: Vec<ScriptItem>,
    pub(super) pre_data: Vec<ScriptItem>,
    /// Indexes and constraints that are made by them.
    pub(super) keys: Vec<ScriptItem>,
    /// Indexes of partitions, made parts of those of their root.
    pub(super) attached: Vec<ScriptItem>,
    pub(super) references: Vec<ScriptItem>,
    /// In the order of the dump.
    pub(super) others: Vec<ScriptItem>,
    pub(super) privileges: Vec<ScriptItem>,
    /// Materialized views are filled.
    pub(super) refreshed: Vec<ScriptItem>,
    pub(super) event_triggers: Vec<ScriptItem>,
    pub(super) database: Vec<ScriptItem>,
}

impl Script {
    /// The statements of a document as this server takes them, those about the database itself with its name.
    pub(super) fn of(document: &SchemaDocument, server: &TargetServer) -> Self {
        let version = server.place.version;
        let as_is = |statement: &SchemaStatement| for_version(&statement.class, statement.sql.bytes(), version);
        let mut script = Self {
            globals: items(RestorePart::Globals, &document.globals, &as_is),
            database: items(RestorePart::Database, &document.database, &|statement| {
                statement.in_database(&server.database)
            }),
            ..Self::default()
        };
        // The database is there.
        let is_wanted = |step: &ScriptStep| !StatementWords::of(&step.sql).starts_with(&["CREATE", "DATABASE"]);
        script.database.iter_mut().for_each(|item| item.statements.retain(is_wanted));
        script.database.retain(|item| !item.statements.is_empty());
        for item in items(RestorePart::PreData, &document.pre_data, &as_is) {
            if item.is_privilege() { &mut script.privileges } else { &mut script.pre_data }.push(item);
        }
        for item in items(RestorePart::PostData, &document.post_data, &as_is) {
            script.post_data(&item).push(item);
        }
        script
    }

    fn post_data(&mut self, item: &ScriptItem) -> &mut Vec<ScriptItem> {
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

fn items(
    part: RestorePart,
    statements: &[SchemaStatement],
    sql: &dyn Fn(&SchemaStatement) -> Vec<u8>,
) -> Vec<ScriptItem> {
    let mut settings: Vec<(&str, String)> = Vec::new();
    let mut items: Vec<ScriptItem> = Vec::new();
    let mut last: Option<&SchemaStatement> = None;
    for (number, statement) in (0..).zip(statements) {
        if statement.purpose == Purpose::Session {
            let bytes = statement.sql.bytes();
            let words = StatementWords::of(&bytes);
            let name = words.name(1).filter(|_| words.is(0, "SET")).unwrap_or_default();
            if let Some(name) = SETTINGS.into_iter().find(|setting| *setting == name) {
                settings.retain(|(known, _)| *known != name);
                settings.push((name, statement.sql.lossy()));
            }
            continue;
        }
        let same = |other: &SchemaStatement| {
            (&other.class, &other.schema, &other.name) == (&statement.class, &statement.schema, &statement.name)
        };
        let step = ScriptStep { purpose: statement.purpose, sql: sql(statement) };
        let settings: Vec<String> = settings.iter().map(|(_, sql)| sql.clone()).collect();
        match items.last_mut() {
            // Statements about roles have nothing above them that says whose they are.
            Some(item) if part != RestorePart::Globals && last.is_some_and(same) && item.settings == settings => {
                item.statements.push(step);
            }
            _ => {
                let class = statement.class.clone();
                let object = object(statement, part);
                items.push(ScriptItem { part, number, class, object, settings, statements: vec![step] });
            }
        }
        last = Some(statement);
    }
    items
}

fn object(statement: &SchemaStatement, part: RestorePart) -> String {
    let name = statement.name.lossy();
    let class = statement.class.to_lowercase();
    match &statement.schema {
        _ if part == RestorePart::Globals => remark(statement).unwrap_or_else(|| format!("{} {name}", statement.class)),
        // A name that has more than a name in it, such as `TABLE users` or `users users_pkey`.
        Some(schema) if name.contains(' ') || name.contains('(') => format!("{class} {}.{name}", schema.lossy()),
        Some(schema) => format!("{class} {}", qualified(&schema.lossy(), &name)),
        None => format!("{class} {name}"),
    }
}

/// A comment or a label, with what it is about further on than the third word.
fn remark(statement: &SchemaStatement) -> Option<String> {
    let class = Some(statement.class.as_str())
        .filter(|class| ["COMMENT ON", "SECURITY LABEL"].contains(class))?
        .trim_end_matches(" ON");
    let sql = statement.sql.bytes();
    let words = StatementWords::of(&sql);
    // SECURITY LABEL FOR provider ON ROLE name
    let kinds = ["ROLE", "TABLESPACE"].into_iter();
    let (kind, at) = kinds.flat_map(|kind| (1..6).map(move |at| (kind, at))).find(|(kind, at)| words.is(*at, kind))?;
    Some(format!("{class} {kind} {}", words.name(at + 1)?))
}
