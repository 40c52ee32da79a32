//! Roster and ledgers: void entries, gaps, and what an earlier visit saw that is gone or changed.
//!
//! A void entry that its successor names was void when that was written: it never counted. One that
//! its successor does not name has been altered since, and so has, until proven otherwise, the newest.

use crate::base::id::{Digest, SourceId};
use crate::base::limit::STATEMENT_BYTES_MAX;
use crate::format::dsse::Envelope;
use crate::format::entry::{Entry, EntryBody, Numbered};
use crate::format::name::Name;
use crate::format::roster::RosterEntry;
use crate::ops::error::OpError;
use crate::ops::verify::report::{Heads, Visit};
use crate::repo::check::{Fault, Findings, Severity, Victim};
use crate::repo::error::RepoError;
use crate::repo::ledger::Ledger;
use crate::repo::open::Repository;
use crate::store::StoreError;

/// Reports what is wrong with the roster.
pub fn check_roster(repository: &Repository, findings: &mut Findings) -> Result<(), OpError> {
    let roster = repository.roster();
    let voids: Vec<_> = roster.voids.iter().map(|(number, reason)| (*number, reason.clone())).collect();
    let chain = ReadChain { repository, source: None, digests: &roster.digests };
    chain.voids(&voids, findings)?;
    chain.ignored(&roster.ignored, findings);
    Ok(())
}

/// Folds the ledger of a source and reports what is wrong with it; `None` if it cannot be folded.
pub fn check_ledger(
    repository: &Repository,
    source: SourceId,
    findings: &mut Findings,
) -> Result<Option<Ledger>, OpError> {
    let ledger = match Ledger::load(repository, source) {
        Ok(ledger) => ledger,
        Err(error) => {
            findings.add_error(Some(source), error)?;
            return Ok(None);
        }
    };
    let voids: Vec<_> = ledger.voids.iter().map(|(at, reason)| (at.number, reason.clone())).collect();
    let chain = ReadChain { repository, source: Some(source), digests: &ledger.digests };
    chain.voids(&voids, findings)?;
    chain.ignored(&ledger.ignored, findings);
    Ok(Some(ledger))
}

/// Compares the chains with what an earlier visit saw.
pub fn check_visit(repository: &Repository, ledgers: &[Ledger], visit: &Visit, findings: &mut Findings) {
    let Visit::Again(seen) = visit else { return };
    let roster = repository.roster();
    if roster.fingerprint() != seen.fingerprint {
        let what = format!("the fingerprint is {}, and {} was seen before", roster.fingerprint(), seen.fingerprint);
        findings.add(Fault::RolledBack, None, Name::Roster(1), what);
    }
    check_head(&roster.digests, seen.roster, None, findings);
    for (source, head) in &seen.ledgers {
        let digests = ledgers.iter().find(|ledger| ledger.source == *source).map(|ledger| ledger.digests.as_slice());
        check_head(digests.unwrap_or_default(), *head, Some(*source), findings);
    }
}

fn check_head(digests: &[Digest], seen: Numbered, source: Option<SourceId>, findings: &mut Findings) {
    let at = usize::try_from(seen.number).unwrap_or(usize::MAX).wrapping_sub(1);
    let what = match digests.get(at) {
        Some(found) if *found == seen.sha256 => return,
        Some(found) => format!("it was {} at an earlier visit and is {found} now", seen.sha256),
        None => format!("it was there at an earlier visit; the chain now ends at number {}", digests.len()),
    };
    findings.add(Fault::RolledBack, source, entry_name(source, seen.number), what);
}

/// What a later visit must find again.
#[must_use]
pub fn heads(repository: &Repository, ledgers: &[Ledger]) -> Heads {
    let roster = repository.roster();
    let head = |ledger: &Ledger| {
        let sha256 = *ledger.digests.last()?;
        Some((ledger.source, Numbered { number: ledger.digests.len() as u64, sha256 }))
    };
    let ledgers = ledgers.iter().filter_map(head).collect();
    Heads { fingerprint: roster.fingerprint(), roster: roster.head(), ledgers }
}

fn entry_name(source: Option<SourceId>, number: u64) -> Name {
    match source {
        Some(source) => Name::Ledger(source, number),
        None => Name::Roster(number),
    }
}

/// A chain as it was read.
struct ReadChain<'a> {
    repository: &'a Repository,
    /// `None`: the roster.
    source: Option<SourceId>,
    digests: &'a [Digest],
}

/// What an entry says of itself, whether it is valid or not.
#[derive(Default)]
struct Told {
    previous: Option<Digest>,
    is_snapshot: bool,
}

impl ReadChain<'_> {
    fn voids(&self, voids: &[(u64, String)], findings: &mut Findings) -> Result<(), OpError> {
        let mut altered_before = None;
        for (number, reason) in voids {
            let own = self.digests[*number as usize - 1];
            let told = self.told(*number)?;
            let successor =
                if (*number as usize) < self.digests.len() { self.told(number + 1)?.previous } else { None };
            let is_newest = *number as usize == self.digests.len();
            let name = entry_name(self.source, *number);
            let (fault, severity, what, snapshot) = if successor.is_some_and(|seen| seen != own) {
                let seen = successor.expect("just looked at");
                let what = format!("{reason}; its successor saw {seen}, and it is {own} now");
                (Fault::Altered, Severity::Damage, what, Some(seen))
            } else if altered_before == Some(number - 1) {
                let what = format!("{reason}, because the entry before it was altered");
                (Fault::Altered, Severity::Damage, what, told.is_snapshot.then_some(own))
            } else if is_newest {
                let what = format!("{reason}; it is the newest entry, so what it said is lost");
                (Fault::Altered, Severity::Damage, what, told.is_snapshot.then_some(own))
            } else {
                (Fault::Void, Severity::Warning, format!("{reason}; it was passed over"), None)
            };
            if fault == Fault::Altered {
                altered_before = Some(*number);
            }
            let at = findings.add_as(severity, (fault, self.source, name.to_string()), what);
            if self.source.is_some() {
                findings.hurts(at, Victim { snapshot, table: None });
            }
        }
        Ok(())
    }

    fn ignored(&self, ignored: &[u64], findings: &mut Findings) {
        let Some(&first) = ignored.first() else { return };
        let missing = entry_name(self.source, self.digests.len() as u64 + 1);
        let what = format!("it is missing, so {} entries from number {first} on do not count", ignored.len());
        findings.add(Fault::Gap, self.source, missing, what);
    }

    fn told(&self, number: u64) -> Result<Told, OpError> {
        let name = entry_name(self.source, number);
        let bytes = match self.repository.objects().get(&name, STATEMENT_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. } | StoreError::Short { .. }) => {
                return Ok(Told::default());
            }
            Err(error) => return Err(RepoError::Store(error).into()),
        };
        let Ok(envelope) = Envelope::decode(&bytes) else { return Ok(Told::default()) };
        Ok(match self.source {
            None => {
                let entry: Option<RosterEntry> = envelope.predicate().ok();
                Told { previous: entry.map(|entry| entry.previous), is_snapshot: false }
            }
            Some(_) => {
                let entry: Option<Entry> = envelope.predicate().ok();
                let is_snapshot = entry.as_ref().is_some_and(|entry| matches!(entry.body, EntryBody::Snapshot(_)));
                Told { previous: entry.map(|entry| entry.place.previous), is_snapshot }
            }
        })
    }
}
