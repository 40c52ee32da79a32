//! Replaces the key of one holder by a new one.

use crate::base::finding::Finding;
use crate::base::id::{Epoch, KeyId};
use crate::base::revocation::RevocationReason;
use crate::base::role::{Role, SourceScope};
use crate::crypto::role::Identity;
use crate::format::entry::Revoke;
use crate::ops::error::OpError;
use crate::ops::keys::add::{EnrolledReport, prove, report};
use crate::ops::keys::find::find_key;
use crate::ops::keys::revoke::{LedgerRevocations, consequences, revoke_in_ledgers};
use crate::repo::keys::{NewKey, Rotation, rotate_key};
use crate::repo::open::Unlocked;
use crate::repo::roster::Roster;

/// What a rotation will do.
pub struct RotationPlan {
    pub old: KeyId,
    pub reason: RevocationReason,
    /// What the new key is enrolled as.
    pub role: Role,
    pub scope: SourceScope,
    /// A label for the new key that no key has.
    pub label: String,
    /// What follows from it, in sentences.
    pub consequences: Vec<String>,
}

/// What a rotation did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RotationReport {
    #[serde(flatten)]
    pub new: EnrolledReport,
    pub old: KeyId,
    pub reason: RevocationReason,
    /// The epoch that was opened.
    pub opened: Option<Epoch>,
    pub consequences: Vec<String>,
    /// Where the old key is revoked besides the roster.
    pub ledgers: LedgerRevocations,
    /// Ledgers that do not revoke the old key yet.
    pub findings: Vec<Finding>,
}

/// Plans to replace the key that `text` names, or the caller's own key. Writes nothing.
/// Fails if no key or several are meant, or if the key is revoked already.
pub fn plan(unlocked: &Unlocked, text: Option<&str>, reason: RevocationReason) -> Result<RotationPlan, OpError> {
    unlocked.check_not_revoked()?;
    let roster = unlocked.repository().roster();
    let old = text.map_or_else(|| Ok(unlocked.key()), |text| find_key(roster, text))?;
    let state = &roster.keys[&old];
    if state.revoked.is_some() {
        return Err(OpError::Key(format!("key {old} is revoked already: enrol a new one with `sidekeep key add`")));
    }
    let mut consequences = consequences(roster, old, reason);
    if reason.is_distrust() {
        consequences.push("a new epoch is opened, so the next backup of every source is a full upload".to_owned());
    }
    let scope = state.scope().unwrap_or(SourceScope::All);
    let label = next_label(roster, &state.label);
    Ok(RotationPlan { old, reason, role: state.role, scope, label, consequences })
}

/// `label` with the first number behind it that no key has.
fn next_label(roster: &Roster, label: &str) -> String {
    let (stem, number) = match label.rsplit_once(' ') {
        Some((stem, number)) => (stem, number.parse::<u32>().ok()),
        None => (label, None),
    };
    let stem = if number.is_some() { stem } else { label };
    let is_used = |label: &String| roster.keys.values().any(|state| state.label == *label);
    let mut labels = (number.unwrap_or(1).saturating_add(1)..).map(|number| format!("{stem} {number}"));
    labels.find(|label| !is_used(label)).unwrap_or_default()
}

/// Carries out a plan with a key that the caller has stored.
/// Fails if the caller's key may not replace the old one, or if the store fails or the roster cannot be written. A ledger
/// that cannot be written is a finding.
pub fn rotate(unlocked: &mut Unlocked, identity: Identity, plan: &RotationPlan) -> Result<RotationReport, OpError> {
    let RotationPlan { old, reason, .. } = *plan;
    let before = unlocked.repository().roster().epochs.len();
    let new = NewKey { identity: &identity, label: &plan.label, scope: &plan.scope };
    rotate_key(unlocked, &Rotation { old, new, reason })?;
    let new = report(unlocked, identity.key_id());
    let roster = unlocked.repository().roster();
    let newest = roster.epochs.keys().next_back().copied();
    let opened = newest.filter(|_| roster.epochs.len() > before);
    let opener = prove(unlocked, identity)?;
    // A key that has just been replaced signs nothing more.
    let signer = if old == unlocked.key() { opener.identity() } else { unlocked.identity() };
    let done = revoke_in_ledgers(unlocked.repository(), signer, &Revoke { key: old, reason })?;
    let consequences = plan.consequences.clone();
    Ok(RotationReport { new, old, reason, opened, consequences, ledgers: done.ledgers, findings: done.findings })
}
