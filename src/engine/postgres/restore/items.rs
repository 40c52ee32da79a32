//! Runs items, each in a transaction with its mark. Of an item that fails, each statement is tried by itself; what the
//! server refuses is named, and the restore goes on.

use crate::engine::contract::SourceError;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::restore::fault::{ServerFault, fatal, judge};
use crate::engine::postgres::restore::ledger;
use crate::engine::postgres::restore::script::{ScriptItem, ScriptStep};
use crate::engine::postgres::restore::server::TargetServer;
use crate::engine::postgres::restore::sql::StatementWords;

/// How often something is tried again that met a deadlock.
pub(super) const TRIES: u32 = 10;

/// How an item went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ItemOutcome {
    Done,
    /// At least one statement was refused, and named.
    Refused,
    /// It left no trace and no mark, for the reason that the caller said he would see to.
    Undone,
}

/// Whether what is refused is named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ItemNaming {
    Named,
    /// Nobody asked for it.
    Unnamed,
    /// Not if something is missing that may come later: then the item is left undone.
    UnlessMissing,
    /// Not if what it makes is there: then the item is left undone.
    UnlessThere,
}

impl ItemNaming {
    /// Whether an item that is refused with this state is left undone.
    fn leaves(self, state: &str) -> bool {
        match self {
            Self::Named | Self::Unnamed => false,
            Self::UnlessMissing => is_missing(state),
            Self::UnlessThere => state == THERE,
        }
    }
}

/// SQLSTATE of what is to be made and is there.
pub(super) const THERE: &str = "42710";

/// Runs an item.
pub(super) fn run(
    client: &Client,
    server: &TargetServer,
    item: &ScriptItem,
    naming: ItemNaming,
) -> Result<ItemOutcome, SourceError> {
    let doing = format!("making {}", item.object);
    let mark = ledger::mark(item.part, item.number);
    let statements: Vec<String> = item.statements.iter().map(|step| text(&step.sql)).collect();
    let whole = format!("BEGIN; {} {} {mark} COMMIT", item.settings.join(" "), statements.join(" "));
    for tried in 0.. {
        let Err(error) = client.attempt(&whole) else { return Ok(ItemOutcome::Done) };
        match judge(&error, &server.name, &doing) {
            ServerFault::Stop(error) => return Err(error),
            ServerFault::Again if tried < TRIES => rollback(client, server)?,
            ServerFault::Again => break,
            ServerFault::Refused { state, .. } if naming.leaves(&state) => {
                rollback(client, server)?;
                return Ok(ItemOutcome::Undone);
            }
            ServerFault::Refused { .. } => break,
        }
    }
    rollback(client, server)?;
    one_by_one(client, server, item, naming)
}

/// Something that the statement names is not there.
fn is_missing(state: &str) -> bool {
    matches!(state, "42P01" | "42704" | "42883" | "42703" | "3F000" | "42830")
}

pub(super) fn rollback(client: &Client, server: &TargetServer) -> Result<(), SourceError> {
    client.attempt("ROLLBACK").map_err(|error| fatal(&error, &server.name, "going back"))
}

/// The statement as text: bytes that are none are what the server makes of them in a database without an encoding.
pub(super) fn text(sql: &[u8]) -> String {
    match std::str::from_utf8(sql) {
        Ok(text) => text.to_owned(),
        Err(_) => format!(
            "DO $sidekeep$ BEGIN EXECUTE pg_catalog.convert_from(pg_catalog.decode('{}', 'hex'), 'SQL_ASCII'); END $sidekeep$;",
            data_encoding::HEXLOWER.encode(sql)
        ),
    }
}

fn one_by_one(
    client: &Client,
    server: &TargetServer,
    item: &ScriptItem,
    naming: ItemNaming,
) -> Result<ItemOutcome, SourceError> {
    let doing = format!("making {}", item.object);
    let stop = |error: &tokio_postgres::Error| fatal(error, &server.name, &doing);
    let (mut outcome, mut notes, mut skipping) = (ItemOutcome::Done, String::new(), false);
    client.attempt("BEGIN").map_err(|error| stop(&error))?;
    for setting in &item.settings {
        if let Some(reason) = attempt(client, server, &doing, setting)? {
            outcome = ItemOutcome::Refused;
            notes.push_str(&ledger::refused(&item.object, Some(&reason), 0));
        }
    }
    for ScriptStep { sql, .. } in &item.statements {
        let words = StatementWords::of(sql);
        if skipping && !words.starts_with(&["RESET", "SESSION"]) {
            continue;
        }
        skipping = false;
        if let Some(reason) = attempt(client, server, &doing, &text(sql))? {
            outcome = ItemOutcome::Refused;
            // Whoever cannot become the one who granted grants nothing in his own name.
            skipping = words.starts_with(&["SET", "SESSION", "AUTHORIZATION"]);
            notes.push_str(&ledger::refused(&item.object, Some(&reason), 0));
        }
    }
    if naming == ItemNaming::Unnamed {
        notes.clear();
    }
    let end = format!("RESET SESSION AUTHORIZATION; {notes} {} COMMIT", ledger::mark(item.part, item.number));
    client.attempt(&end).map_err(|error| stop(&error))?;
    Ok(outcome)
}

/// Runs a statement inside a transaction; gives why it was refused, if it was, and then it left no trace.
pub(super) fn attempt(
    client: &Client,
    server: &TargetServer,
    doing: &str,
    sql: &str,
) -> Result<Option<String>, SourceError> {
    // By itself: a statement that cannot even be read would take the savepoint with it.
    client.attempt("SAVEPOINT sidekeep").map_err(|error| fatal(&error, &server.name, doing))?;
    let Err(error) = client.attempt(&format!("{sql} RELEASE SAVEPOINT sidekeep")) else { return Ok(None) };
    let reason = match judge(&error, &server.name, doing) {
        ServerFault::Stop(error) => return Err(error),
        ServerFault::Refused { reason, .. } => reason,
        ServerFault::Again => "others held locks on it".to_owned(),
    };
    client
        .attempt("ROLLBACK TO SAVEPOINT sidekeep; RELEASE SAVEPOINT sidekeep")
        .map_err(|error| fatal(&error, &server.name, doing))?;
    Ok(Some(reason))
}

/// Runs items one after the other, but for those that are done.
pub(super) fn run_all(
    client: &Client,
    server: &TargetServer,
    done: &ledger::DoneParts,
    items: &[ScriptItem],
) -> Result<(), SourceError> {
    for item in items.iter().filter(|item| !done.has(item.part, item.number)) {
        run(client, server, item, ItemNaming::Named)?;
    }
    Ok(())
}
