//! An empty database, restored to: what must be there before the rows, loaders for them, and what comes after.
//!
//! Every step is marked in a ledger in the target, in the transaction that does it. So whatever happens to this process,
//! to the connection or to the server, another run can go on; nothing is done twice and nothing is skipped.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::contract::{
    BatchTarget, Begun, Engine, Loader, Mark, Refused, RestoreContent, Scope, SourceError, Target, TargetTable,
};
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::login::connect;
use crate::engine::postgres::connect::query::rows;
use crate::engine::postgres::restore::fault::fatal;
use crate::engine::postgres::restore::finish::{Finisher, RestoreEnd};
use crate::engine::postgres::restore::items::{ItemNaming, run};
use crate::engine::postgres::restore::ledger::{self, DoneParts, RestoreHead, unanswered};
use crate::engine::postgres::restore::loader::{LoadContext, PostgresLoader};
use crate::engine::postgres::restore::occupants::occupants;
use crate::engine::postgres::restore::options::{Globals, Owners, Resume, TargetOptions};
use crate::engine::postgres::restore::scope::{choose, is_support, leave_out_owners};
use crate::engine::postgres::restore::script::Script;
use crate::engine::postgres::restore::sequences::Missing;
use crate::engine::postgres::restore::server::{SessionUse, TargetServer, open};
use crate::engine::postgres::restore::table_plan::{LoadMethod, plan};
use crate::engine::postgres::restore::{differences, globals, large_objects, sequences, tablespaces};
use crate::engine::postgres::schema::document::SchemaDocument;
use crate::engine::postgres::schema::table::LARGE_OBJECTS;
use crate::format::catalog::position_meant;
use crate::format::cell::Cell;

/// How often a server that went away at the very end is asked what became of it.
const END_ASKED_MAX: u32 = 5;
const END_PAUSE: Duration = Duration::from_secs(1);

/// A database in the making.
pub struct PostgresTarget {
    address: Address,
    options: TargetOptions,
    notes: Vec<String>,
    open: Option<OpenTarget>,
}

/// What is known once it has begun.
struct OpenTarget {
    client: Client,
    server: TargetServer,
    document: SchemaDocument,
    script: Script,
    done: DoneParts,
    tables: Vec<TargetTable>,
    scope: Scope,
    built: HashSet<(ledger::RestorePart, u32)>,
}

impl PostgresTarget {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(address: Address, options: TargetOptions) -> Self {
        Self { address, options, notes: Vec::new(), open: None }
    }

