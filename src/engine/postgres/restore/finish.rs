//! What is built once rows are in: keys and indexes by several sessions, foreign keys, everything else in the order of
//! the dump, and at the very end event triggers, in the transaction that takes the ledger away.
//!
//! A foreign key is added unproved, which is quick but takes both tables; then all are proved at the same time, which
//! keeps nobody from their parents. Where a server cannot do that, it is added as the dump says.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::engine::contract::{Refused, SourceError};
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::connect::query::rows;
use crate::engine::postgres::restore::fault::fatal;
use crate::engine::postgres::restore::items::{ItemNaming, ItemOutcome, attempt, run, run_all, text};
use crate::engine::postgres::restore::ledger::{self, DoneParts, RestorePart, unanswered};
use crate::engine::postgres::restore::schedule::{Task, WorkClaim, in_parallel};
use crate::engine::postgres::restore::script::{ScriptItem, ScriptStep};
use crate::engine::postgres::restore::server::TargetServer;
use crate::engine::postgres::restore::sql::StatementWords;
use crate::engine::postgres::schema::table::qualified;

/// Sessions, and what is done already.
pub(super) struct Finisher<'a> {
    pub(super) server: &'a TargetServer,
    pub(super) sessions: Vec<&'a Client>,
    pub(super) done: &'a DoneParts,
    /// Items that this run has done before the end.
    pub(super) built: HashSet<(RestorePart, u32)>,
}

/// How the last transaction went, and all that was refused.
pub(super) enum RestoreEnd {
    Done(Vec<Refused>),
    /// The session was lost before the server said whether it was committed.
    Unanswered {
        refused: Vec<Refused>,
        error: SourceError,
    },
}

/// A table of the target.
pub(super) struct TargetRelation {
    is_partitioned: bool,
    bytes: u64,
    /// Itself, and all partitions below it.
    pub(super) family: Vec<String>,
}

/// By name.
pub(super) type Relations = BTreeMap<String, TargetRelation>;

