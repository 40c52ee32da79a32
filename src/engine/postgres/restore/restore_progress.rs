//! The progress record of a restore, in its own schema in the target database: which snapshot is restored, what is done,
//! and what was refused. Each mark commits together with the step that it marks, so a restore that was killed at any
//! point can be resumed from there.
//!
//! The last transaction of the restore drops the record.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::base::finding::{Finding, FindingKind};
use crate::engine::contract::{EngineError, Mark};
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::query::{QueryError, RowFields};
use crate::engine::postgres::restore::fault::converted_fatal;
use crate::engine::postgres::restore::session::TargetSession;

const FORMAT: u32 = 1;

const CREATE: &str = "CREATE SCHEMA sidekeep_restore;
    CREATE TABLE sidekeep_restore.head (content text NOT NULL);
    CREATE TABLE sidekeep_restore.done (part text NOT NULL, number integer NOT NULL);
    CREATE TABLE sidekeep_restore.batches (name text NOT NULL, marks bytea NOT NULL);
    CREATE TABLE sidekeep_restore.refused (object text NOT NULL, reason text, count bigint NOT NULL);";

/// Drops the progress record.
pub(super) const DROP: &str = "DROP TABLE sidekeep_restore.head, sidekeep_restore.done, sidekeep_restore.batches, \
    sidekeep_restore.refused; DROP SCHEMA sidekeep_restore;";

/// Facts about the restore as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct RestoreHead {
    pub(super) format: u32,
    pub(super) snapshot: String,
    /// The chosen tables. `None` if everything is restored.
    pub(super) tables: Option<Vec<String>>,
    /// Roles that existed before anything was restored.
    pub(super) roles: Vec<String>,
}

/// The part of a restore that a mark belongs to. The mark's number is the number of the step within that part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum RestorePart {
    Globals,
    PreData,
    Sequences,
    LargeObjects,
    PostData,
    /// Validation of foreign keys.
    Validation,
    LargeObjectRights,
    Database,
}

