//! Enrols and revokes keys, grants them epochs, and opens new epochs.

use std::collections::BTreeMap;

use crate::base::id::{Epoch, KeyId, SourceId};
use crate::base::revocation::RevocationReason;
use crate::base::role::{Role, SourceScope};
use crate::crypto::hpke::SealingKey;
use crate::crypto::role::{AdminKeys, Identity, PublicKeys};
use crate::format::entry::{EntryBody, Revoke};
use crate::format::grant::Grant;
use crate::format::roster::{AddGrant, CloseEpoch, ExtendSources, OpenEpoch, RevokeKey, RosterStatement};
use crate::repo::append::{Appended, Signer, append};
use crate::repo::create::{append_statements, create_grant, enrol, seal_grant};
use crate::repo::error::RepoError;
use crate::repo::ledger::Ledger;
use crate::repo::open::{Repository, Unlocked};
use crate::repo::roster::EnrolledKey;

/// A key that is to be enrolled.
pub struct NewKey<'a> {
    pub identity: &'a Identity,
    pub label: &'a str,
    /// The sources of an operator.
    pub scope: &'a SourceScope,
}

/// A key that takes the place of another one.
pub struct Rotation<'a> {
    pub old: KeyId,
    pub new: NewKey<'a>,
    pub reason: RevocationReason,
}

/// A key that a grant is for.
struct GrantHolder<'a> {
    public: PublicKeys,
    role: Role,
    scope: &'a SourceScope,
}

/// Enrols a key and grants it every epoch that the caller can open.
/// Fails if the caller's key may not enrol keys of this role (`RepoError::WrongRole`), if a new recovery key would lack
/// the grant of an epoch, if the roster announces a feature that this program does not know, or if the entry cannot be
/// written.
pub fn enrol_key(unlocked: &mut Unlocked, new: &NewKey<'_>) -> Result<(), RepoError> {
    append_statements(unlocked, "enrolling a key", |unlocked| new.statements(unlocked))
}

/// Gives an operator further sources, with grants of their keys in every epoch that the caller can open.
/// Fails if the key of the caller is not an admin's, if the key is not enrolled, or if the entry cannot be written.
pub fn extend_key(unlocked: &mut Unlocked, key: KeyId, sources: &[SourceId]) -> Result<(), RepoError> {
    append_statements(unlocked, "giving a key further sources", |unlocked| {
        let scope = SourceScope::Named(sources.to_vec());
        let enrolled = enrolled(unlocked, key)?;
        let holder = GrantHolder { public: public_of(key, enrolled)?, role: enrolled.role, scope: &scope };
        let mut statements = vec![RosterStatement::Extend(ExtendSources { key, sources: scope.clone() })];
        statements.extend(holder.grants(unlocked, &openable(unlocked))?);
        Ok(statements)
    })
}

/// Revokes a key in the roster. Returns whether that needed an entry.
/// Fails if the caller's key may not revoke this one (`RepoError::WrongRole`), if the key is not enrolled, or if the entry
/// cannot be written.
pub fn revoke_in_roster(unlocked: &mut Unlocked, key: KeyId, reason: RevocationReason) -> Result<bool, RepoError> {
    check_may_change(unlocked, enrolled(unlocked, key)?.role)?;
    if says(enrolled(unlocked, key)?.reason, reason, unlocked.role()) {
        return Ok(false);
    }
    let statement = || Ok(vec![RosterStatement::Revoke(RevokeKey { key, reason })]);
    append_statements(unlocked, "revoking a key", |_| statement())?;
    Ok(true)
}

/// Revokes a key in the ledger of a source. Returns whether that needed an entry.
/// Fails if the entry cannot be written, see [`append`].
pub fn revoke_in_ledger(
    repository: &Repository,
    signer: &Identity,
    source: SourceId,
    revoke: &Revoke,
) -> Result<bool, RepoError> {
    let sign = |message: &[u8]| signer.sign(message);
    let by = Signer { key: signer.key_id(), role: signer.role(), sign: &sign };
    loop {
        let ledger = Ledger::load(repository, source)?;
        if says(ledger.revocation(&revoke.key), revoke.reason, signer.role()) {
            return Ok(false);
        }
        if let Appended::Done(_) = append(repository, &by, &ledger, EntryBody::Revoke(revoke.clone()))? {
            return Ok(true);
        }
    }
}

/// Whether a chain that gives `known` as the reason would say the same after an entry that gives `reason`.
fn says(known: Option<RevocationReason>, reason: RevocationReason, by: Role) -> bool {
    known.is_some_and(|known| known.followed_by(reason, by == Role::Recovery) == known)
}

/// Enrols a key in the place of another one, which it revokes. If the old key is distrusted from then on, this opens a new
/// epoch for all keys that are not revoked, and closes the ones before. All of it is one entry.
/// Fails like [`enrol_key`], or if a key cannot be granted the new epoch.
pub fn rotate_key(unlocked: &mut Unlocked, rotation: &Rotation<'_>) -> Result<(), RepoError> {
    append_statements(unlocked, "rotating a key", |unlocked| {
        let Rotation { old, new, reason } = rotation;
        check_may_change(unlocked, enrolled(unlocked, *old)?.role)?;
        let mut statements = new.statements(unlocked)?;
        statements.push(RosterStatement::Revoke(RevokeKey { key: *old, reason: *reason }));
        if reason.is_distrust() {
            statements.extend(next_epoch(unlocked, *old, new)?);
        }
        Ok(statements)
    })
}

