//! Revokes a key: in the roster, and then in the ledger of every source.

use crate::base::finding::{Finding, FindingKind};
use crate::base::id::{KeyId, SourceId};
use crate::base::revocation::RevocationReason;
use crate::base::role::Role;
use crate::crypto::role::Identity;
use crate::format::entry::Revoke;
use crate::ops::error::{OpError, unless_store_fails};
use crate::ops::keys::find::find_key;
use crate::repo::keys::{check_may_enrol, revoke_in_ledger, revoke_in_roster};
use crate::repo::open::{Repository, Unlocked};
use crate::repo::roster::Roster;

/// What a revocation will do.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RevocationPlan {
    pub key: KeyId,
    pub label: String,
    pub role: Role,
    pub reason: RevocationReason,
    /// What follows from it, in sentences.
    pub consequences: Vec<String>,
}

/// What a revocation did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RevocationReport {
    #[serde(flatten)]
    pub plan: RevocationPlan,
    /// Whether the roster needed an entry. If not, it said so already.
    pub is_new: bool,
    pub ledgers: LedgerRevocations,
    /// Ledgers that do not say it yet.
    pub findings: Vec<Finding>,
}

/// Where a key is revoked besides the roster.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct LedgerRevocations {
    /// Sources whose ledger got an entry.
    pub written: Vec<SourceId>,
    /// Sources whose ledger said it already.
    pub known: Vec<SourceId>,
    /// Sources whose ledger could not be written.
    pub missing: Vec<SourceId>,
}

/// Plans to revoke the key that `text` names. Writes nothing.
/// Fails if no key or several are meant, if it is the caller's own key or the last admin key, or if the caller's key may
/// not revoke it.
pub fn plan(unlocked: &Unlocked, text: &str, reason: RevocationReason) -> Result<RevocationPlan, OpError> {
    unlocked.check_not_revoked()?;
    let roster = unlocked.repository().roster();
    let key = find_key(roster, text)?;
    let state = &roster.keys[&key];
    check_may_enrol(unlocked, state.role)?;
    if key == unlocked.key() {
        return Err(OpError::Key(format!(
            "key {key} is the one that this command was given, and a key does not revoke itself: use another admin or \
             recovery key, or replace it with `sidekeep key rotate`"
        )));
    }
    if is_last_admin(roster, key) {
        return Err(OpError::Key(format!(
            "key {key} is the last admin key: enrol another one first, with `sidekeep key add --role admin`"
        )));
    }
    let consequences = consequences(roster, key, reason);
    Ok(RevocationPlan { key, label: state.label.clone(), role: state.role, reason, consequences })
}

fn is_last_admin(roster: &Roster, key: KeyId) -> bool {
    let mut admins = roster.keys.iter().filter(|(_, state)| state.role == Role::Admin && state.revoked.is_none());
    admins.next().is_some_and(|(admin, _)| *admin == key) && admins.next().is_none()
}

/// What follows from revoking a key, in sentences.
pub(super) fn consequences(roster: &Roster, key: KeyId, reason: RevocationReason) -> Vec<String> {
    let role = roster.keys[&key].role;
    let mut texts =
        vec![format!("{role} key {key} writes nothing any more, but still opens what it could open before")];
    if !reason.is_distrust() {
        texts.push("what it wrote stays trusted, so the next backup uploads nothing again".to_owned());
        return texts;
    }
    match role {
        Role::Operator => texts.push(
            "what it wrote is not trusted any more: its snapshots can be restored, but the next backup uploads again what \
             only this key had stored"
                .to_owned(),
        ),
        Role::Admin => texts.push(
            "anyone who has it can read what was stored until now; `sidekeep key rotate --reason stolen` also ends that for \
             what is stored later"
                .to_owned(),
        ),
        Role::Recovery => texts.push(
            "anyone who has it can undo this: if it was stolen, make a new repository with `sidekeep init`, and keep this one \
             to restore from"
                .to_owned(),
        ),
        Role::Maintainer => texts.push("packs that it repacked are not shared any more".to_owned()),
        Role::Auditor => texts.push("its reports of damage do not count any more".to_owned()),
    }
    texts
}

/// Carries out a plan. What was written already is skipped, so that an interrupted revocation is completed by another one.
/// Fails if the caller's key may not revoke the key, if the store fails, or if the roster cannot be written. A ledger that
/// cannot be written is a finding.
pub fn revoke(unlocked: &mut Unlocked, plan: RevocationPlan) -> Result<RevocationReport, OpError> {
    let is_new = revoke_in_roster(unlocked, plan.key, plan.reason)?;
    let statement = Revoke { key: plan.key, reason: plan.reason };
    let done = revoke_in_ledgers(unlocked.repository(), unlocked.identity(), &statement)?;
    Ok(RevocationReport { plan, is_new, ledgers: done.ledgers, findings: done.findings })
}

/// The entries in ledgers, and what is missing.
pub(super) struct LedgersDone {
    pub(super) ledgers: LedgerRevocations,
    pub(super) findings: Vec<Finding>,
}

/// Revokes a key in the ledger of every source that is not retired.
/// Fails if the store fails. A ledger that cannot be written is a finding.
pub(super) fn revoke_in_ledgers(
    repository: &Repository,
    signer: &Identity,
    revoke: &Revoke,
) -> Result<LedgersDone, OpError> {
    let mut done = LedgersDone { ledgers: LedgerRevocations::default(), findings: Vec::new() };
    let open = repository.roster().sources.iter().filter(|(_, state)| state.retired.is_none());
    for (source, _) in open {
        match unless_store_fails(revoke_in_ledger(repository, signer, *source, revoke))? {
            Ok(true) => done.ledgers.written.push(*source),
            Ok(false) => done.ledgers.known.push(*source),
            Err(error) => {
                done.ledgers.missing.push(*source);
                let detail = format!("its ledger does not revoke key {} yet: {error}", revoke.key);
                let finding = Finding::new(FindingKind::KeyUnfit, format!("source {source}"), detail);
                done.findings.push(finding.of_source(*source).with_remedy(REPEAT));
            }
        }
    }
    Ok(done)
}

const REPEAT: &str = "repair the ledger as `sidekeep verify` says, then revoke the key again with the same reason: what was \
                      written already is skipped";
