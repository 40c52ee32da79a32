//! Roles, their settings and memberships, and tablespaces. A role that existed before is not changed, and neither are
//! its memberships and password, because other databases of the cluster may use it.

use std::collections::BTreeSet;

use crate::engine::contract::EngineError;
use crate::engine::postgres::restore::fault::ServerFault;
use crate::engine::postgres::restore::items::{
    DUPLICATE_OBJECT, ItemOutcome, RETRIES_MAX, RefusalPolicy, run_item, statement_text,
};
use crate::engine::postgres::restore::restore_progress::{self, DoneParts};
use crate::engine::postgres::restore::script::ScriptItem;
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::schema::statement_words::StatementWords;

/// The first version in which a membership says whether privileges are inherited.
const MEMBERSHIP_OPTIONS_SINCE: u32 = 16;

/// Restores globals. Returns the snapshot's roles that existed before, or that another session created meanwhile. If
/// that was another restore, it also restores everything else about them.
/// Fails as [`run_item`] does. A tablespace that cannot be created is recorded, unless the session is lost.
pub(super) fn restore_globals(
    session: &TargetSession,
    done: &DoneParts,
    items: &[ScriptItem],
    roles_before: &[String],
) -> Result<BTreeSet<String>, EngineError> {
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
        // The item is not marked as done, so a resumed run also finds that the role exists.
        if restore_global(session, item)? == ItemOutcome::Skipped {
            known.extend(role);
        }
    }
    Ok(known)
}

fn restore_global(session: &TargetSession, item: &ScriptItem) -> Result<ItemOutcome, EngineError> {
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

/// The role that a statement creates or changes.
fn role_of(words: &StatementWords<'_>) -> Option<String> {
    if words.is(0, "GRANT") {
        // The member of a membership, or the grantee of a privilege on a parameter.
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

/// Server versions differ in the options of a membership GRANT, and the grantor may not exist here.
fn grant_membership(
    session: &TargetSession,
    item: &ScriptItem,
    words: &StatementWords<'_>,
) -> Result<ItemOutcome, EngineError> {
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

/// The statements to try one after the other, at least one.
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

/// The GRANT without options, if they only state the behavior of an older server.
fn plain_membership(whole: &str, words: &StatementWords<'_>) -> Option<String> {
    let is_plain = !whole.contains(" INHERIT FALSE") && !whole.contains(" SET FALSE");
    words.membership().filter(|_| is_plain)
}

/// Runs a statement that cannot run in a transaction. An earlier run may already have executed it.
fn run_outside_transaction(session: &TargetSession, item: &ScriptItem) -> Result<ItemOutcome, EngineError> {
    let refused = refusal_outside_transaction(session, item)?;
    let record =
        refused.as_ref().map(|reason| restore_progress::refused_object_sql(&item.object, reason)).unwrap_or_default();
    session.execute(&item.doing(), &format!("BEGIN; {record} {} COMMIT", item.mark()))?;
    Ok(if refused.is_some() { ItemOutcome::Refused } else { ItemOutcome::Done })
}

/// Runs the statement. Returns why it was refused, if it was.
fn refusal_outside_transaction(session: &TargetSession, item: &ScriptItem) -> Result<Option<String>, EngineError> {
    let sql = statement_text(&item.statements[0].sql);
    let doing = item.doing();
    let mut retries = 0;
    loop {
        let Err(error) = session.client.attempt(&sql) else { return Ok(None) };
        return match session.classify(&error, &doing) {
            ServerFault::Fatal(error @ EngineError::Lost { .. }) => Err(error),
            ServerFault::Retry if retries < RETRIES_MAX => {
                retries += 1;
                continue;
            }
            ServerFault::Refused { state, .. } if state == DUPLICATE_OBJECT => Ok(None),
            ServerFault::Refused { reason, .. } => Ok(Some(reason)),
            // For example a directory that does not exist.
            ServerFault::Fatal(_) | ServerFault::Retry => {
                Ok(Some(error.as_db_error().map_or("it failed", |db| db.message()).to_owned()))
            }
        };
    }
}
