//! Runs items, each in a transaction together with its mark. If an item fails, its statements are tried one by one.
//! Statements that the server refuses are recorded, and the restore continues.

use crate::engine::contract::EngineError;
use crate::engine::postgres::restore::fault::ServerFault;
use crate::engine::postgres::restore::restore_progress::{self, DoneParts};
use crate::engine::postgres::restore::script::ScriptItem;
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::schema::statement_words::StatementWords;

/// Number of retries after a deadlock or another lock conflict.
pub(super) const RETRIES_MAX: u32 = 10;

/// The result of running an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ItemOutcome {
    Done,
    /// At least one statement was refused.
    Refused,
    /// The item was rolled back and not marked as done, as its [`RefusalPolicy`] demands.
    Skipped,
}

/// What to do if a statement is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RefusalPolicy {
    /// Record it as a finding.
    Record,
    /// Do not record it: nobody needs the object by itself.
    Ignore,
    /// Skip the item if something that it needs does not exist, because that may be created later. Otherwise record it.
    SkipIfMissing,
    /// Skip the item if the object that it creates exists. Otherwise record it.
    SkipIfPresent,
}

impl RefusalPolicy {
    /// Whether an item that is refused with this SQLSTATE is skipped.
    fn skips(self, state: &str) -> bool {
        match self {
            Self::Record | Self::Ignore => false,
            Self::SkipIfMissing => is_missing(state),
            Self::SkipIfPresent => state == DUPLICATE_OBJECT,
        }
    }
}

/// SQLSTATE of creating an object that exists already.
pub(super) const DUPLICATE_OBJECT: &str = "42710";

/// Whether this SQLSTATE means that something named by the statement does not exist.
fn is_missing(state: &str) -> bool {
    matches!(state, "42P01" | "42704" | "42883" | "42703" | "3F000" | "42830")
}

/// Runs the items that are not done yet, one after the other.
/// Fails as [`run_item`] does.
pub(super) fn run_items(session: &TargetSession, done: &DoneParts, items: &[ScriptItem]) -> Result<(), EngineError> {
    for item in items {
        if !done.has(item.part, item.number) {
            run_item(session, item, RefusalPolicy::Record)?;
        }
    }
    Ok(())
}

/// Runs an item as a whole or, if that is refused, statement by statement.
/// Fails if the session is lost, the server shuts down or is out of resources, or one of our own statements fails.
pub(super) fn run_item(
    session: &TargetSession,
    item: &ScriptItem,
    policy: RefusalPolicy,
) -> Result<ItemOutcome, EngineError> {
    match run_as_a_whole(session, item, policy)? {
        Some(outcome) => Ok(outcome),
        None => SeparateRun::new(session, item).run(policy),
    }
}

/// Runs all statements of an item in one transaction. `None` means that it was rolled back and that its statements have
/// to be tried one by one.
fn run_as_a_whole(
    session: &TargetSession,
    item: &ScriptItem,
    policy: RefusalPolicy,
) -> Result<Option<ItemOutcome>, EngineError> {
    let doing = item.doing();
    let transaction = transaction_sql(item);
    for _ in 0..=RETRIES_MAX {
        let Err(error) = session.client.attempt(&transaction) else { return Ok(Some(ItemOutcome::Done)) };
        let fault = session.classify(&error, &doing);
        if let ServerFault::Fatal(error) = fault {
            return Err(error);
        }
        session.rollback()?;
        if let ServerFault::Refused { state, .. } = fault {
            return Ok(policy.skips(&state).then_some(ItemOutcome::Skipped));
        }
    }
    Ok(None)
}

fn transaction_sql(item: &ScriptItem) -> String {
    let settings = item.settings.join(" ");
    let statements: Vec<String> = item.statements.iter().map(|step| statement_text(&step.sql)).collect();
    let statements = statements.join(" ");
    format!("BEGIN; {settings} {statements} {} COMMIT", item.mark())
}