    /// What is worth saying of the finished database and is no failure, such as roles that were there already.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn opened(&mut self) -> Result<&mut OpenTarget, SourceError> {
        let reason = "it has not begun".to_owned();
        let doing = format!("restore to {}", self.address);
        self.open.as_mut().ok_or(SourceError::Failed { doing, reason })
    }

    /// The ledger to write to: a new one, or that of the restore to go on with.
    fn head(
        &self,
        client: &Client,
        server: &TargetServer,
        content: &RestoreContent<'_>,
    ) -> Result<RestoreHead, SourceError> {
        let tables = match content.scope {
            Scope::Everything => None,
            Scope::Chosen => Some(content.tables.iter().map(|table| table.name.clone()).collect()),
        };
        let what = || server.name.clone();
        match ledger::find(client, &server.name)? {
            Some(head) if self.options.resume == Resume::Refuse || head.snapshot != content.snapshot => {
                Err(SourceError::Unfinished { what: what(), snapshot: head.snapshot })
            }
            Some(head) if head.tables != tables => {
                let reason = "it was begun with other tables; name the same".to_owned();
                Err(SourceError::Failed { doing: format!("go on with the restore in {}", what()), reason })
            }
            Some(head) => Ok(head),
            None => match (&occupants(client, server)?[..], self.options.resume) {
                ([], _) => ledger::create(client, &server.name, content.snapshot, tables),
                (some, Resume::Refuse) => {
                    Err(SourceError::NotEmpty { what: format!("{} has {}; it", what(), some.join(", ")) })
                }
                (some, Resume::GoOn) => Err(SourceError::NothingBegun { what: what(), has: some.join(", ") }),
            },
        }
    }

    /// What must be there before the rows.
    fn before_rows(
        &mut self,
        open: &mut OpenTarget,
        head: &RestoreHead,
        absent: &[(String, String)],
    ) -> Result<(), SourceError> {
        let has_large_objects = open.has_large_objects();
        let OpenTarget { client, server, done, script, document, scope, .. } = open;
        let (client, server, scope) = (&*client, &*server, *scope);
        if self.options.globals == Globals::Restore {
            let known = globals::restore(client, server, done, &script.globals, &head.roles)?;
            // Nearly every server has this one.
            let known: Vec<String> = known.into_iter().filter(|role| role != "postgres").collect();
            if !known.is_empty() {
                self.notes.push(format!("roles that were there stay as they are: {}", known.join(", ")));
            }
        }
        let refuse = |object: &str, reason: &str| {
            client
                .attempt(&ledger::refused(object, Some(reason), 0))
                .map_err(|error| fatal(&error, &server.name, "keeping what was refused"))
        };
        let differences = differences::of_database(document, client, server)?;
        for reason in differences.findings {
            refuse(&format!("database {}", server.database), &reason)?;
        }
        for (object, reason) in tablespaces::settle(client, server, script, self.options.globals)? {
            refuse(&object, &reason)?;
        }
        if self.options.globals == Globals::Restore {
            self.notes.extend(differences.notes);
        }
        if self.options.owners == Owners::Restore {
            self.notes.extend(differences::of_roles(script, &Self::roles(client, server)?));
        }
        for (object, table) in absent {
            refuse(object, &format!("it refers to {table}, which is not restored"))?;
        }
        for item in script.pre_data.iter().filter(|item| !done.has(item.part, item.number)) {
            let naming = match scope {
                Scope::Chosen if is_support(item) => ItemNaming::Unnamed,
                _ => ItemNaming::Named,
            };
            run(client, server, item, naming)?;
        }
        self.notes.extend(differences::of_extensions(document, client, server)?);
        let missing = if scope == Scope::Chosen { Missing::Expected } else { Missing::Named };
        sequences::set(client, server, done, &document.sequences, missing)?;
        if has_large_objects {
            large_objects::create(client, server, done, &document.large_objects)?;
        }
        Ok(())
    }

    /// Finds out whether the last transaction was committed, of which no answer came because of `lost`.
    fn ask_for_end(&self, lost: SourceError) -> Result<(), SourceError> {
        let ask = || {
            let (client, server) = open(&self.address, SessionUse::Leader)?;
            ledger::find(&client, &server.name)
        };
        for asked in 1.. {
            match ask() {
                Ok(None) => return Ok(()),
                Ok(Some(_)) => break,
                Err(_) if asked < END_ASKED_MAX && !self.address.cancel.is_cancelled() => std::thread::sleep(END_PAUSE),
                Err(_) => return Err(unclear(lost)),
            }
        }
        Err(lost)
    }

    fn roles(client: &Client, server: &TargetServer) -> Result<Vec<String>, SourceError> {
        let sql = "SELECT rolname FROM pg_catalog.pg_roles";
        let roles = rows(client, "listing roles", sql, |fields| fields.text());
        roles.map_err(|error| unanswered(error, &server.name))
    }

    /// As many sessions as are wanted besides the first.
    fn sessions(&self, count: usize) -> Result<Vec<Client>, SourceError> {
        (0..count).map(|_| Ok(open(&self.address, SessionUse::Worker)?.0)).collect()
    }

    fn build(
        &mut self,
        work: impl FnOnce(&mut Finisher<'_>, &OpenTarget) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let others = self.sessions(self.options.workers.saturating_sub(1))?;
        let open = self.opened()?;
        let built = std::mem::take(&mut open.built);
        let sessions = std::iter::once(&open.client).chain(&others).collect();
        let mut builder = Finisher { server: &open.server, sessions, done: &open.done, built };
        work(&mut builder, open)?;
        let built = builder.built;
        open.built = built;
        Ok(())
    }
}

/// Nobody knows whether the last step was done.
fn unclear(lost: SourceError) -> SourceError {
    match lost {
        SourceError::Lost { what, reason } => {
            let reason = format!("{reason}; this was the last step, and --resume says whether it was done");
            SourceError::Lost { what, reason }
        }
        other => other,
    }
}

impl OpenTarget {
    fn has_large_objects(&self) -> bool {
        self.scope == Scope::Everything || self.tables.iter().any(|table| table.name == LARGE_OBJECTS)
    }
}

