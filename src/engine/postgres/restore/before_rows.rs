//! What must exist before rows are loaded: roles, all schema objects that rows need, and the positions of sequences.

use std::collections::BTreeSet;

use crate::engine::contract::{EngineError, Scope};
use crate::engine::postgres::restore::differences::{absent_roles_note, database_differences, extension_differences};
use crate::engine::postgres::restore::globals;
use crate::engine::postgres::restore::items::{RefusalPolicy, run_item};
use crate::engine::postgres::restore::large_objects;
use crate::engine::postgres::restore::options::{Globals, Owners, TargetOptions};
use crate::engine::postgres::restore::restore_progress::{self, DoneParts};
use crate::engine::postgres::restore::scope::{OrphanedKey, is_support};
use crate::engine::postgres::restore::script::{Script, ScriptItem};
use crate::engine::postgres::restore::sequences::{self, MissingSequences};
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::restore::tablespaces;
use crate::engine::postgres::schema::document::SchemaDocument;

/// The steps before the rows. The methods are called in the order in which they are defined.
pub(super) struct BeforeRows<'a> {
    pub(super) session: &'a TargetSession,
    pub(super) document: &'a SchemaDocument,
    pub(super) script: &'a mut Script,
    pub(super) done: &'a DoneParts,
    pub(super) options: &'a TargetOptions,
    /// Notes about the restored database for the user.
    pub(super) notes: &'a mut Vec<String>,
}

impl BeforeRows<'_> {
    fn has_globals(&self) -> bool {
        self.options.globals == Globals::Restore
    }

    /// Restores roles and tablespaces, if they are wanted, and notes which roles existed before.
    /// Fails as [`globals::restore_globals`] does.
    pub(super) fn restore_globals(&mut self, roles_before: &[String]) -> Result<(), EngineError> {
        if !self.has_globals() {
            return Ok(());
        }
        let mut known = globals::restore_globals(self.session, self.done, &self.script.globals, roles_before)?;
        // Nearly every server has this role, so a note about it would be noise.
        known.remove("postgres");
        self.note_known_roles(known);
        Ok(())
    }

    fn note_known_roles(&mut self, known: BTreeSet<String>) {
        if !known.is_empty() {
            let known = Vec::from_iter(known).join(", ");
            self.notes.push(format!("existing roles were left unchanged: {known}"));
        }
    }

    /// Records how the database, its tablespaces and its roles differ from the snapshot.
    /// Fails if one of our own statements fails.
    pub(super) fn record_differences(&mut self) -> Result<(), EngineError> {
        let differences = database_differences(self.document, self.session)?;
        let database = format!("database {}", self.session.server.database);
        for reason in differences.findings {
            restore_progress::record_refused(self.session, &database, &reason)?;
        }
        self.leave_out_tablespaces()?;
        if self.has_globals() {
            self.notes.extend(differences.notes);
        }
        self.note_absent_roles()
    }

    fn note_absent_roles(&mut self) -> Result<(), EngineError> {
        if self.options.owners == Owners::Restore {
            self.notes.extend(absent_roles_note(self.script, &self.session.roles()?));
        }
        Ok(())
    }

    fn leave_out_tablespaces(&mut self) -> Result<(), EngineError> {
        for tablespace in tablespaces::leave_out_unusable(self.session, self.script, self.options.globals)? {
            restore_progress::record_refused(self.session, &tablespace.object(), &tablespace.reason())?;
        }
        Ok(())
    }

    /// Records the foreign keys whose parent tables are not restored.
    /// Fails if one of our own statements fails.
    pub(super) fn record_orphaned_keys(&self, orphaned: &[OrphanedKey]) -> Result<(), EngineError> {
        for OrphanedKey { object, parent } in orphaned {
            restore_progress::record_refused(
                self.session,
                object,
                &format!("it refers to {parent}, which is not restored"),
            )?;
        }
        Ok(())
    }

    /// Creates the schema objects that rows need, and notes extensions of other versions.
    /// Fails as [`run_item`] does, or if the extensions cannot be listed.
    pub(super) fn restore_pre_data(&mut self, scope: Scope) -> Result<(), EngineError> {
        for item in &self.script.pre_data {
            if !self.done.has(item.part, item.number) {
                run_item(self.session, item, pre_data_policy(item, scope))?;
            }
        }
        self.notes.extend(extension_differences(self.document, self.session)?);
        Ok(())
    }

    /// Sets the sequences. If everything is restored, records those that do not exist.
    /// Fails as [`sequences::set_sequences`] does.
    pub(super) fn set_sequences(&self, scope: Scope) -> Result<(), EngineError> {
        let missing = match scope {
            Scope::Everything => MissingSequences::Record,
            Scope::Chosen => MissingSequences::Ignore,
        };
        sequences::set_sequences(self.session, self.done, &self.document.sequences, missing)
    }

    /// Creates all large objects, empty.
    /// Fails as [`large_objects::create_empty`] does.
    pub(super) fn create_large_objects(&self) -> Result<(), EngineError> {
        large_objects::create_empty(self.session, self.done, &self.document.large_objects)
    }
}

fn pre_data_policy(item: &ScriptItem, scope: Scope) -> RefusalPolicy {
    if scope == Scope::Chosen && is_support(item) {
        return RefusalPolicy::Ignore;
    }
    RefusalPolicy::Record
}