impl Finisher<'_> {
    fn leader(&self) -> &Client {
        self.sessions[0]
    }

    fn is_done(&self, item: &ScriptItem) -> bool {
        self.done.has(item.part, item.number) || self.built.contains(&(item.part, item.number))
    }

    /// The tables of the target with their sizes as of now.
    pub(super) fn relations(&self) -> Result<Relations, SourceError> {
        let sql = "SELECT c.oid, nspname, relname, relkind = 'p', pg_catalog.pg_table_size(c.oid), inhparent
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
            LEFT JOIN pg_catalog.pg_inherits ON inhrelid = c.oid AND relispartition
            WHERE relkind IN ('r', 'p', 'm') AND relpersistence <> 't'
                AND nspname NOT IN ('pg_catalog', 'information_schema', 'sidekeep_restore')";
        let listed = rows(self.leader(), "listing the tables of the target", sql, |fields| {
            let (oid, schema, name) = (fields.parsed::<u32>()?, fields.text()?, fields.text()?);
            let (partitioned, bytes) = (fields.boolean()?, fields.parsed::<u64>()?);
            Ok((oid, qualified(&schema, &name), partitioned, bytes, fields.optional_parsed::<u32>()?))
        });
        let listed = listed.map_err(|error| unanswered(error, &self.server.name))?;
        let by_oid: BTreeMap<u32, (&str, Option<u32>)> =
            listed.iter().map(|(oid, name, .., parent)| (*oid, (name.as_str(), *parent))).collect();
        let mut relations = Relations::new();
        for (_, name, is_partitioned, bytes, _) in &listed {
            let family = vec![name.clone()];
            relations.insert(name.clone(), TargetRelation { is_partitioned: *is_partitioned, bytes: *bytes, family });
        }
        for (_, name, .., parent) in &listed {
            let mut above = *parent;
            while let Some((ancestor, next)) = above.and_then(|oid| by_oid.get(&oid)) {
                let family = relations.get_mut(*ancestor).map(|relation| &mut relation.family);
                family.into_iter().for_each(|family| family.push(name.clone()));
                above = *next;
            }
        }
        Ok(relations)
    }

    /// Makes keys and indexes of these tables (None: of all). Gives those for which something was missing.
    pub(super) fn keys<'i>(
        &mut self,
        items: &'i [ScriptItem],
        tables: Option<&BTreeSet<String>>,
    ) -> Result<Vec<&'i ScriptItem>, SourceError> {
        let relations = self.relations()?;
        let wanted = |item: &&ScriptItem| {
            let of_table = tables.is_none_or(|tables| item.subject().is_some_and(|subject| tables.contains(&subject)));
            of_table && !self.is_done(item)
        };
        let wanted: Vec<&ScriptItem> = items.iter().filter(wanted).collect();
        let tasks = wanted.iter().map(|item| key_task(item, &relations)).collect();
        let missing = std::sync::Mutex::new(Vec::new());
        in_parallel(&self.sessions, tasks, &|client, item: &&'i ScriptItem| {
            if run(client, self.server, item, ItemNaming::UnlessMissing)? == ItemOutcome::Undone {
                missing.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(item.number);
            }
            Ok(())
        })?;
        let missing = missing.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (again, made): (Vec<&ScriptItem>, Vec<&ScriptItem>) =
            wanted.into_iter().partition(|item| missing.contains(&item.number));
        self.built.extend(made.iter().map(|item| (item.part, item.number)));
        Ok(again)
    }

    /// Runs these one after the other.
    pub(super) fn in_order<'i>(&mut self, items: impl IntoIterator<Item = &'i ScriptItem>) -> Result<(), SourceError> {
        for item in items {
            if !self.is_done(item) {
                run(self.leader(), self.server, item, ItemNaming::Named)?;
                self.built.insert((item.part, item.number));
            }
        }
        Ok(())
    }

    /// Adds foreign keys, then proves them.
    pub(super) fn references(&self, items: &[ScriptItem]) -> Result<(), SourceError> {
        let relations = self.relations()?;
        let mut proofs = Vec::new();
        for item in items {
            let Some(proof) = proof_of(item, &relations) else {
                run_all(self.leader(), self.server, self.done, std::slice::from_ref(item))?;
                continue;
            };
            let mut added = item.clone();
            let sql = String::from_utf8_lossy(&added.statements[0].sql).into_owned();
            added.statements[0].sql = format!("{} NOT VALID;", sql.trim_end_matches(';')).into_bytes();
            let is_added = self.done.has(item.part, item.number)
                || run(self.leader(), self.server, &added, ItemNaming::Named)? == ItemOutcome::Done;
            if is_added && !self.done.has(RestorePart::Proof, item.number) {
                proofs.push(proof);
            }
        }
        // One that could not be added is missing, and was named.
        in_parallel(&self.sessions, proofs, &|client, item| {
            run(client, self.server, item, ItemNaming::UnlessMissing).map(drop)
        })
    }

    /// Gathers statistics of these tables (None: of all that have rows of their own).
    pub(super) fn analyze(&self, tables: Option<&BTreeSet<String>>) -> Result<(), SourceError> {
        let sql = "SELECT nspname, relname, pg_catalog.pg_table_size(c.oid) FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
            WHERE relkind IN ('r', 'p', 'm') AND NOT relispartition AND relpersistence <> 't'
                AND nspname NOT IN ('pg_catalog', 'information_schema', 'sidekeep_restore')";
        let listed = rows(self.leader(), "listing the tables of the target", sql, |fields| {
            Ok((fields.text()?, fields.text()?, fields.parsed::<u64>()?))
        });
        let listed = listed.map_err(|error| unanswered(error, &self.server.name))?.into_iter();
        let wanted = listed
            .filter(|(schema, name, _)| tables.is_none_or(|tables| tables.contains(&qualified(schema, name))))
            .map(|(schema, name, weight)| {
                let work = format!("ANALYZE {}.{}", quote_identifier(&schema), quote_identifier(&name));
                Task { claims: vec![(work.clone(), WorkClaim::Alone)], work, weight }
            });
        in_parallel(&self.sessions, wanted.collect(), &|client, sql: &String| match client.attempt(sql) {
            // Statistics are made again by whoever uses the table; that is nothing to lose a restore for.
            Err(error) if error.as_db_error().is_some() => Ok(()),
            other => other.map_err(|error| fatal(&error, &self.server.name, "gathering statistics")),
        })
    }

    /// Event triggers and the end of the ledger, in one transaction: event triggers would see it go.
    pub(super) fn end(&self, event_triggers: &[ScriptItem]) -> Result<RestoreEnd, SourceError> {
        let (client, doing) = (self.leader(), "ending the restore");
        let stop = |error: tokio_postgres::Error| fatal(&error, &self.server.name, doing);
        let mut refused = ledger::all_refused(client, &self.server.name)?;
        client.attempt(&format!("BEGIN; SET LOCAL synchronous_commit = on; {}", ledger::DROP)).map_err(stop)?;
        for item in event_triggers {
            for ScriptStep { sql, .. } in &item.statements {
                if let Some(reason) = attempt(client, self.server, &format!("making {}", item.object), &text(sql))? {
                    refused.push(Refused { object: item.object.clone(), reason });
                }
            }
        }
        match client.attempt("COMMIT").map_err(stop) {
            Ok(()) => Ok(RestoreEnd::Done(refused)),
            Err(error @ SourceError::Lost { .. }) => Ok(RestoreEnd::Unanswered { refused, error }),
            Err(error) => Err(error),
        }
    }
}

