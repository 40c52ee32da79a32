//! Where sequences go on from.

use std::collections::BTreeSet;

use crate::engine::contract::SourceError;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::connect::query::rows;
use crate::engine::postgres::restore::fault::fatal;
use crate::engine::postgres::restore::items::attempt;
use crate::engine::postgres::restore::ledger::{self, DoneParts, RestorePart, unanswered};
use crate::engine::postgres::restore::server::TargetServer;
use crate::engine::postgres::schema::document::{Position, Sequence};

/// Sequences that are set at once.
const AT_ONCE: usize = 200;

/// Whether a sequence that is not there is missed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    Named,
    Expected,
}

/// Sets them, once: whoever uses a table that is in already may have drawn from its sequence.
pub(super) fn set(
    client: &Client,
    server: &TargetServer,
    done: &DoneParts,
    all: &[Sequence],
    missing: Missing,
) -> Result<(), SourceError> {
    let doing = "setting sequences";
    if done.has(RestorePart::Sequences, 0) {
        return Ok(());
    }
    let sql =
        "SELECT nspname, relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
        WHERE relkind = 'S'";
    let there = rows(client, doing, sql, |fields| Ok((fields.text()?, fields.text()?)));
    let there: BTreeSet<(String, String)> =
        there.map_err(|error| unanswered(error, &server.name))?.into_iter().collect();
    let is_there = |sequence: &&Sequence| there.contains(&(sequence.schema.clone(), sequence.name.clone()));
    let (present, absent): (Vec<&Sequence>, Vec<&Sequence>) = all.iter().partition(is_there);
    client.attempt("BEGIN").map_err(|error| fatal(&error, &server.name, doing))?;
    let mut notes = String::new();
    let mut refuse = |sequence: &Sequence, reason: &str| {
        let object = format!("sequence {}.{}", sequence.schema, sequence.name);
        notes.push_str(&ledger::refused(&object, Some(reason), 0));
    };
    if missing == Missing::Named {
        absent.iter().for_each(|sequence| refuse(sequence, "it does not exist"));
    }
    for some in present.chunks(AT_ONCE) {
        let together: String = some.iter().map(|sequence| setval(sequence)).collect();
        if attempt(client, server, doing, &together)?.is_none() {
            continue;
        }
        for sequence in some {
            if let Some(reason) = attempt(client, server, doing, &setval(sequence))? {
                refuse(sequence, &reason);
            }
        }
    }
    let mark = ledger::mark(RestorePart::Sequences, 0);
    client.attempt(&format!("{notes} {mark} COMMIT")).map_err(|error| fatal(&error, &server.name, doing))
}

fn setval(sequence: &Sequence) -> String {
    let name = format!("{}.{}", quote_identifier(&sequence.schema), quote_identifier(&sequence.name));
    let name = name.replace('\\', "\\\\").replace('\'', "''");
    let (value, called) = match sequence.position {
        Position::Last(value) => (value, true),
        Position::Next(value) => (value, false),
    };
    format!("SELECT pg_catalog.setval(E'{name}', {value}, {called});")
}