impl NewKey<'_> {
    /// Enrols the key and grants it the epochs.
    fn statements(&self, unlocked: &Unlocked) -> Result<Vec<RosterStatement>, RepoError> {
        let role = self.identity.role();
        check_may_change(unlocked, role)?;
        let epochs = if role == Role::Recovery { all_epochs(unlocked) } else { openable(unlocked) };
        let mut statements = vec![RosterStatement::Enrol(enrol(self.identity, self.label.to_owned(), self.scope))];
        statements.extend(self.holder().grants(unlocked, &epochs)?);
        Ok(statements)
    }

    fn holder(&self) -> GrantHolder<'_> {
        GrantHolder { public: self.identity.public(), role: self.identity.role(), scope: self.scope }
    }
}

impl GrantHolder<'_> {
    /// Stores a grant of each epoch, and returns the statements that name them.
    fn grants(&self, unlocked: &Unlocked, epochs: &[Epoch]) -> Result<Vec<RosterStatement>, RepoError> {
        let mut statements = Vec::with_capacity(epochs.len());
        for epoch in epochs {
            let grant = self.grant(unlocked.repository(), *epoch, unlocked.admin(*epoch, "granting an epoch")?)?;
            let sha256 = create_grant(unlocked.repository().objects(), &grant)?;
            statements.push(RosterStatement::Grant(AddGrant { epoch: *epoch, key: grant.key, sha256 }));
        }
        Ok(statements)
    }

    fn grant(&self, repository: &Repository, epoch: Epoch, keys: &AdminKeys) -> Result<Grant, RepoError> {
        let sealed = seal_grant(keys, repository.env(), &self.public, self.role, self.scope)?;
        Ok(Grant { repository: repository.id(), epoch, key: self.public.id(), sealed })
    }
}

/// Opens the next epoch for all keys that are not revoked, except `old`, and for the new one. Closes the others.
fn next_epoch(unlocked: &Unlocked, old: KeyId, new: &NewKey<'_>) -> Result<Vec<RosterStatement>, RepoError> {
    let repository = unlocked.repository();
    let roster = repository.roster();
    let last = roster.epochs.keys().next_back().map_or(0, |epoch| epoch.0);
    let epoch = Epoch(last.checked_add(1).ok_or_else(|| RepoError::missing("a number for another epoch"))?);
    let keys = AdminKeys::create_epoch(repository.env(), repository.id(), epoch);
    let mut grants = BTreeMap::new();
    let mut add = |holder: &GrantHolder<'_>| -> Result<(), RepoError> {
        let grant = holder.grant(repository, epoch, &keys)?;
        grants.insert(grant.key, create_grant(repository.objects(), &grant)?);
        Ok(())
    };
    add(&new.holder())?;
    for (key, enrolled) in roster.keys.iter().filter(|(key, state)| state.revoked.is_none() && **key != old) {
        let scope = enrolled.scope().unwrap_or(SourceScope::All);
        add(&GrantHolder { public: public_of(*key, enrolled)?, role: enrolled.role, scope: &scope })?;
    }
    let open = roster.epochs.iter().filter(|(_, state)| !state.closed);
    let closed = open.map(|(epoch, _)| CloseEpoch { epoch: *epoch, reason: format!("key {old} is not trusted") });
    let mut statements =
        vec![RosterStatement::Epoch(OpenEpoch { epoch, sealing: keys.restore_public().to_bytes(), grants })];
    statements.extend(closed.map(RosterStatement::Close));
    Ok(statements)
}

/// Fails unless the caller may enrol and revoke keys of this role.
fn check_may_change(unlocked: &Unlocked, role: Role) -> Result<(), RepoError> {
    match (role, unlocked.role()) {
        (Role::Recovery, by) if by != Role::Recovery => {
            Err(unlocked.wrong_role("enrolling or revoking a recovery key", "a recovery key"))
        }
        (_, by) if !by.is_admin() => {
            Err(unlocked.wrong_role("enrolling or revoking a key", "an admin or the recovery key"))
        }
        _ => Ok(()),
    }
}

/// Fails unless the caller may enrol keys of this role now.
pub fn check_may_enrol(unlocked: &Unlocked, role: Role) -> Result<(), RepoError> {
    check_may_change(unlocked, role)?;
    unlocked.repository().roster().check_writable()
}

fn enrolled(unlocked: &Unlocked, key: KeyId) -> Result<&EnrolledKey, RepoError> {
    let state = unlocked.repository().roster().keys.get(&key);
    state.ok_or(RepoError::NotEnrolled { key, state: "not enrolled" })
}

fn public_of(key: KeyId, enrolled: &EnrolledKey) -> Result<PublicKeys, RepoError> {
    let sealing = SealingKey::from_bytes(&enrolled.sealing);
    let sealing = sealing.map_err(|error| RepoError::damaged(format!("key {key}"), error.to_string()))?;
    Ok(PublicKeys { signing: enrolled.signing, sealing })
}

fn all_epochs(unlocked: &Unlocked) -> Vec<Epoch> {
    unlocked.repository().roster().epochs.keys().copied().collect()
}

/// The epochs that the caller can open, and so grant.
fn openable(unlocked: &Unlocked) -> Vec<Epoch> {
    let can_open = |epoch: &Epoch| unlocked.admin(*epoch, "granting an epoch").is_ok();
    all_epochs(unlocked).into_iter().filter(can_open).collect()
}

/// The epochs that the caller cannot open, so that it cannot grant them to others.
#[must_use]
pub fn epochs_not_grantable(unlocked: &Unlocked) -> Vec<Epoch> {
    let can_grant = openable(unlocked);
    all_epochs(unlocked).into_iter().filter(|epoch| !can_grant.contains(epoch)).collect()
}
