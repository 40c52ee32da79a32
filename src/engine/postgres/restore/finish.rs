//! What is built after the rows are loaded: keys and indexes in several sessions, then foreign keys, then everything
//! else in the order of the dump. Event triggers come last, in the transaction that drops the progress record.
//!
//! A foreign key is first added without validation, which is quick but locks both tables. Then all foreign keys are
//! validated in parallel, which does not block other users of the parent tables. Where a server cannot do that, the
//! foreign key is added as the dump says.

use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;

use crate::base::finding::{Finding, FindingKind};
use crate::base::pipeline::{into_inner, lock};
use crate::engine::contract::EngineError;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::restore::fault::ServerFault;
use crate::engine::postgres::restore::items::{
    ItemOutcome, RefusalPolicy, run_item, run_items, statement_text, try_statement,
};
use crate::engine::postgres::restore::restore_progress::{self, DoneParts, RestorePart};
use crate::engine::postgres::restore::schedule::{ResourceUse, Task, run_in_parallel};
use crate::engine::postgres::restore::script::{ScriptItem, ScriptStep};
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::restore::target_tables::{
    AnalyzedRelation, ExistingRelations, existing_relations, relations_to_analyze,
};
use crate::engine::postgres::schema::statement_words::StatementWords;

/// The sessions that build, and what is already done.
pub(super) struct Finisher<'a> {
    /// The leader's session comes first.
    pub(super) sessions: Vec<&'a TargetSession>,
    pub(super) done: &'a DoneParts,
    /// Items that this run has already built.
    pub(super) built: HashSet<(RestorePart, u32)>,
    /// Remarks that are not failures.
    pub(super) notes: Mutex<Vec<String>>,
}

/// The result of the last transaction, and everything that was refused.
pub(super) enum RestoreEnd {
    Done(Vec<Finding>),
    /// The session was lost before the server reported whether it committed.
    Unanswered {
        refused: Vec<Finding>,
        error: EngineError,
    },
}

