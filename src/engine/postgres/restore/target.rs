//! An empty database as a restore target: creates what rows need, provides loaders for rows, and builds the rest.
//!
//! Every step is marked in the restore's progress record, in the transaction that does the step. So whatever happens to
//! this process, to the connection or to the server, another run can resume, and no step is done twice or skipped.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::base::finding::Finding;
use crate::base::pipeline::into_inner;
use crate::engine::contract::{
    BatchTarget, Engine, EngineError, Loader, Mark, RestoreContent, Scope, Target, TargetTable, UnfinishedRestore,
};
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::login::connect;
use crate::engine::postgres::restore::before_rows::BeforeRows;
use crate::engine::postgres::restore::existing_objects::existing_objects;
use crate::engine::postgres::restore::finish::{Finisher, RestoreEnd};
use crate::engine::postgres::restore::large_objects::{self, LARGE_OBJECT_PAGE, WantedRoles};
use crate::engine::postgres::restore::load_session::LoadContext;
use crate::engine::postgres::restore::loader::PostgresLoader;
use crate::engine::postgres::restore::options::{Owners, Resume, TargetOptions};
use crate::engine::postgres::restore::restore_progress::{self, DoneParts, RestoreHead, RestorePart};
use crate::engine::postgres::restore::scope::{OrphanedKey, keep_tables, leave_out_owners};
use crate::engine::postgres::restore::script::Script;
use crate::engine::postgres::restore::session::{SessionUse, TargetSession};
use crate::engine::postgres::restore::table_plan::{LoadMethod, LoadPlan, load_plans};
use crate::engine::postgres::restore::target_tables::existing_relations;
use crate::engine::postgres::schema::document::SchemaDocument;
use crate::engine::postgres::schema::table::LARGE_OBJECTS;
use crate::format::catalog::find_name;
use crate::format::cell::Cell;

/// Number of attempts to ask whether the last transaction committed, if the connection was lost in it.
const END_ASKED_MAX: u32 = 5;
const END_PAUSE: Duration = Duration::from_secs(1);

/// A database that is being restored.
pub struct PostgresTarget {
    address: Address,
    options: TargetOptions,
    notes: Vec<String>,
    open: Option<OpenTarget>,
}

/// The state of a restore that has started.
struct OpenTarget {
    leader: TargetSession,
    document: SchemaDocument,
    script: Script,
    done: DoneParts,
    tables: Vec<TargetTable>,
    /// Bytes per page of the source's large objects.
    large_object_page: u32,
    scope: Scope,
    built: HashSet<(RestorePart, u32)>,
}

impl PostgresTarget {
    /// Creates a target without connecting.
    #[must_use]
    pub fn new(address: Address, options: TargetOptions) -> Self {
        Self { address, options, notes: Vec::new(), open: None }
    }

