//! Roles, their settings and memberships, and tablespaces. A role that was there before stays exactly as it is, with
//! its memberships and password: the cluster may serve others.

use std::collections::BTreeSet;

use crate::engine::contract::SourceError;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::restore::fault::{ServerFault, fatal, judge};
use crate::engine::postgres::restore::items::{ItemNaming, ItemOutcome, THERE, TRIES, run, text};
use crate::engine::postgres::restore::ledger::{self, DoneParts};
use crate::engine::postgres::restore::script::ScriptItem;
use crate::engine::postgres::restore::server::TargetServer;
use crate::engine::postgres::restore::sql::StatementWords;

/// The first version whose memberships say whether rights are inherited.
const MEMBERSHIP_OPTIONS_SINCE: u32 = 16;

/// Restores globals; gives the roles of the snapshot that were there before, or that somebody else made meanwhile: another
/// restore, which sees to the rest of them.
pub(super) fn restore(
    client: &Client,
    server: &TargetServer,
    done: &DoneParts,
    items: &[ScriptItem],
    before: &[String],
) -> Result<BTreeSet<String>, SourceError> {
    let mut known = BTreeSet::new();
    for item in items {
        let [step] = &item.statements[..] else { continue };
        let words = StatementWords::of(&step.sql);
        let role = changed(&words);
        if let Some(role) = role.as_ref().filter(|role| before.contains(role) || known.contains(*role)) {
            known.insert(role.clone());
            continue;
        }
        if done.has(item.part, item.number) {
            continue;
        }
        if words.is(1, "TABLESPACE") {
            alone(client, server, item)?;
        } else if words.is(0, "GRANT") {
            grant(client, server, item, &words)?;
        } else if words.starts_with(&["CREATE", "ROLE"]) {
            // Left unmarked, it is found to be there by a run that goes on as well.
            if run(client, server, item, ItemNaming::UnlessThere)? == ItemOutcome::Undone {
                known.extend(role);
            }
        } else {
            run(client, server, item, ItemNaming::Named)?;
        }
    }
    Ok(known)
}

/// The role that a statement makes or changes.
fn changed(words: &StatementWords<'_>) -> Option<String> {
    let verb = words.is(0, "CREATE") || words.is(0, "ALTER") || words.is(0, "COMMENT") || words.is(0, "SECURITY");
    if words.is(0, "GRANT") {
        // GRANT parameters on anything else are not about a membership.
        return words.roles().into_iter().next();
    }
    // SECURITY LABEL FOR provider ON ROLE name
    let at = (1..6).find(|&at| words.is(at, "ROLE"))?;
    verb.then(|| words.name(at + 1)).flatten()
}

/// A membership. Versions differ in what may be said of it, and who granted it may not be here.
fn grant(
    client: &Client,
    server: &TargetServer,
    item: &ScriptItem,
    words: &StatementWords<'_>,
) -> Result<(), SourceError> {
    let whole = String::from_utf8_lossy(&item.statements[0].sql).into_owned();
    let without_grantor = whole.rsplit_once(" GRANTED BY ").map(|(before, _)| format!("{before};"));
    let plain = words.membership();
    let mut forms: Vec<String> = Vec::new();
    if server.place.version >= MEMBERSHIP_OPTIONS_SINCE || !whole.contains(" INHERIT ") {
        forms.push(whole.clone());
        forms.extend(without_grantor);
    } else if !whole.contains(" INHERIT FALSE") && !whole.contains(" SET FALSE") {
        forms.extend(plain);
    }
    let (last, others) = match forms.split_last() {
        Some((last, others)) => (last.clone(), others),
        None => (whole, &[][..]),
    };
    for form in others {
        if run(client, server, &with(item, form), ItemNaming::UnlessMissing)? == ItemOutcome::Done {
            return Ok(());
        }
    }
    run(client, server, &with(item, &last), ItemNaming::Named).map(drop)
}

fn with(item: &ScriptItem, sql: &str) -> ScriptItem {
    let mut item = item.clone();
    item.statements[0].sql = sql.as_bytes().to_vec();
    item
}

/// A statement that no transaction takes, and that may have been made by a run before.
fn alone(client: &Client, server: &TargetServer, item: &ScriptItem) -> Result<(), SourceError> {
    let doing = format!("making {}", item.object);
    let mut end = String::new();
    for tried in 0.. {
        let Err(error) = client.attempt(&text(&item.statements[0].sql)) else { break };
        match judge(&error, &server.name, &doing) {
            ServerFault::Stop(error @ SourceError::Lost { .. }) => return Err(error),
            ServerFault::Again if tried < TRIES => continue,
            ServerFault::Refused { state, .. } if state == THERE => {}
            ServerFault::Refused { reason, .. } => end = ledger::refused(&item.object, Some(&reason), 0),
            // Such as a directory that is not there.
            ServerFault::Stop(_) | ServerFault::Again => {
                let reason = error.as_db_error().map_or("it failed", |db| db.message());
                end = ledger::refused(&item.object, Some(reason), 0);
            }
        }
        break;
    }
    let end = format!("BEGIN; {end} {} COMMIT", ledger::mark(item.part, item.number));
    client.attempt(&end).map_err(|error| fatal(&error, &server.name, &doing))
}
