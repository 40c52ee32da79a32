//! Runs items, each in a transaction with its mark. Of an item that fails, each statement is tried by itself; what the
//! server refuses is recorded, and the restore goes on.

use crate::engine::contract::SourceError;
use crate::engine::postgres::restore::fault::ServerFault;
use crate::engine::postgres::restore::ledger::{self, DoneParts};
use crate::engine::postgres::restore::script::ScriptItem;
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::restore::statement_words::StatementWords;

/// How often something is tried again that met a deadlock.
pub(super) const RETRIES_MAX: u32 = 10;

/// How an item went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ItemOutcome {
    Done,
    /// At least one statement was refused.
    Refused,
    /// It left no trace and no mark, as the [`RefusalPolicy`] asks for.
    Skipped,
}

/// What is done about a statement that is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RefusalPolicy {
    Record,
    /// It is of no interest by itself.
    Ignore,
    /// If something is missing that may come later, the item is skipped. Else it is recorded.
    SkipIfMissing,
    /// If what it makes is there, the item is skipped. Else it is recorded.
    SkipIfPresent,
}

impl RefusalPolicy {
    /// Whether an item that is refused with this state is skipped.
    fn skips(self, state: &str) -> bool {
        match self {
            Self::Record | Self::Ignore => false,
            Self::SkipIfMissing => is_missing(state),
            Self::SkipIfPresent => state == DUPLICATE_OBJECT,
        }
    }
}

/// SQLSTATE of what is to be made and is there.
pub(super) const DUPLICATE_OBJECT: &str = "42710";

/// Something that the statement names is not there.
fn is_missing(state: &str) -> bool {
    matches!(state, "42P01" | "42704" | "42883" | "42703" | "3F000" | "42830")
}

/// Runs items one after the other, but for those that are done.
pub(super) fn run_items(session: &TargetSession, done: &DoneParts, items: &[ScriptItem]) -> Result<(), SourceError> {
    for item in items {
        if !done.has(item.part, item.number) {
            run_item(session, item, RefusalPolicy::Record)?;
        }
    }
    Ok(())
}

/// Runs an item.
pub(super) fn run_item(
    session: &TargetSession,
    item: &ScriptItem,
    policy: RefusalPolicy,
) -> Result<ItemOutcome, SourceError> {
    match run_as_a_whole(session, item, policy)? {
        Some(outcome) => Ok(outcome),
        None => SeparateRun::new(session, item).run(policy),
    }
}

/// None: it left no trace, and each statement is to be tried by itself.
fn run_as_a_whole(
    session: &TargetSession,
    item: &ScriptItem,
    policy: RefusalPolicy,
) -> Result<Option<ItemOutcome>, SourceError> {
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

/// The statement as text: bytes that are none are what the server makes of them in a database without an encoding.
pub(super) fn statement_text(sql: &[u8]) -> String {
    match std::str::from_utf8(sql) {
        Ok(text) => text.to_owned(),
        Err(_) => format!(
            "DO $sidekeep$ BEGIN EXECUTE pg_catalog.convert_from(pg_catalog.decode('{}', 'hex'), 'SQL_ASCII'); END $sidekeep$;",
            data_encoding::HEXLOWER.encode(sql)
        ),
    }
}

/// An item whose statements are tried one by one, in one transaction.
struct SeparateRun<'a> {
    session: &'a TargetSession,
    item: &'a ScriptItem,
    doing: String,
    /// The SQL that records what was refused.
    refused: String,
}

impl<'a> SeparateRun<'a> {
    fn new(session: &'a TargetSession, item: &'a ScriptItem) -> Self {
        Self { session, item, doing: item.doing(), refused: String::new() }
    }

    fn run(mut self, policy: RefusalPolicy) -> Result<ItemOutcome, SourceError> {
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

    fn try_statements(&mut self) -> Result<(), SourceError> {
        let mut is_skipping = false;
        for step in &self.item.statements {
            let words = StatementWords::of(&step.sql);
            if is_skipping && !words.starts_with(&["RESET", "SESSION"]) {
                continue;
            }
            let is_run = self.try_statement(&statement_text(&step.sql))?;
            // Whoever cannot become the one who granted grants nothing in his own name.
            is_skipping = !is_run && words.starts_with(&["SET", "SESSION", "AUTHORIZATION"]);
        }
        Ok(())
    }

    /// Whether it was not refused.
    fn try_statement(&mut self, sql: &str) -> Result<bool, SourceError> {
        let refused = try_statement(self.session, &self.doing, sql)?;
        if let Some(reason) = &refused {
            self.refused.push_str(&ledger::refused_object_sql(&self.item.object, reason));
        }
        Ok(refused.is_none())
    }

    fn commit(&self) -> Result<(), SourceError> {
        let end = format!("RESET SESSION AUTHORIZATION; {} {} COMMIT", self.refused, self.item.mark());
        self.session.execute(&self.doing, &end)
    }
}

/// Runs a statement inside a transaction; gives why it was refused, if it was, and then it left no trace.
pub(super) fn try_statement(session: &TargetSession, doing: &str, sql: &str) -> Result<Option<String>, SourceError> {
    // By itself: a statement that cannot even be read would take the savepoint with it.
    session.execute(doing, "SAVEPOINT sidekeep")?;
    let Err(error) = session.client.attempt(&format!("{sql} RELEASE SAVEPOINT sidekeep")) else { return Ok(None) };
    let reason = refusal_reason(session.classify(&error, doing))?;
    session.execute(doing, "ROLLBACK TO SAVEPOINT sidekeep; RELEASE SAVEPOINT sidekeep")?;
    Ok(Some(reason))
}

fn refusal_reason(fault: ServerFault) -> Result<String, SourceError> {
    match fault {
        ServerFault::Fatal(error) => Err(error),
        ServerFault::Refused { reason, .. } => Ok(reason),
        ServerFault::Retry => Ok("others held locks on it".to_owned()),
    }
}