impl Finisher<'_> {
    /// The session of the leader.
    pub(super) fn leader(&self) -> &TargetSession {
        self.sessions[0]
    }

    fn is_done(&self, item: &ScriptItem) -> bool {
        self.done.has(item.part, item.number) || self.built.contains(&(item.part, item.number))
    }

    /// Builds the keys and indexes of these tables (`None`: of all tables). Returns the items that were skipped because
    /// something they need does not exist yet.
    /// Fails as [`run_item`] does, or if the relations cannot be listed.
    pub(super) fn build_keys<'i>(
        &mut self,
        items: &'i [ScriptItem],
        tables: Option<&BTreeSet<String>>,
    ) -> Result<Vec<&'i ScriptItem>, EngineError> {
        let wanted = self.missing_items(items, tables);
        let skipped = self.build_in_parallel(&wanted)?;
        let mut missing = Vec::new();
        for item in wanted {
            if skipped.contains(&item.number) {
                missing.push(item);
            } else {
                self.built.insert((item.part, item.number));
            }
        }
        Ok(missing)
    }

    /// Items of these tables that are not done yet.
    fn missing_items<'i>(&self, items: &'i [ScriptItem], tables: Option<&BTreeSet<String>>) -> Vec<&'i ScriptItem> {
        let of_tables = items.iter().filter(|item| is_of_tables(item, tables));
        of_tables.filter(|item| !self.is_done(item)).collect()
    }

    /// Returns the numbers of the items that were skipped because something they need does not exist yet.
    fn build_in_parallel(&self, items: &[&ScriptItem]) -> Result<HashSet<u32>, EngineError> {
        let relations = existing_relations(self.leader())?;
        let tasks = items.iter().map(|item| key_task(item, &relations)).collect();
        let skipped = Mutex::new(HashSet::new());
        run_in_parallel(&self.sessions, tasks, &|session, item: &&ScriptItem| {
            if run_item(session, item, RefusalPolicy::SkipIfMissing)? == ItemOutcome::Skipped {
                lock(&skipped).insert(item.number);
            }
            Ok(())
        })?;
        Ok(into_inner(skipped))
    }

    /// Runs items one after the other.
    /// Fails as [`run_item`] does.
    pub(super) fn run_in_order<'i>(
        &mut self,
        items: impl IntoIterator<Item = &'i ScriptItem>,
    ) -> Result<(), EngineError> {
        for item in items {
            if !self.is_done(item) {
                run_item(self.leader(), item, RefusalPolicy::Record)?;
                self.built.insert((item.part, item.number));
            }
        }
        Ok(())
    }

    /// Adds foreign keys, then validates them.
    /// Fails as [`run_item`] does, or if the relations cannot be listed. A foreign key that the rows violate is
    /// recorded.
    pub(super) fn add_foreign_keys(&self, items: &[ScriptItem]) -> Result<(), EngineError> {
        let relations = existing_relations(self.leader())?;
        let mut validations = Vec::new();
        for item in items {
            match validation_task(item, &relations) {
                Some(task) if self.add_unvalidated(item)? => validations.push(task),
                Some(_) => {}
                None => run_items(self.leader(), self.done, std::slice::from_ref(item))?,
            }
        }
        // A foreign key that could not be added does not exist. That is already recorded.
        run_in_parallel(&self.sessions, validations, &|session, item| {
            run_item(session, item, RefusalPolicy::SkipIfMissing).map(drop)
        })
    }

    /// Adds a foreign key without validation. Returns whether it exists and still has to be validated.
    fn add_unvalidated(&self, item: &ScriptItem) -> Result<bool, EngineError> {
        let is_added = self.done.has(item.part, item.number)
            || run_item(self.leader(), &unvalidated(item), RefusalPolicy::Record)? == ItemOutcome::Done;
        Ok(is_added && !self.done.has(RestorePart::Validation, item.number))
    }

    /// Gathers statistics of these tables (`None`: of all tables and materialized views).
    /// Fails if the session is lost, the server shuts down or lacks resources, or the relations cannot be listed. An
    /// error that concerns only one relation becomes a note.
    pub(super) fn analyze(&self, tables: Option<&BTreeSet<String>>) -> Result<(), EngineError> {
        let mut tasks = Vec::new();
        for relation in relations_to_analyze(self.leader())? {
            if tables.is_none_or(|tables| tables.contains(&relation.name)) {
                tasks.push(analyze_task(&relation));
            }
        }
        run_in_parallel(&self.sessions, tasks, &|session, sql: &String| {
            lock(&self.notes).extend(analyze_relation(session, sql)?);
            Ok(())
        })
    }

    /// Drops the progress record and creates event triggers, in one transaction. The drop comes first, so that no event
    /// trigger fires on it.
    /// Fails if one of our own statements fails, except that a session that is lost in the COMMIT is
    /// [`RestoreEnd::Unanswered`].
    pub(super) fn end(&self, event_triggers: &[ScriptItem]) -> Result<RestoreEnd, EngineError> {
        let leader = self.leader();
        let doing = "finishing the restore";
        let mut refused = restore_progress::load_refused(leader)?;
        leader.execute(doing, &format!("BEGIN; SET LOCAL synchronous_commit = on; {}", restore_progress::DROP))?;
        for item in event_triggers {
            make_event_trigger(leader, item, &mut refused)?;
        }
        restore_end(leader.execute(doing, "COMMIT"), refused)
    }
}

fn is_of_tables(item: &ScriptItem, tables: Option<&BTreeSet<String>>) -> bool {
    let Some(tables) = tables else { return true };
    item.subject().is_some_and(|subject| tables.contains(&subject))
}

fn restore_end(committed: Result<(), EngineError>, refused: Vec<Finding>) -> Result<RestoreEnd, EngineError> {
    match committed {
        Ok(()) => Ok(RestoreEnd::Done(refused)),
        Err(error @ EngineError::Lost { .. }) => Ok(RestoreEnd::Unanswered { refused, error }),
        Err(error) => Err(error),
    }
}