    /// Notes about the restored database that are not failures, such as roles that existed before.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn opened(&mut self) -> Result<&mut OpenTarget, EngineError> {
        let error = self.failed("the restore has not started");
        self.open.as_mut().ok_or(error)
    }

    fn failed(&self, reason: impl Into<String>) -> EngineError {
        EngineError::Failed { doing: format!("restore to {}", self.address), reason: reason.into() }
    }

    /// Replaces the names of the tables to restore first by their full names.
    fn resolve_first_tables(&mut self, tables: &[TargetTable]) -> Result<(), EngineError> {
        for at in 0..self.options.first.len() {
            let name = &self.options.first[at];
            let names = tables.iter().map(|table| table.name.as_str());
            let Some(position) = find_name(names, name) else {
                return Err(self.failed(format!(
                    "cannot restore table {name} first: no restored table has this name, or several match it"
                )));
            };
            self.options.first[at].clone_from(&tables[position].name);
        }
        Ok(())
    }

    /// The head of the progress record to write to: the one of the restore to resume, or a new one.
    fn open_progress(&self, leader: &TargetSession, content: &RestoreContent<'_>) -> Result<RestoreHead, EngineError> {
        let tables = match content.scope {
            Scope::Everything => None,
            Scope::Chosen => Some(table_names(content.tables)),
        };
        match restore_progress::find(&leader.client, &leader.server.name)? {
            Some(head) => self.check_unfinished(head, leader, content.snapshot, tables.as_ref()),
            None => {
                self.check_empty(leader)?;
                restore_progress::create(leader, content.snapshot, tables)
            }
        }
    }

    /// Refuses an unfinished restore that is not the one to resume.
    fn check_unfinished(
        &self,
        head: RestoreHead,
        leader: &TargetSession,
        snapshot: &str,
        tables: Option<&Vec<String>>,
    ) -> Result<RestoreHead, EngineError> {
        let what = leader.server.name.clone();
        if self.options.resume == Resume::Refuse || head.snapshot != snapshot {
            return Err(EngineError::Unfinished { what, snapshot: head.snapshot });
        }
        match head.tables.as_ref() == tables {
            true => Ok(head),
            false => Err(other_tables(&what)),
        }
    }

    fn check_empty(&self, leader: &TargetSession) -> Result<(), EngineError> {
        let existing = existing_objects(leader)?;
        if existing.is_empty() {
            return Ok(());
        }
        Err(self.not_empty(leader.server.name.clone(), existing.join(", ")))
    }

    fn not_empty(&self, what: String, has: String) -> EngineError {
        if self.options.resume == Resume::Continue {
            return EngineError::NothingToResume { what, has };
        }
        EngineError::NotEmpty { what: format!("{what} has {has}; it") }
    }

    /// Finds out whether the last transaction committed, after its answer was lost because of `lost`.
    fn confirm_end(&self, lost: EngineError) -> Result<(), EngineError> {
        for asked in 1.. {
            match self.ask_for_progress() {
                Ok(None) => return Ok(()),
                Ok(Some(_)) => break,
                Err(_) if asked < END_ASKED_MAX && !self.address.cancel.is_cancelled() => std::thread::sleep(END_PAUSE),
                Err(_) => return Err(unclear(lost)),
            }
        }
        Err(lost)
    }

    /// Looks for the progress record in a new session, because the leader's is lost.
    fn ask_for_progress(&self) -> Result<Option<RestoreHead>, EngineError> {
        let session = TargetSession::open(&self.address, SessionUse::Leader)?;
        restore_progress::find(&session.client, &session.server.name)
    }

    /// Opens `count` worker sessions.
    fn open_workers(&self, count: usize) -> Result<Vec<TargetSession>, EngineError> {
        (0..count).map(|_| TargetSession::open(&self.address, SessionUse::Worker)).collect()
    }

    /// Runs `work` with the leader's and all worker sessions.
    fn with_finisher<T>(
        &mut self,
        work: impl FnOnce(&mut Finisher<'_>, &OpenTarget) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let workers = self.open_workers(self.options.workers.saturating_sub(1))?;
        let open = self.opened()?;
        let built = std::mem::take(&mut open.built);
        let sessions = std::iter::once(&open.leader).chain(&workers).collect();
        let mut finisher = Finisher { sessions, done: &open.done, built, notes: Mutex::default() };
        let result = work(&mut finisher, open)?;
        let Finisher { built, notes, .. } = finisher;
        open.built = built;
        self.notes.extend(into_inner(notes));
        Ok(result)
    }

    fn is_first(&self, table: &str) -> bool {
        self.options.first.iter().any(|first| first == table)
    }
}

/// Adds to the error that it is unknown whether the last step was done.
fn unclear(lost: EngineError) -> EngineError {
    match lost {
        EngineError::Lost { what, reason } => {
            let reason =
                format!("{reason}; this was the last step, run again with --resume to find out whether it was done");
            EngineError::Lost { what, reason }
        }
        other => other,
    }
}

fn table_names(tables: &[TargetTable]) -> Vec<String> {
    tables.iter().map(|table| table.name.clone()).collect()
}

