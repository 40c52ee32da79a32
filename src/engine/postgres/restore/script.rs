//! The statements of a schema document, sorted into the steps of a restore. Consecutive statements about one object are
//! one item.
//!
//! Pre-data comes first. After the rows come keys and indexes, then foreign keys, then the rest in the order of the
//! dump. Then come privileges, and after them materialized views, which are refreshed with their owners' privileges.
//! Event triggers come last.

use crate::engine::postgres::restore::older_server::for_version;
use crate::engine::postgres::restore::restore_progress::{self, RestorePart};
use crate::engine::postgres::restore::session::TargetServer;
use crate::engine::postgres::schema::document::{Purpose, SchemaDocument, SchemaStatement};
use crate::engine::postgres::schema::statement_words::StatementWords;
use crate::engine::postgres::schema::table::qualified;

/// Settings of a dump that its statements depend on. The session has its own values for all others.
const SETTINGS: [&str; 3] = ["default_tablespace", "default_table_access_method", "standard_conforming_strings"];

/// Consecutive statements about one object.
#[derive(Clone, Debug)]
pub(super) struct ScriptItem {
    pub(super) part: RestorePart,
    /// Number of the first statement in its section of the document.
    pub(super) number: u32,
    /// The class of the object, as in `pg_dump`.
    pub(super) class: String,
    /// The name of the object in messages.
    pub(super) object: String,
    /// Statements that set the session's settings first.
    pub(super) settings: Vec<String>,
    pub(super) statements: Vec<ScriptStep>,
}

/// One statement of an item.
#[derive(Clone, Debug)]
pub(super) struct ScriptStep {
    pub(super) purpose: Purpose,
    pub(super) sql: Vec<u8>,
}

impl ScriptItem {
    /// What is being done, for error messages.
    pub(super) fn doing(&self) -> String {
        format!("creating {}", self.object)
    }

    /// The SQL that marks the item as done.
    pub(super) fn mark(&self) -> String {
        restore_progress::mark_sql(self.part, self.number)
    }

    /// The index that the item creates, directly or for a constraint.
    pub(super) fn index_made(&self) -> Option<String> {
        self.first_words()?.index_made()
    }

    /// The tokens of the item's first statement.
    pub(super) fn first_words(&self) -> Option<StatementWords<'_>> {
        self.statements.first().map(ScriptStep::words)
    }

    /// The table that the item is about, from the first statement that has one.
    pub(super) fn subject(&self) -> Option<String> {
        self.statements.iter().find_map(|step| step.words().subject())
    }

    /// Whether the item only grants and revokes privileges.
    pub(super) fn is_privilege(&self) -> bool {
        self.statements.iter().all(|step| step.purpose == Purpose::Privilege)
    }
}

impl ScriptStep {
    fn creates_database(&self) -> bool {
        self.words().starts_with(&["CREATE", "DATABASE"])
    }

    /// The tokens of the statement.
    pub(super) fn words(&self) -> StatementWords<'_> {
        StatementWords::of(&self.sql)
    }
}

/// All items, grouped by when they run.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) globals: Vec<ScriptItem>,
    pub(super) pre_data: Vec<ScriptItem>,
    /// Indexes, and constraints other than foreign keys.
    pub(super) keys: Vec<ScriptItem>,
    /// Attaches indexes of partitions to the indexes of the partitioned table.
    pub(super) attached: Vec<ScriptItem>,
    /// Foreign keys.
    pub(super) references: Vec<ScriptItem>,
    /// Everything else in post-data, in the order of the dump.
    pub(super) others: Vec<ScriptItem>,
    pub(super) privileges: Vec<ScriptItem>,
    /// Refreshes of materialized views.
    pub(super) refreshed: Vec<ScriptItem>,
    pub(super) event_triggers: Vec<ScriptItem>,
    pub(super) database: Vec<ScriptItem>,
}

impl Script {
    /// The statements of a document, rewritten for this server's version. Statements about the database itself get the
    /// target's name.
    pub(super) fn of(document: &SchemaDocument, server: &TargetServer) -> Self {
        let version = server.encode.version;
        let as_is = |statement: &SchemaStatement| for_version(&statement.class, statement.sql.bytes(), version);
        let mut script = Self {
            globals: items(RestorePart::Globals, &document.globals, &as_is),
            database: database_items(document, &server.database),
            ..Self::default()
        };
        for item in items(RestorePart::PreData, &document.pre_data, &as_is) {
            script.pre_data_list(&item).push(item);
        }
        for item in items(RestorePart::PostData, &document.post_data, &as_is) {
            script.post_data_list(&item).push(item);
        }
        script
    }

    /// All lists of items that are about this database.
    pub(super) fn lists_of_database(&mut self) -> [&mut Vec<ScriptItem>; 9] {
        [
            &mut self.pre_data,
            &mut self.keys,
            &mut self.attached,
            &mut self.references,
            &mut self.others,
            &mut self.privileges,
            &mut self.refreshed,
            &mut self.event_triggers,
            &mut self.database,
        ]
    }

