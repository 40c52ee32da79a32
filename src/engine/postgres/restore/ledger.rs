//! The ledger of a restore, in a schema of its own in the target: which snapshot, what is done, what was refused. Each
//! mark commits together with what it stands for, so that a restore that was killed anywhere goes on from there.
//!
//! It goes with the last transaction of the restore.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::engine::contract::{Mark, Refused, SourceError};
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::query::{QueryError, rows};
use crate::engine::postgres::restore::fault::broken;

const FORMAT: u32 = 1;

const CREATE: &str = "CREATE SCHEMA sidekeep_restore;
    CREATE TABLE sidekeep_restore.head (content text NOT NULL);
    CREATE TABLE sidekeep_restore.done (part text NOT NULL, number integer NOT NULL);
    CREATE TABLE sidekeep_restore.batches (name text NOT NULL, marks bytea NOT NULL);
    CREATE TABLE sidekeep_restore.refused (object text NOT NULL, reason text, count bigint NOT NULL);";

/// Drops the ledger.
pub(super) const DROP: &str = "DROP TABLE sidekeep_restore.head, sidekeep_restore.done, sidekeep_restore.batches, \
    sidekeep_restore.refused; DROP SCHEMA sidekeep_restore;";

/// What the ledger says of the restore as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct RestoreHead {
    pub(super) format: u32,
    pub(super) snapshot: String,
    /// Those that were chosen, if not all.
    pub(super) tables: Option<Vec<String>>,
    /// Roles that were there before anything was restored.
    pub(super) roles: Vec<String>,
}

/// Which part of a restore a mark is of; its number is that of a statement in the schema document.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum RestorePart {
    Globals,
    PreData,
    Sequences,
    LargeObjects,
    PostData,
    /// Foreign keys proved.
    Proof,
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
        Self::Proof,
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
            Self::Proof => "proof",
            Self::LargeObjectRights => "rights of large objects",
            Self::Database => "database",
        }
    }
}

/// What is done, as of the beginning of this run.
#[derive(Debug, Default)]
pub(super) struct DoneParts {
    steps: HashSet<(RestorePart, u32)>,
    /// By the name of the table.
    batches: HashMap<String, HashSet<Mark>>,
}

impl DoneParts {
    pub(super) fn has(&self, part: RestorePart, number: u32) -> bool {
        self.steps.contains(&(part, number))
    }

    pub(super) fn has_batch(&self, table: &str, mark: &Mark) -> bool {
        self.batches.get(table).is_some_and(|marks| marks.contains(mark))
    }
}

/// The SQL that marks a step as done.
pub(super) fn mark(part: RestorePart, number: u32) -> String {
    format!("INSERT INTO sidekeep_restore.done VALUES ('{}', {number});", part.name())
}

/// The SQL that keeps what was refused; `reason` None: `count` rows that are not named.
pub(super) fn refused(object: &str, reason: Option<&str>, count: u64) -> String {
    let text = |text: &str| {
        // Whatever the session takes a backslash for.
        let text = text.replace('\0', "").replace('\\', "\\\\").replace('\'', "''");
        format!("E'{text}'")
    };
    let reason = reason.map_or_else(|| "NULL".to_owned(), text);
    format!("INSERT INTO sidekeep_restore.refused VALUES ({}, {reason}, {count});", text(object))
}

/// The SQL that marks parts of a batch: parameters are the table's name and the marks' bytes.
pub(super) const MARK_BATCH: &str = "INSERT INTO sidekeep_restore.batches VALUES ($1, $2)";

/// What an unfinished restore left, if there is one.
pub(super) fn find(client: &Client, server: &str) -> Result<Option<RestoreHead>, SourceError> {
    let doing = "looking for an unfinished restore";
    let there = client
        .texts(doing, "SELECT pg_catalog.to_regclass('sidekeep_restore.head')::text")
        .map_err(|error| broken(error, server))?;
    if there.into_iter().flatten().flatten().next().is_none() {
        return Ok(None);
    }
    let text = client.value(doing, "SELECT content FROM sidekeep_restore.head");
    let text = text.map_err(|error| broken(error, server))?;
    let unknown = |reason: String| SourceError::Failed { doing: doing.to_owned(), reason };
    let head: RestoreHead = serde_json::from_str(&text).map_err(|error| unknown(error.to_string()))?;
    match head.format {
        FORMAT => Ok(Some(head)),
        other => Err(unknown(format!("its ledger has format {other}, which another release understands"))),
    }
}

