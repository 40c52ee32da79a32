//! Appends an entry to the ledger of a source.

use bytes::Bytes;

use crate::base::id::{Digest, KeyId, SourceId};
use crate::base::role::Role;
use crate::format::dsse::encode;
use crate::format::entry::{Entry, EntryBody, Numbered};
use crate::format::name::Name;
use crate::repo::chain::Link;
use crate::repo::error::RepoError;
use crate::repo::heads::ChainId;
use crate::repo::ledger::Ledger;
use crate::repo::open::Repository;
use crate::store::{Created, StoreError};

/// The result of an attempt to append.
#[derive(Debug)]
pub enum Appended {
    /// The entry is stored at this number. For a snapshot, its digest is the snapshot's id.
    Done(Numbered),
    /// Another entry has the number. Fold again, and validate everything again.
    Lost,
}

/// Signs `body` for the place after `ledger`'s head, and tries to create it there durably.
/// Fails if the signer's role may not sign it (`RepoError::WrongRole`), if the entry would be void (`NotEnrolled`), if
/// entries of the ledger or the roster are missing and it does not accept that (`Hole`, `WentBack`, `RolledBack`), if the
/// roster announces a feature that this program does not know (`UnknownFeature`), if it is too long, if the ledger's
/// source is not in the roster, or if the store fails. `CommitUncertain`: the entry may be stored.
pub fn append(
    repository: &Repository,
    signer: &Signer<'_>,
    ledger: &Ledger,
    body: EntryBody,
) -> Result<Appended, RepoError> {
    signer.check_role(&body)?;
    ledger.roster().check_writable()?;
    if !matches!(body, EntryBody::AcceptLoss(_)) {
        ledger.check_complete(repository)?;
    }
    let entry = Entry { place: ledger.next_place()?, written: repository.env().now(), body };
    let bytes = signer.encode(&entry)?;
    check_counts(signer, ledger, &bytes)?;
    let appended = Numbered { number: entry.place.number, sha256: Digest::of(&bytes) };
    create_entry(repository, ledger.source, appended, bytes)
}

/// Fails if the entry would be void, because its signer would believe that it had committed.
fn check_counts(signer: &Signer<'_>, ledger: &Ledger, bytes: &Bytes) -> Result<(), RepoError> {
    if ledger.would_count(&Link::Whole(bytes.clone()))? {
        return Ok(());
    }
    check_not_retired(ledger)?;
    Err(RepoError::NotEnrolled { key: signer.key, state: "not entitled to write to this source" })
}

fn check_not_retired(ledger: &Ledger) -> Result<(), RepoError> {
    let source_id = ledger.source;
    let roster = ledger.roster();
    if roster.is_retired_at(source_id, roster.head().number) { Err(RepoError::Retired { source_id }) } else { Ok(()) }
}

fn create_entry(
    repository: &Repository,
    source: SourceId,
    entry: Numbered,
    bytes: Bytes,
) -> Result<Appended, RepoError> {
    let created = repository.objects().create_durable(&Name::Ledger(source, entry.number), bytes);
    let appended = outcome(created, entry)?;
    if let (Appended::Done(entry), Some(heads)) = (&appended, repository.objects().heads()) {
        heads.written(repository.id(), ChainId::Ledger(source), *entry);
    }
    Ok(appended)
}

/// Interprets the store's answer.
fn outcome(created: Result<Created, StoreError>, entry: Numbered) -> Result<Appended, RepoError> {
    match created {
        Ok(Created::New | Created::Same) => Ok(Appended::Done(entry)),
        Err(StoreError::Exists { .. }) => Ok(Appended::Lost),
        Err(source @ StoreError::Uncertain { .. }) => Err(RepoError::CommitUncertain { source }),
        Err(error) => Err(error.into()),
    }
}

/// The key that signs an entry.
pub struct Signer<'a> {
    pub key: KeyId,
    pub role: Role,
    pub sign: &'a dyn Fn(&[u8]) -> [u8; 64],
}

impl Signer<'_> {
    fn check_role(&self, body: &EntryBody) -> Result<(), RepoError> {
        if body.may_be_signed_by(self.role) {
            return Ok(());
        }
        let needed = "the role that signs it";
        Err(RepoError::WrongRole { doing: "this entry", needed, key: self.key, role: self.role })
    }

    /// Encodes and signs an entry.
    fn encode(&self, entry: &Entry) -> Result<Bytes, RepoError> {
        let encoded = encode(entry, self.key, self.sign);
        encoded.map(Bytes::from).map_err(|source| RepoError::Statement { what: "a ledger entry", source })
    }
}