impl OpenTarget {
    fn begin(
        leader: TargetSession,
        document: SchemaDocument,
        content: &RestoreContent<'_>,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            done: restore_progress::load_done(&leader)?,
            script: Script::of(&document, &leader.server),
            leader,
            document,
            tables: content.tables.to_vec(),
            large_object_page: content.large_object_page.unwrap_or(LARGE_OBJECT_PAGE),
            scope: content.scope,
            built: HashSet::new(),
        })
    }

    /// Removes from the script what is not wanted. Returns the foreign keys whose parent tables are not restored.
    fn reduce_script(&mut self, owners: Owners) -> Result<Vec<OrphanedKey>, EngineError> {
        let orphaned = match self.scope {
            Scope::Everything => Vec::new(),
            Scope::Chosen => keep_tables(&mut self.script, &table_names(&self.tables)),
        };
        if owners == Owners::LeaveOut {
            leave_out_owners(&mut self.script, &self.leader.roles()?);
        }
        Ok(orphaned)
    }

    fn has_large_objects(&self) -> bool {
        self.scope == Scope::Everything || self.tables.iter().any(|table| table.name == LARGE_OBJECTS)
    }

    fn position(&self, table: &str) -> Option<usize> {
        self.tables.iter().position(|known| known.name == table)
    }

    fn positions_without(&self, tables: &[usize]) -> Vec<usize> {
        (0..self.tables.len()).filter(|at| !tables.contains(at)).collect()
    }

    /// Runs everything after the rows, in order.
    fn finish(&self, finisher: &mut Finisher<'_>, owners: Owners) -> Result<RestoreEnd, EngineError> {
        let script = &self.script;
        let missing = finisher.build_keys(&script.keys, None)?;
        finisher.run_in_order(&script.attached)?;
        finisher.analyze(None)?;
        finisher.add_foreign_keys(&script.references)?;
        finisher.run_in_order(&script.others)?;
        finisher.run_in_order(missing)?;
        finisher.run_in_order(&script.privileges)?;
        self.restore_large_object_rights(owners)?;
        finisher.run_in_order(&script.refreshed)?;
        finisher.run_in_order(&script.database)?;
        finisher.end(&script.event_triggers)
    }

    fn restore_large_object_rights(&self, owners: Owners) -> Result<(), EngineError> {
        if !self.has_large_objects() {
            return Ok(());
        }
        let roles = WantedRoles { owners, existing: self.leader.roles()? };
        large_objects::restore_rights(&self.leader, &self.done, &self.document.large_objects, &roles)
    }

    /// Builds what these tables need to be usable before other tables get rows.
    fn finish_tables(&self, finisher: &mut Finisher<'_>, tables: &[String]) -> Result<(), EngineError> {
        let wanted = self.with_partitions(tables)?;
        finisher.build_keys(&self.script.keys, Some(&wanted))?;
        finisher.analyze(Some(&wanted))?;
        let privileges = self.script.privileges.iter();
        finisher.run_in_order(privileges.filter(|item| item.subject().is_none_or(|subject| wanted.contains(&subject))))
    }

    fn with_partitions(&self, tables: &[String]) -> Result<BTreeSet<String>, EngineError> {
        let relations = existing_relations(&self.leader)?;
        let found = tables.iter().filter_map(|table| relations.get(table));
        Ok(found.flat_map(|relation| relation.family.iter().cloned()).collect())
    }

    fn record_unloadable(&self, plans: &[LoadPlan]) -> Result<(), EngineError> {
        for plan in plans {
            if let LoadMethod::Refused(reason) = &plan.method {
                restore_progress::record_refused(&self.leader, &plan.name, &format!("no rows: {reason}"))?;
            }
        }
        Ok(())
    }
}

impl PostgresTarget {
    /// Creates everything that rows need.
    fn restore_before_rows(&mut self, open: &mut OpenTarget, head: &RestoreHead) -> Result<(), EngineError> {
        let orphaned = open.reduce_script(self.options.owners)?;
        let has_large_objects = open.has_large_objects();
        let scope = open.scope;
        let mut before_rows = BeforeRows {
            session: &open.leader,
            document: &open.document,
            script: &mut open.script,
            done: &open.done,
            options: &self.options,
            notes: &mut self.notes,
        };
        before_rows.restore_globals(&head.roles)?;
        before_rows.record_differences()?;
        before_rows.record_orphaned_keys(&orphaned)?;
        before_rows.restore_pre_data(scope)?;
        before_rows.set_sequences(scope)?;
        if has_large_objects {
            before_rows.create_large_objects()?;
        }
        Ok(())
    }
}