/// The statement as text. A statement that is not valid UTF-8 comes from a database without an encoding (SQL_ASCII) and
/// is decoded by the server.
pub(super) fn statement_text(sql: &[u8]) -> String {
    match std::str::from_utf8(sql) {
        Ok(text) => text.to_owned(),
        Err(_) => format!(
            "DO $sidekeep$ BEGIN EXECUTE pg_catalog.convert_from(pg_catalog.decode('{}', 'hex'), 'SQL_ASCII'); END $sidekeep$;",
            data_encoding::HEXLOWER.encode(sql)
        ),
    }
}

/// Runs an item's statements one by one, in one transaction.
struct SeparateRun<'a> {
    session: &'a TargetSession,
    item: &'a ScriptItem,
    doing: String,
    /// The SQL that records the refused statements.
    refused: String,
}

impl<'a> SeparateRun<'a> {
    fn new(session: &'a TargetSession, item: &'a ScriptItem) -> Self {
        Self { session, item, doing: item.doing(), refused: String::new() }
    }

    fn run(mut self, policy: RefusalPolicy) -> Result<ItemOutcome, EngineError> {
        self.session.execute(&self.doing, "BEGIN")?;
        for setting in &self.item.settings {
            self.try_statement(setting)?;
        }
        self.try_statements()?;
        let outcome = if self.refused.is_empty() { ItemOutcome::Done } else { ItemOutcome::Refused };
        if policy == RefusalPolicy::Ignore {
            self.refused.clear();
        }
        self.commit()?;
        Ok(outcome)
    }

    fn try_statements(&mut self) -> Result<(), EngineError> {
        let mut is_skipping = false;
        for step in &self.item.statements {
            let words = StatementWords::of(&step.sql);
            if is_skipping && !words.starts_with(&["RESET", "SESSION"]) {
                continue;
            }
            let is_run = self.try_statement(&statement_text(&step.sql))?;
            // If the session cannot become the grantor, it must not grant in its own name.
            is_skipping = !is_run && words.starts_with(&["SET", "SESSION", "AUTHORIZATION"]);
        }
        Ok(())
    }

    /// Returns whether the statement ran, that is, was not refused.
    fn try_statement(&mut self, sql: &str) -> Result<bool, EngineError> {
        let refused = try_statement(self.session, &self.doing, sql)?;
        if let Some(reason) = &refused {
            self.refused.push_str(&restore_progress::refused_object_sql(&self.item.object, reason));
        }
        Ok(refused.is_none())
    }

    fn commit(&self) -> Result<(), EngineError> {
        let end = format!("RESET SESSION AUTHORIZATION; {} {} COMMIT", self.refused, self.item.mark());
        self.session.execute(&self.doing, &end)
    }
}

/// Runs a statement inside a transaction. If it was refused, rolls it back and returns the reason.
/// Fails if the session is lost, the server shuts down or is out of resources, or a savepoint fails.
pub(super) fn try_statement(session: &TargetSession, doing: &str, sql: &str) -> Result<Option<String>, EngineError> {
    // Sent separately: a syntax error in the statement would otherwise discard the savepoint too.
    session.execute(doing, "SAVEPOINT sidekeep")?;
    let Err(error) = session.client.attempt(&format!("{sql} RELEASE SAVEPOINT sidekeep")) else { return Ok(None) };
    let reason = refusal_reason(session.classify(&error, doing))?;
    session.execute(doing, "ROLLBACK TO SAVEPOINT sidekeep; RELEASE SAVEPOINT sidekeep")?;
    Ok(Some(reason))
}

fn refusal_reason(fault: ServerFault) -> Result<String, EngineError> {
    match fault {
        ServerFault::Fatal(error) => Err(error),
        ServerFault::Refused { reason, .. } => Ok(reason),
        ServerFault::Retry => Ok("other sessions hold locks on it".to_owned()),
    }
}
