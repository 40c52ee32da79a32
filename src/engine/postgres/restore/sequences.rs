//! The positions of sequences.

use std::collections::BTreeSet;

use crate::engine::contract::EngineError;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::restore::items::try_statement;
use crate::engine::postgres::restore::restore_progress::{self, DoneParts, RestorePart};
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::schema::document::{Position, Sequence};

/// Number of sequences that are set together.
const BATCH: usize = 200;
const DOING: &str = "setting sequences";

/// What to do about a sequence that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MissingSequences {
    Record,
    Ignore,
}

/// Sets sequences, only once per restore: users of a table that is already loaded may have advanced its sequence.
/// Fails if the session is lost, the server is out of resources, or one of our own statements fails. A sequence that is
/// refused is recorded.
pub(super) fn set_sequences(
    session: &TargetSession,
    done: &DoneParts,
    sequences: &[Sequence],
    missing: MissingSequences,
) -> Result<(), EngineError> {
    if done.has(RestorePart::Sequences, 0) {
        return Ok(());
    }
    let existing = existing_sequences(session)?;
    let (present, absent): (Vec<&Sequence>, Vec<&Sequence>) = sequences.iter().partition(|of| existing.has(of));
    session.execute(DOING, "BEGIN")?;
    let mut refused = String::new();
    if missing == MissingSequences::Record {
        for sequence in absent {
            refused.push_str(&refused_sql(sequence, "it does not exist"));
        }
    }
    for batch in present.chunks(BATCH) {
        refused.push_str(&set_batch(session, batch)?);
    }
    let mark = restore_progress::mark_sql(RestorePart::Sequences, 0);
    session.execute(DOING, &format!("{refused} {mark} COMMIT"))
}

/// Schema and name of each existing sequence.
struct ExistingSequences(BTreeSet<(String, String)>);

impl ExistingSequences {
    fn has(&self, sequence: &Sequence) -> bool {
        self.0.contains(&(sequence.schema.clone(), sequence.name.clone()))
    }
}

fn existing_sequences(session: &TargetSession) -> Result<ExistingSequences, EngineError> {
    let sql =
        "SELECT nspname, relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
        WHERE relkind = 'S'";
    let existing = session.rows(DOING, sql, |fields| Ok((fields.text()?, fields.text()?)))?;
    Ok(ExistingSequences(existing.into_iter().collect()))
}

/// Sets some sequences together, or one by one if one is refused. Returns the SQL that records what was refused.
fn set_batch(session: &TargetSession, sequences: &[&Sequence]) -> Result<String, EngineError> {
    let together: String = sequences.iter().map(|sequence| setval(sequence)).collect();
    match try_statement(session, DOING, &together)? {
        Some(_) => set_each(session, sequences),
        None => Ok(String::new()),
    }
}

/// Sets sequences one by one. Returns the SQL that records what was refused.
fn set_each(session: &TargetSession, sequences: &[&Sequence]) -> Result<String, EngineError> {
    let mut refused = String::new();
    for sequence in sequences {
        if let Some(reason) = try_statement(session, DOING, &setval(sequence))? {
            refused.push_str(&refused_sql(sequence, &reason));
        }
    }
    Ok(refused)
}

fn refused_sql(sequence: &Sequence, reason: &str) -> String {
    let object = format!("sequence {}.{}", sequence.schema, sequence.name);
    restore_progress::refused_object_sql(&object, reason)
}

fn setval(sequence: &Sequence) -> String {
    let name = format!("{}.{}", quote_identifier(&sequence.schema), quote_identifier(&sequence.name));
    let name = name.replace('\\', "\\\\").replace('\'', "''");
    let arguments = position_arguments(&sequence.position);
    format!("SELECT pg_catalog.setval(E'{name}', {arguments});")
}

/// The value, and whether it was already returned by `nextval`.
fn position_arguments(position: &Position) -> String {
    match position {
        Position::Last(value) => format!("{value}, true"),
        Position::Next(value) => format!("{value}, false"),
    }
}