fn key_task<'i>(item: &'i ScriptItem, relations: &ExistingRelations) -> Task<&'i ScriptItem> {
    let subject = item.subject().unwrap_or_default();
    let Some(relation) = relations.get(&subject) else {
        return Task { work: item, weight: 0, resources: exclusive(&[subject]) };
    };
    if relation.is_partitioned {
        return Task { work: item, weight: 0, resources: exclusive(&relation.family) };
    }
    let only_makes_indexes = item.statements.iter().all(makes_index);
    let table_use = if only_makes_indexes { ResourceUse::Shared } else { ResourceUse::Exclusive };
    Task { work: item, weight: relation.bytes, resources: vec![(subject, table_use)] }
}

fn exclusive(tables: &[String]) -> Vec<(String, ResourceUse)> {
    tables.iter().map(|name| (name.clone(), ResourceUse::Exclusive)).collect()
}

fn makes_index(step: &ScriptStep) -> bool {
    let words = step.words();
    words.starts_with(&["CREATE", "INDEX"]) || words.starts_with(&["CREATE", "UNIQUE", "INDEX"])
}

/// The same foreign key, added without validation.
fn unvalidated(item: &ScriptItem) -> ScriptItem {
    let mut item = item.clone();
    item.statements[0].sql = unvalidated_sql(&item.statements[0].sql);
    item
}

fn unvalidated_sql(sql: &[u8]) -> Vec<u8> {
    let sql = String::from_utf8_lossy(sql);
    format!("{} NOT VALID;", sql.trim_end_matches(';')).into_bytes()
}

/// The task that validates a foreign key after it was added. `None` if this foreign key must be added in one step.
fn validation_task(item: &ScriptItem, relations: &ExistingRelations) -> Option<Task<ScriptItem>> {
    let words = item.first_words()?;
    let table = words.subject()?;
    let child = relations.get(&table)?;
    let parent = relations.get(&words.referenced_table()?)?;
    if words.is_not_valid() || words.is_not_enforced() || child.is_partitioned || parent.is_partitioned {
        return None;
    }
    let work = validation_item(item, validation_sql(&words)?);
    Some(Task { work, weight: child.bytes, resources: vec![(table, ResourceUse::Exclusive)] })
}

fn validation_sql(words: &StatementWords<'_>) -> Option<String> {
    let constraint = quote_identifier(&words.constraint()?);
    Some(format!("ALTER TABLE {} VALIDATE CONSTRAINT {constraint};", words.subject_for_sql()?))
}

fn validation_item(item: &ScriptItem, sql: String) -> ScriptItem {
    let purpose = item.statements[0].purpose;
    ScriptItem {
        part: RestorePart::Validation,
        object: format!("{}, which was added but not validated", item.object),
        settings: Vec::new(),
        statements: vec![ScriptStep { purpose, sql: sql.into_bytes() }],
        ..item.clone()
    }
}

fn analyze_task(relation: &AnalyzedRelation) -> Task<String> {
    let sql = format!("ANALYZE {}", relation.sql_name);
    Task { resources: vec![(sql.clone(), ResourceUse::Exclusive)], work: sql, weight: relation.bytes }
}

/// Returns a note if the statistics are missing, which is not worth failing a restore: they can be gathered at any time.
fn analyze_relation(session: &TargetSession, sql: &str) -> Result<Option<String>, EngineError> {
    let Err(error) = session.client.attempt(sql) else { return Ok(None) };
    match session.classify(&error, "gathering statistics") {
        ServerFault::Fatal(error) => Err(error),
        ServerFault::Refused { reason, .. } => Ok(Some(format!("{sql} failed, so queries may be slow: {reason}"))),
        ServerFault::Retry => Ok(Some(format!("{sql} failed, so queries may be slow: run it again"))),
    }
}

fn make_event_trigger(
    session: &TargetSession,
    item: &ScriptItem,
    refused: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    for step in &item.statements {
        if let Some(reason) = try_statement(session, &item.doing(), &statement_text(&step.sql))? {
            refused.push(Finding::new(FindingKind::Refused, &item.object, reason));
        }
    }
    Ok(())
}
