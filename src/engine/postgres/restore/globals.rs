//! Roles, their settings and memberships, and tablespaces. A role that was there before stays exactly as it is, with
//! its memberships and password: the cluster may serve others.

use std::collections::BTreeSet;

use crate::engine::contract::SourceError;
use crate::engine::postgres::restore::fault::ServerFault;
use crate::engine::postgres::restore::items::{
    DUPLICATE_OBJECT, ItemOutcome, RETRIES_MAX, RefusalPolicy, run_item, statement_text,
};
use crate::engine::postgres::restore::ledger::{self, DoneParts};
use crate::engine::postgres::restore::script::ScriptItem;
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::restore::statement_words::StatementWords;

/// The first version whose memberships say whether rights are inherited.
const MEMBERSHIP_OPTIONS_SINCE: u32 = 16;

/// Restores globals; gives the roles of the snapshot that were there before, or that somebody else made meanwhile: another
/// restore, which sees to the rest of them.
pub(super) fn restore_globals(
    session: &TargetSession,
    done: &DoneParts,
    items: &[ScriptItem],
    roles_before: &[String],
) -> Result<BTreeSet<String>, SourceError> {
    let mut known = BTreeSet::new();
    for item in items {
        let [step] = &item.statements[..] else { continue };
        let role = role_of(&step.words());
        if let Some(role) = role.as_ref().filter(|role| roles_before.contains(role) || known.contains(*role)) {
            known.insert(role.clone());
            continue;
        }
        if done.has(item.part, item.number) {
            continue;
        }
        // Left unmarked, it is found to be there by a run that goes on as well.
        if restore_global(session, item)? == ItemOutcome::Skipped {
            known.extend(role);
        }
    }
    Ok(known)
}

fn restore_global(session: &TargetSession, item: &ScriptItem) -> Result<ItemOutcome, SourceError> {
    let words = item.statements[0].words();
    if words.is(1, "TABLESPACE") {
        return run_outside_transaction(session, item);
    }
    if words.is(0, "GRANT") {
        return grant_membership(session, item, &words);
    }
    let makes_role = words.starts_with(&["CREATE", "ROLE"]);
    let policy = if makes_role { RefusalPolicy::SkipIfPresent } else { RefusalPolicy::Record };
    run_item(session, item, policy)
}

/// The role that a statement makes or changes.
fn role_of(words: &StatementWords<'_>) -> Option<String> {
    if words.is(0, "GRANT") {
        // GRANT parameters on anything else are not about a membership.
        return words.roles().into_iter().next();
    }
    let verbs = ["CREATE", "ALTER", "COMMENT", "SECURITY"];
    verbs.iter().find(|verb| words.is(0, verb))?;
    defined_role(words)
}

fn defined_role(words: &StatementWords<'_>) -> Option<String> {
    // SECURITY LABEL FOR provider ON ROLE name
    let keyword = (1..6).find(|&at| words.is(at, "ROLE"))?;
    words.name(keyword + 1)
}

/// Versions differ in what a GRANT may say of a membership, and the role that granted it may not be here.
fn grant_membership(
    session: &TargetSession,
    item: &ScriptItem,
    words: &StatementWords<'_>,
) -> Result<ItemOutcome, SourceError> {
    let forms = membership_forms(item, words, session.server.encode.version);
    let last = forms.len() - 1;
    for form in &forms[..last] {
        let outcome = run_item(session, &with_sql(item, form), RefusalPolicy::SkipIfMissing)?;
        if outcome == ItemOutcome::Done {
            return Ok(outcome);
        }
    }
    run_item(session, &with_sql(item, &forms[last]), RefusalPolicy::Record)
}

/// The statements that are tried one after the other, at least one.
fn membership_forms(item: &ScriptItem, words: &StatementWords<'_>, version: u32) -> Vec<String> {
    let whole = String::from_utf8_lossy(&item.statements[0].sql).into_owned();
    if version < MEMBERSHIP_OPTIONS_SINCE && whole.contains(" INHERIT ") {
        return vec![plain_membership(&whole, words).unwrap_or(whole)];
    }
    let without_grantor = whole.rsplit_once(" GRANTED BY ").map(|(before, _)| format!("{before};"));
    let mut forms = vec![whole];
    forms.extend(without_grantor);
    forms
}

fn with_sql(item: &ScriptItem, sql: &str) -> ScriptItem {
    let mut item = item.clone();
    item.statements[0].sql = sql.as_bytes().to_vec();
    item
}

/// The same without options, if they say what an older server does anyway.
fn plain_membership(whole: &str, words: &StatementWords<'_>) -> Option<String> {
    let is_plain = !whole.contains(" INHERIT FALSE") && !whole.contains(" SET FALSE");
    words.membership().filter(|_| is_plain)
}

/// Runs a statement that no transaction takes, and that a run before may have run.
fn run_outside_transaction(session: &TargetSession, item: &ScriptItem) -> Result<ItemOutcome, SourceError> {
    let refused = refusal_outside_transaction(session, item)?;
    let record = refused.as_ref().map(|reason| ledger::refused_object_sql(&item.object, reason)).unwrap_or_default();
    session.execute(&item.doing(), &format!("BEGIN; {record} {} COMMIT", item.mark()))?;
    Ok(if refused.is_some() { ItemOutcome::Refused } else { ItemOutcome::Done })
}

/// Runs the statement; gives why it was refused, if it was.
fn refusal_outside_transaction(session: &TargetSession, item: &ScriptItem) -> Result<Option<String>, SourceError> {
    let sql = statement_text(&item.statements[0].sql);
    let doing = item.doing();
    let mut retries = 0;
    loop {
        let Err(error) = session.client.attempt(&sql) else { return Ok(None) };
        return match session.classify(&error, &doing) {
            ServerFault::Fatal(error @ SourceError::Lost { .. }) => Err(error),
            ServerFault::Retry if retries < RETRIES_MAX => {
                retries += 1;
                continue;
            }
            ServerFault::Refused { state, .. } if state == DUPLICATE_OBJECT => Ok(None),
            ServerFault::Refused { reason, .. } => Ok(Some(reason)),
            // Such as a directory that is not there.
            ServerFault::Fatal(_) | ServerFault::Retry => {
                Ok(Some(error.as_db_error().map_or("it failed", |db| db.message()).to_owned()))
            }
        };
    }
}