fn key_task<'i>(item: &'i ScriptItem, relations: &Relations) -> Task<&'i ScriptItem> {
    let subject = item.subject().unwrap_or_default();
    let only_makes = |step: &ScriptStep| {
        let words = StatementWords::of(&step.sql);
        words.starts_with(&["CREATE", "INDEX"]) || words.starts_with(&["CREATE", "UNIQUE", "INDEX"])
    };
    let claim = if item.statements.iter().all(only_makes) { WorkClaim::Shared } else { WorkClaim::Alone };
    let (weight, claims) = match relations.get(&subject) {
        Some(root) if root.is_partitioned => {
            (0, root.family.iter().map(|name| (name.clone(), WorkClaim::Alone)).collect())
        }
        Some(table) => (table.bytes, vec![(subject, claim)]),
        None => (0, vec![(subject, WorkClaim::Alone)]),
    };
    Task { work: item, weight, claims }
}

/// What proves a foreign key that was added unproved; None where that cannot be done in two steps.
fn proof_of(item: &ScriptItem, relations: &Relations) -> Option<Task<ScriptItem>> {
    let [first, ..] = &item.statements[..] else { return None };
    let words = StatementWords::of(&first.sql);
    let (table, parent, constraint) = (words.subject()?, words.referred()?, words.constraint()?);
    let child = relations.get(&table)?;
    let is_plain = |relation: &TargetRelation| !relation.is_partitioned;
    if words.is_not_valid() || words.is_not_enforced() || !is_plain(child) || !is_plain(relations.get(&parent)?) {
        return None;
    }
    let sql =
        format!("ALTER TABLE {} VALIDATE CONSTRAINT {};", words.subject_for_sql()?, quote_identifier(&constraint));
    let work = ScriptItem {
        part: RestorePart::Proof,
        object: format!("{}, which is there but not proved", item.object),
        settings: Vec::new(),
        statements: vec![ScriptStep { purpose: first.purpose, sql: sql.into_bytes() }],
        ..item.clone()
    };
    Some(Task { work, weight: child.bytes, claims: vec![(table, WorkClaim::Alone)] })
}