impl Target for PostgresTarget {
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), EngineError> {
        if content.engine != Engine::Postgres {
            return Err(EngineError::SqliteSnapshot { what: self.address.to_string() });
        }
        self.resolve_first_tables(content.tables)?;
        let document = SchemaDocument::from_bytes(content.schema).map_err(|error| self.failed(error.to_string()))?;
        let leader = TargetSession::open(&self.address, SessionUse::Leader)?;
        let head = self.open_progress(&leader, content)?;
        let mut open = OpenTarget::begin(leader, document, content)?;
        self.restore_before_rows(&mut open, &head)?;
        self.open = Some(open);
        Ok(())
    }

    fn unfinished_restore(&mut self) -> Result<Option<UnfinishedRestore>, EngineError> {
        if self.options.resume == Resume::Refuse {
            return Ok(None);
        }
        // For information only. The record is read again once the leader's session holds its lock.
        let what = self.address.to_string();
        let head = restore_progress::find(&connect(&self.address)?, &what)?;
        Ok(head.map(|head| UnfinishedRestore { what, snapshot: head.snapshot }))
    }

    fn batches(&mut self) -> Option<&mut dyn BatchTarget> {
        Some(self)
    }

    fn table(&mut self, _: usize) -> Result<(), EngineError> {
        Err(self.failed("its rows must go through loaders"))
    }

    fn row(&mut self, _: &[Cell<'_>]) -> Result<(), EngineError> {
        self.table(0)
    }

    fn finish(&mut self) -> Result<Vec<Finding>, EngineError> {
        let owners = self.options.owners;
        let end = self.with_finisher(|finisher, open| open.finish(finisher, owners))?;
        self.open = None;
        match end {
            RestoreEnd::Done(refused) => Ok(refused),
            RestoreEnd::Unanswered { refused, error } => {
                self.confirm_end(error)?;
                Ok(refused)
            }
        }
    }
}

fn other_tables(what: &str) -> EngineError {
    let reason = "it was started with other tables; name the same tables".to_owned();
    EngineError::Failed { doing: format!("resume the restore in {what}"), reason }
}

fn new_loader(session: TargetSession, context: &Arc<LoadContext>) -> Box<dyn Loader> {
    Box::new(PostgresLoader::new(session, Arc::clone(context)))
}

impl BatchTarget for PostgresTarget {
    fn stages(&self) -> Vec<Vec<usize>> {
        let Some(open) = &self.open else { return Vec::new() };
        let first: Vec<usize> = self.options.first.iter().filter_map(|name| open.position(name)).collect();
        let mut stages: Vec<Vec<usize>> = first.iter().map(|&at| vec![at]).collect();
        stages.push(open.positions_without(&first));
        stages
    }

    fn has(&self, table: usize, mark: &Mark) -> bool {
        self.open.as_ref().is_some_and(|open| open.done.has_batch(&open.tables[table].name, mark))
    }

    fn loaders(&mut self) -> Result<Vec<Box<dyn Loader>>, EngineError> {
        let sessions = self.open_workers(self.options.workers.max(1))?;
        let open = self.opened()?;
        let plans = load_plans(&open.leader, &open.tables)?;
        open.record_unloadable(&plans)?;
        let context = Arc::new(LoadContext::new(plans, open.large_object_page));
        Ok(sessions.into_iter().map(|session| new_loader(session, &context)).collect())
    }

    fn loaded(&mut self, tables: &[usize]) -> Result<(), EngineError> {
        let open = self.opened()?;
        if tables.len() == open.tables.len() || open.tables.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = tables.iter().map(|&at| open.tables[at].name.clone()).collect();
        // Tables of the last stage are built with everything else.
        if !names.iter().any(|name| self.is_first(name)) {
            return Ok(());
        }
        self.with_finisher(|finisher, open| open.finish_tables(finisher, &names))
    }
}
