//! Enrols a key, or gives an operator further sources.

use crate::base::id::{Digest, Epoch, KeyId, SourceId};
use crate::base::role::{Role, SourceScope};
use crate::crypto::role::Identity;
use crate::ops::error::OpError;
use crate::ops::keys::find::{check_label, find_key};
use crate::repo::create::prove_openable;
use crate::repo::keys::{NewKey, check_may_enrol, enrol_key, epochs_not_grantable, extend_key};
use crate::repo::open::Unlocked;

/// A key that was enrolled, or that got further sources.
#[derive(Clone, Debug, serde::Serialize)]
pub struct EnrolledReport {
    pub key: KeyId,
    pub role: Role,
    pub label: String,
    /// The epochs that the roster names grants of.
    pub epochs: Vec<Epoch>,
    /// Epochs that the caller's key cannot open, so that it could not grant them.
    pub not_granted: Vec<Epoch>,
}

/// The wanted key.
pub struct KeyRequest<'a> {
    pub role: Role,
    pub label: &'a str,
    pub scope: SourceScope,
}

/// SHA-256 of roster entry 1, which a key file pins.
#[must_use]
pub fn fingerprint(unlocked: &Unlocked) -> Digest {
    unlocked.repository().roster().fingerprint()
}

/// Generates a key, after checking that it can be enrolled. The caller stores it before it is enrolled.
/// Fails if the caller's key may not enrol keys of this role, if a key has the label, if the caller cannot grant every
/// epoch to a recovery key, or if a feature is announced that this program does not know.
pub fn generate(unlocked: &Unlocked, request: &KeyRequest<'_>) -> Result<Identity, OpError> {
    unlocked.check_not_revoked()?;
    let roster = unlocked.repository().roster();
    check_may_enrol(unlocked, request.role)?;
    check_label(roster, request.label)?;
    let closed = epochs_not_grantable(unlocked);
    if let (Role::Recovery, Some(epoch)) = (request.role, closed.first()) {
        unlocked.admin(*epoch, "granting an epoch")?;
    }
    let repository = unlocked.repository();
    Ok(Identity::generate(repository.env(), request.role, repository.id()))
}

/// Enrols a key that the caller has stored, and proves that it opens its epochs.
/// Fails if the entry cannot be written, or if the key does not open what was sealed for it.
pub fn enrol(unlocked: &mut Unlocked, identity: Identity, request: &KeyRequest<'_>) -> Result<EnrolledReport, OpError> {
    let new = NewKey { identity: &identity, label: request.label, scope: &request.scope };
    enrol_key(unlocked, &new)?;
    let report = report(unlocked, identity.key_id());
    prove(unlocked, identity)?;
    Ok(report)
}

/// Proves that a new key opens its epochs and, if it opens rows, what is sealed to the newest one.
/// Fails if it does not open them, or the store fails.
pub(super) fn prove(unlocked: &Unlocked, identity: Identity) -> Result<Unlocked, OpError> {
    let opened = unlocked.repository().clone().unlock(identity)?;
    let newest = opened.repository().roster().open_epoch().map(|(epoch, _)| epoch);
    if let (true, Some(epoch)) = (opened.role().is_admin(), newest) {
        prove_openable(&opened, &opened, epoch)?;
    }
    Ok(opened)
}

/// Gives the operator that `text` names further sources.
/// Fails if no key or several are meant, if it is not an operator or is revoked, or if the entry cannot be written.
pub fn extend(unlocked: &mut Unlocked, text: &str, sources: &[SourceId]) -> Result<EnrolledReport, OpError> {
    unlocked.check_not_revoked()?;
    let roster = unlocked.repository().roster();
    let key = find_key(roster, text)?;
    let state = &roster.keys[&key];
    if state.role != Role::Operator {
        return Err(OpError::Key(format!(
            "key {key} has the role {}: only operators are limited to sources",
            state.role
        )));
    }
    if state.revoked.is_some() {
        return Err(OpError::Key(format!("key {key} is revoked")));
    }
    if state.scope() == Some(SourceScope::All) {
        return Err(OpError::Key(format!("key {key} is enrolled for all sources already")));
    }
    check_may_enrol(unlocked, Role::Operator)?;
    extend_key(unlocked, key, sources)?;
    Ok(report(unlocked, key))
}

/// What the roster says about a key.
pub(super) fn report(unlocked: &Unlocked, key: KeyId) -> EnrolledReport {
    let roster = unlocked.repository().roster();
    let state = roster.keys.get(&key);
    let granted = roster.epochs.iter().filter(|(_, epoch)| epoch.grants.contains_key(&key));
    EnrolledReport {
        key,
        role: state.map_or(Role::Auditor, |state| state.role),
        label: state.map_or_else(String::new, |state| state.label.clone()),
        epochs: granted.map(|(epoch, _)| *epoch).collect(),
        not_granted: epochs_not_grantable(unlocked),
    }
}