    fn pre_data_list(&mut self, item: &ScriptItem) -> &mut Vec<ScriptItem> {
        if item.is_privilege() { &mut self.privileges } else { &mut self.pre_data }
    }

    fn post_data_list(&mut self, item: &ScriptItem) -> &mut Vec<ScriptItem> {
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

/// Everything about the database itself except its CREATE, because it exists already.
fn database_items(document: &SchemaDocument, database: &str) -> Vec<ScriptItem> {
    let mut items = items(RestorePart::Database, &document.database, &|statement| statement.in_database(database));
    for item in &mut items {
        item.statements.retain(|step| !step.creates_database());
    }
    items.retain(|item| !item.statements.is_empty());
    items
}

fn items(
    part: RestorePart,
    statements: &[SchemaStatement],
    sql: &dyn Fn(&SchemaStatement) -> Vec<u8>,
) -> Vec<ScriptItem> {
    let mut grouping = Grouping::new(part);
    for (number, statement) in (0..).zip(statements) {
        match statement.purpose {
            Purpose::Session => grouping.settings.set(statement),
            _ => grouping.add(number, statement, sql(statement)),
        }
    }
    grouping.items
}

/// Groups consecutive statements about one object.
struct Grouping<'a> {
    part: RestorePart,
    settings: DumpSettings,
    items: Vec<ScriptItem>,
    last: Option<&'a SchemaStatement>,
}

impl<'a> Grouping<'a> {
    fn new(part: RestorePart) -> Self {
        Self { part, settings: DumpSettings::default(), items: Vec::new(), last: None }
    }

    fn add(&mut self, number: u32, statement: &'a SchemaStatement, sql: Vec<u8>) {
        let step = ScriptStep { purpose: statement.purpose, sql };
        let settings = self.settings.statements();
        let belongs_to_last = self.belongs_to_last(statement);
        match self.items.last_mut() {
            Some(item) if belongs_to_last && item.settings == settings => item.statements.push(step),
            _ => self.begin_item(number, statement, settings, step),
        }
        self.last = Some(statement);
    }

    fn begin_item(&mut self, number: u32, statement: &SchemaStatement, settings: Vec<String>, step: ScriptStep) {
        self.items.push(ScriptItem {
            part: self.part,
            number,
            class: statement.class.clone(),
            object: object_name(statement, self.part),
            settings,
            statements: vec![step],
        });
    }

    /// Global statements are never grouped: in the dump they have no header that says which object they belong to.
    fn belongs_to_last(&self, statement: &SchemaStatement) -> bool {
        self.part != RestorePart::Globals && self.last.is_some_and(|last| is_same_object(last, statement))
    }
}

fn is_same_object(one: &SchemaStatement, other: &SchemaStatement) -> bool {
    one.class == other.class && one.schema == other.schema && one.name == other.name
}

/// The settings in effect, with the statements that set them.
#[derive(Default)]
struct DumpSettings(Vec<(&'static str, String)>);

impl DumpSettings {
    fn set(&mut self, statement: &SchemaStatement) {
        if let Some(name) = setting_of(&statement.sql.bytes()) {
            self.0.retain(|(known, _)| *known != name);
            self.0.push((name, statement.sql.lossy()));
        }
    }

    fn statements(&self) -> Vec<String> {
        self.0.iter().map(|(_, sql)| sql.clone()).collect()
    }
}

/// The setting that a statement sets, if other statements depend on it.
fn setting_of(sql: &[u8]) -> Option<&'static str> {
    let words = StatementWords::of(sql);
    if !words.is(0, "SET") {
        return None;
    }
    let name = words.name(1)?;
    SETTINGS.into_iter().find(|setting| *setting == name)
}

fn object_name(statement: &SchemaStatement, part: RestorePart) -> String {
    let name = statement.name.lossy();
    if part == RestorePart::Globals {
        return remark_name(statement).unwrap_or_else(|| format!("{} {name}", statement.class));
    }
    let class = statement.class.to_lowercase();
    let Some(schema) = &statement.schema else { return format!("{class} {name}") };
    // A name that is more than an identifier, such as `TABLE users` or `users users_pkey`.
    if name.contains([' ', '(']) {
        return format!("{class} {}.{name}", schema.lossy());
    }
    format!("{class} {}", qualified(&schema.lossy(), &name))
}

/// The name of a comment or security label on a role or tablespace.
fn remark_name(statement: &SchemaStatement) -> Option<String> {
    let class = match statement.class.as_str() {
        "COMMENT ON" => "COMMENT",
        "SECURITY LABEL" => "SECURITY LABEL",
        _ => return None,
    };
    let sql = statement.sql.bytes();
    let words = StatementWords::of(&sql);
    for kind in ["ROLE", "TABLESPACE"] {
        // SECURITY LABEL FOR provider ON ROLE name
        if let Some(at) = (1..6).find(|&at| words.is(at, kind)) {
            return Some(format!("{class} {kind} {}", words.name(at + 1)?));
        }
    }
    None
}