/// Begins a ledger.
pub(super) fn create(
    client: &Client,
    server: &str,
    snapshot: &str,
    tables: Option<Vec<String>>,
) -> Result<RestoreHead, SourceError> {
    let doing = "beginning the ledger of the restore";
    let roles = rows(client, doing, "SELECT rolname FROM pg_catalog.pg_roles", |fields| fields.text());
    let roles = roles.map_err(|error| unanswered(error, server))?;
    let head = RestoreHead { format: FORMAT, snapshot: snapshot.to_owned(), tables, roles };
    let content = serde_json::to_string(&head).expect("strings and numbers").replace('\'', "''");
    let sql = format!("BEGIN; {CREATE} INSERT INTO sidekeep_restore.head VALUES ('{content}'); COMMIT");
    client.execute(doing, &sql).map_err(|error| not_begun(error, server))?;
    Ok(head)
}

/// The first thing that is written shows what the role may do there, and whether anybody may.
fn not_begun(error: PostgresError, server: &str) -> SourceError {
    let advice = match error.state() {
        Some("42501") => "sign in as a superuser, or as the database's owner",
        Some("25006") => "restore to a primary, and to a database that may be written to",
        _ => return broken(error, server),
    };
    SourceError::Unreachable { what: server.to_owned(), reason: format!("{error}; {advice}") }
}

/// What is done.
pub(super) fn done(client: &Client, server: &str) -> Result<DoneParts, SourceError> {
    let doing = "reading the ledger of the restore";
    let failed = |error| unanswered(error, server);
    let steps = rows(client, doing, "SELECT part, number FROM sidekeep_restore.done", |fields| {
        Ok((fields.text()?, fields.parsed()?))
    });
    let part = |name: &str| RestorePart::ALL.into_iter().find(|part| part.name() == name);
    let steps = steps.map_err(failed)?.into_iter();
    let mut done = DoneParts {
        steps: steps.filter_map(|(name, number)| Some((part(&name)?, number))).collect(),
        batches: HashMap::new(),
    };
    let marks = client.query(doing, "SELECT name, marks FROM sidekeep_restore.batches", &[]);
    for row in marks.map_err(|error| broken(error, server))? {
        let marks: &[u8] = row.get(1);
        let known = done.batches.entry(row.get(0)).or_default();
        known.extend(marks.as_chunks::<{ size_of::<Mark>() }>().0);
    }
    Ok(done)
}

/// Everything that was refused, in the order in which it was.
pub(super) fn all_refused(client: &Client, server: &str) -> Result<Vec<Refused>, SourceError> {
    let sql = "SELECT object, reason, count FROM sidekeep_restore.refused ORDER BY ctid";
    let found = rows(client, "reading the ledger of the restore", sql, |fields| {
        Ok((fields.text()?, fields.optional()?, fields.parsed::<u64>()?))
    });
    let (mut all, mut unnamed) = (Vec::new(), BTreeMap::<String, u64>::new());
    let is_same = |known: &Refused, object: &str, reason: &str| known.object == object && known.reason == reason;
    for (object, reason, count) in found.map_err(|error| unanswered(error, server))? {
        match reason {
            // What is found again by each run that goes on, such as a table that is missing.
            Some(reason) if count == 0 && all.iter().any(|known| is_same(known, &object, &reason)) => {}
            Some(reason) => all.push(Refused { object, reason }),
            None => *unnamed.entry(object).or_default() += count,
        }
    }
    let more = unnamed.into_iter();
    all.extend(more.map(|(object, count)| Refused { object, reason: format!("{count} more rows were refused") }));
    Ok(all)
}

/// An answer to our own question that makes no sense, or none.
pub(super) fn unanswered(error: QueryError, server: &str) -> SourceError {
    match error {
        QueryError::Query(error) => broken(error, server),
        other => broken(
            PostgresError::Failed {
                doing: "asking the server".to_owned(),
                reason: other.to_string(),
                state: Some(String::new()),
            },
            server,
        ),
    }
}