impl Target for PostgresTarget {
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), SourceError> {
        let failed = |reason: String| SourceError::Failed { doing: format!("restore to {}", self.address), reason };
        if content.engine != Engine::Postgres {
            return Err(failed("the snapshot is not of a PostgreSQL database".to_owned()));
        }
        for name in &mut self.options.first {
            let names = content.tables.iter().map(|table| table.name.as_str());
            let Some(at) = position_meant(names, name) else {
                return Err(failed(format!("no table {name} is restored that could come first, or several end so")));
            };
            name.clone_from(&content.tables[at].name);
        }
        let document = SchemaDocument::from_bytes(content.schema).map_err(|error| failed(error.to_string()))?;
        let (client, server) = open(&self.address, SessionUse::Leader)?;
        let head = self.head(&client, &server, content)?;
        let done = ledger::done(&client, &server.name)?;
        let mut script = Script::of(&document, &server);
        let absent = match content.scope {
            Scope::Everything => Vec::new(),
            Scope::Chosen => {
                let names: Vec<String> = content.tables.iter().map(|table| table.name.clone()).collect();
                choose(&mut script, &names)
            }
        };
        if self.options.owners == Owners::LeaveOut {
            leave_out_owners(&mut script, &Self::roles(&client, &server)?);
        }
        let (tables, scope, built) = (content.tables.to_vec(), content.scope, HashSet::new());
        let mut open = OpenTarget { client, server, document, script, done, tables, scope, built };
        self.before_rows(&mut open, &head, &absent)?;
        self.open = Some(open);
        Ok(())
    }

    fn begun(&mut self) -> Result<Option<Begun>, SourceError> {
        if self.options.resume == Resume::Refuse {
            return Ok(None);
        }
        // Only to look: what is done is read once the leader's session holds its lock.
        let what = self.address.to_string();
        let head = ledger::find(&connect(&self.address)?, &what)?;
        Ok(head.map(|RestoreHead { snapshot, .. }| Begun { what, snapshot }))
    }

    fn batches(&mut self) -> Option<&mut dyn BatchTarget> {
        Some(self)
    }

    fn table(&mut self, _: usize) -> Result<(), SourceError> {
        let reason = "its rows go through loaders".to_owned();
        Err(SourceError::Failed { doing: format!("restore to {}", self.address), reason })
    }

    fn row(&mut self, _: &[Cell<'_>]) -> Result<(), SourceError> {
        self.table(0)
    }

    fn finish(&mut self) -> Result<Vec<Refused>, SourceError> {
        let owners = self.options.owners;
        let mut end = RestoreEnd::Done(Vec::new());
        self.build(|builder, open| {
            let script = &open.script;
            let missing = builder.keys(&script.keys, None)?;
            builder.in_order(&script.attached)?;
            builder.analyze(None)?;
            builder.references(&script.references)?;
            builder.in_order(&script.others)?;
            builder.in_order(missing)?;
            builder.in_order(&script.privileges)?;
            if open.has_large_objects() {
                let roles = Self::roles(&open.client, &open.server)?;
                let objects = &open.document.large_objects;
                large_objects::give(&open.client, &open.server, &open.done, objects, (owners, &roles))?;
            }
            builder.in_order(&script.refreshed)?;
            builder.in_order(&script.database)?;
            end = builder.end(&script.event_triggers)?;
            Ok(())
        })?;
        self.open = None;
        match end {
            RestoreEnd::Done(refused) => Ok(refused),
            RestoreEnd::Unanswered { refused, error } => self.ask_for_end(error).map(|()| refused),
        }
    }
}

impl BatchTarget for PostgresTarget {
    fn stages(&self) -> Vec<Vec<usize>> {
        let Some(open) = &self.open else { return Vec::new() };
        let at = |name: &String| open.tables.iter().position(|table| table.name == *name);
        let first: Vec<usize> = self.options.first.iter().filter_map(at).collect();
        let others: Vec<usize> = (0..open.tables.len()).filter(|at| !first.contains(at)).collect();
        first.into_iter().map(|at| vec![at]).chain([others]).collect()
    }

    fn has(&self, table: usize, mark: &Mark) -> bool {
        self.open.as_ref().is_some_and(|open| open.done.has_batch(&open.tables[table].name, mark))
    }

    fn loaders(&mut self) -> Result<Vec<Box<dyn Loader>>, SourceError> {
        let sessions = self.sessions(self.options.workers.max(1))?;
        let open = self.opened()?;
        let plans = plan(&open.client, &open.server, &open.tables)?;
        for table in &plans {
            if let LoadMethod::Refused(reason) = &table.way {
                open.client
                    .attempt(&ledger::refused(&table.name, Some(&format!("no rows: {reason}")), 0))
                    .map_err(|error| fatal(&error, &open.server.name, "keeping what was refused"))?;
            }
        }
        let loading = Arc::new(LoadContext::new(open.server.clone(), plans));
        let loader = |client| Box::new(PostgresLoader::new(client, Arc::clone(&loading))) as Box<dyn Loader>;
        Ok(sessions.into_iter().map(loader).collect())
    }

    fn loaded(&mut self, tables: &[usize]) -> Result<(), SourceError> {
        let open = self.opened()?;
        if tables.len() == open.tables.len() || open.tables.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = tables.iter().map(|&at| open.tables[at].name.clone()).collect();
        // What comes last is built with everything else.
        if !names.iter().any(|name| self.options.first.contains(name)) {
            return Ok(());
        }
        self.build(|builder, open| {
            let relations = builder.relations()?;
            let family = |name| relations.get(name).map(|relation| relation.family.clone()).unwrap_or_default();
            let wanted: BTreeSet<String> = names.iter().flat_map(family).collect();
            builder.keys(&open.script.keys, Some(&wanted))?;
            builder.analyze(Some(&wanted))?;
            let about = open.script.privileges.iter();
            builder.in_order(about.filter(|item| item.subject().is_none_or(|subject| wanted.contains(&subject))))
        })
    }
}