impl RestorePart {
    const ALL: [Self; 8] = [
        Self::Globals,
        Self::PreData,
        Self::Sequences,
        Self::LargeObjects,
        Self::PostData,
        Self::Validation,
        Self::LargeObjectRights,
        Self::Database,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Globals => "globals",
            Self::PreData => "pre-data",
            Self::Sequences => "sequences",
            Self::LargeObjects => "large objects",
            Self::PostData => "post-data",
            Self::Validation => "proof",
            Self::LargeObjectRights => "rights of large objects",
            Self::Database => "database",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

/// The steps and batches that were done when this run started.
#[derive(Debug, Default)]
pub(super) struct DoneParts {
    steps: HashSet<(RestorePart, u32)>,
    /// Marks of loaded parts of batches, by table name.
    batches: HashMap<String, HashSet<Mark>>,
}

impl DoneParts {
    /// Whether this step was done.
    pub(super) fn has(&self, part: RestorePart, number: u32) -> bool {
        self.steps.contains(&(part, number))
    }

    /// Whether this part of a batch of the table was loaded.
    pub(super) fn has_batch(&self, table: &str, mark: &Mark) -> bool {
        self.batches.get(table).is_some_and(|marks| marks.contains(mark))
    }
}

/// The SQL that marks a step as done.
pub(super) fn mark_sql(part: RestorePart, number: u32) -> String {
    format!("INSERT INTO sidekeep_restore.done VALUES ('{}', {number});", part.name())
}

/// The SQL that records why an object, or a part of it, was refused.
pub(super) fn refused_object_sql(object: &str, reason: &str) -> String {
    refused_sql(object, &literal(reason), 0)
}

/// The SQL that records why a row of a table was refused.
pub(super) fn refused_row_sql(table: &str, reason: &str) -> String {
    refused_sql(table, &literal(reason), 1)
}

/// The SQL that records a number of refused rows of a table without naming them.
pub(super) fn unnamed_rows_sql(table: &str, count: u64) -> String {
    refused_sql(table, "NULL", count)
}

fn refused_sql(object: &str, reason: &str, count: u64) -> String {
    format!("INSERT INTO sidekeep_restore.refused VALUES ({}, {reason}, {count});", literal(object))
}

/// Quotes a text, whatever the session's `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    let text = text.replace('\0', "").replace('\\', "\\\\").replace('\'', "''");
    format!("E'{text}'")
}

/// The SQL that marks the parts of a batch as loaded. Parameters: the table's name and the concatenated marks.
pub(super) const MARK_BATCH: &str = "INSERT INTO sidekeep_restore.batches VALUES ($1, $2)";

/// Records why an object, or a part of it, was refused.
/// Fails if the statement fails.
pub(super) fn record_refused(session: &TargetSession, object: &str, reason: &str) -> Result<(), EngineError> {
    session.execute("recording what was refused", &refused_object_sql(object, reason))
}

/// The head of the progress record that an unfinished restore left, if there is one.
/// `server` is its name in messages.
/// Fails if the record cannot be read, is damaged, or has a format that this release does not support.
pub(super) fn find(client: &Client, server: &str) -> Result<Option<RestoreHead>, EngineError> {
    match read_head(client) {
        Ok(Some(content)) => parse_head(&content).map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(converted_fatal(error, server)),
    }
}

const FINDING: &str = "looking for an unfinished restore";

fn read_head(client: &Client) -> Result<Option<String>, PostgresError> {
    let table = client.texts(FINDING, "SELECT pg_catalog.to_regclass('sidekeep_restore.head')::text")?;
    if table.into_iter().flatten().flatten().next().is_none() {
        return Ok(None);
    }
    client.value(FINDING, "SELECT content FROM sidekeep_restore.head").map(Some)
}

fn parse_head(content: &str) -> Result<RestoreHead, EngineError> {
    let head: RestoreHead = serde_json::from_str(content).map_err(|error| unreadable(error.to_string()))?;
    match head.format {
        FORMAT => Ok(head),
        other => {
            Err(unreadable(format!("its progress record has format {other}, which this release does not support")))
        }
    }
}

fn unreadable(reason: String) -> EngineError {
    EngineError::Failed { doing: FINDING.to_owned(), reason }
}

/// Creates the progress record.
/// Fails if the role may not create a schema, the database is read-only, or a statement fails.
pub(super) fn create(
    session: &TargetSession,
    snapshot: &str,
    tables: Option<Vec<String>>,
) -> Result<RestoreHead, EngineError> {
    let doing = "creating the progress record of the restore";
    let roles = session.rows(doing, "SELECT rolname FROM pg_catalog.pg_roles", RowFields::text)?;
    let head = RestoreHead { format: FORMAT, snapshot: snapshot.to_owned(), tables, roles };
    session.client.execute(doing, &create_sql(&head)).map_err(|error| not_begun(error, &session.server.name))?;
    Ok(head)
}

fn create_sql(head: &RestoreHead) -> String {
    let content = serde_json::to_string(head).expect("strings and numbers").replace('\'', "''");
    format!("BEGIN; {CREATE} INSERT INTO sidekeep_restore.head VALUES ('{content}'); COMMIT")
}

/// Creating the record is the first write, so it shows whether the role may write and whether the database is writable.
fn not_begun(error: PostgresError, server: &str) -> EngineError {
    let advice = match error.state() {
        Some("42501") => "connect as a superuser or as the database's owner",
        Some("25006") => "restore to a primary server and to a database that accepts writes",
        _ => return converted_fatal(error, server),
    };
    EngineError::Unreachable { what: server.to_owned(), reason: format!("{error}; {advice}") }
}

const READING: &str = "reading the progress record of the restore";

/// Loads the marks of everything that is done.
/// Fails if a query fails.
pub(super) fn load_done(session: &TargetSession) -> Result<DoneParts, EngineError> {
    let steps = load_steps(session)?;
    let batches = load_batches(session)?;
    Ok(DoneParts { steps, batches })
}

fn load_steps(session: &TargetSession) -> Result<HashSet<(RestorePart, u32)>, EngineError> {
    let mut steps = HashSet::new();
    let sql = "SELECT part, number FROM sidekeep_restore.done";
    for (name, number) in session.rows(READING, sql, |fields| Ok((fields.text()?, fields.parsed()?)))? {
        steps.extend(RestorePart::named(&name).map(|part| (part, number)));
    }
    Ok(steps)
}

fn load_batches(session: &TargetSession) -> Result<HashMap<String, HashSet<Mark>>, EngineError> {
    let found = session.client.query(READING, "SELECT name, marks FROM sidekeep_restore.batches", &[]);
    let mut batches: HashMap<String, HashSet<Mark>> = HashMap::new();
    for row in found.map_err(|error| converted_fatal(error, &session.server.name))? {
        let marks: &[u8] = row.get(1);
        let known = batches.entry(row.get(0)).or_default();
        known.extend(marks.as_chunks::<{ size_of::<Mark>() }>().0);
    }
    Ok(batches)
}

/// Everything that was refused, in the order in which it was recorded.
/// Fails if the query fails or returns an unexpected value.
pub(super) fn load_refused(session: &TargetSession) -> Result<Vec<Finding>, EngineError> {
    let sql = "SELECT object, reason, count FROM sidekeep_restore.refused ORDER BY ctid";
    let mut list = RefusedList::default();
    for record in session.rows(READING, sql, RefusedRecord::read)? {
        list.add(record);
    }
    Ok(list.finish())
}

/// A row of the record's table of refused things.
struct RefusedRecord {
    object: String,
    /// `None` for rows that are only counted.
    reason: Option<String>,
    /// Number of rows. 0 for an object.
    count: u64,
}

impl RefusedRecord {
    fn read(fields: &mut RowFields) -> Result<Self, QueryError> {
        Ok(Self { object: fields.text()?, reason: fields.optional()?, count: fields.parsed()? })
    }
}

/// The kind of finding, derived from the object's name and the number of rows.
fn kind_of(object: &str, rows: u64) -> FindingKind {
    match rows {
        0 if is_constraint(object) => FindingKind::RefusedConstraint,
        0 => FindingKind::Refused,
        rows => FindingKind::RefusedRows { rows },
    }
}

#[derive(Default)]
struct RefusedList {
    named: Vec<Finding>,
    /// Objects and reasons of all that are named.
    known: HashSet<(String, String)>,
    /// Numbers of rows that are only counted, by table.
    unnamed: BTreeMap<String, u64>,
}

impl RefusedList {
    fn add(&mut self, record: RefusedRecord) {
        let RefusedRecord { object, reason, count } = record;
        let Some(reason) = reason else {
            *self.unnamed.entry(object).or_default() += count;
            return;
        };
        // Every resumed run finds some things again, such as a missing table.
        let is_new = self.known.insert((object.clone(), reason.clone()));
        if count > 0 || is_new {
            self.named.push(Finding::new(kind_of(&object, count), object, reason));
        }
    }

    fn finish(mut self) -> Vec<Finding> {
        for (object, count) in self.unnamed {
            let detail = format!("{count} more rows were refused");
            self.named.push(Finding::new(FindingKind::RefusedRows { rows: count }, object, detail));
        }
        self.named
    }
}

/// Whether an object with this name is a constraint.
fn is_constraint(object: &str) -> bool {
    let mut classes = ["constraint ", "check constraint ", "fk constraint "].into_iter();
    classes.any(|class| object.starts_with(class))
}
