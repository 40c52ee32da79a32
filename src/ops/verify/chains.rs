//! Roster and ledgers: void entries, holes, and what an earlier check saw that is gone or changed.
//!
//! A void entry that its successor names was void when that was written: it never counted. One that
//! its successor does not name has been altered since, and so has, until proven otherwise, the newest.

use crate::base::finding::{Affected, Finding, FindingKind, Findings};
use crate::base::id::{Digest, SourceId};
use crate::base::limit::STATEMENT_BYTES_MAX;
use crate::format::dsse::Envelope;
use crate::format::entry::{Entry, EntryBody, Numbered};
use crate::format::name::Name;
use crate::format::roster::RosterEntry;
use crate::ops::error::OpError;
use crate::ops::verify::report::Heads;
use crate::repo::error::RepoError;
use crate::repo::finding::finding_of;
use crate::repo::ledger::Ledger;
use crate::repo::open::Repository;
use crate::store::StoreError;

/// Reports what is wrong with the roster.
pub fn check_roster(repository: &Repository, findings: &mut Findings) -> Result<(), OpError> {
    let roster = repository.roster();
    let mut voids = Vec::new();
    for (number, reason) in &roster.voids {
        voids.push(VoidEntry { number: *number, reason });
    }
    let chain = ReadChain { repository, source: None, digests: &roster.digests };
    chain.report_voids(&voids, findings)?;
    chain.report_hole(&roster.ignored, findings);
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
            findings.add(finding_of(Some(source), error)?);
            return Ok(None);
        }
    };
    let mut voids = Vec::new();
    for (entry, reason) in &ledger.voids {
        voids.push(VoidEntry { number: entry.number, reason });
    }
    let chain = ReadChain { repository, source: Some(source), digests: &ledger.digests };
    chain.report_voids(&voids, findings)?;
    chain.report_hole(&ledger.ignored, findings);
    Ok(Some(ledger))
}

/// Compares the chains with what an earlier check saw.
pub fn check_known_heads(repository: &Repository, ledgers: &[Ledger], known: &Heads, findings: &mut Findings) {
    let roster = repository.roster();
    if roster.fingerprint() != known.fingerprint {
        let detail = format!("the fingerprint is {}, and {} was seen before", roster.fingerprint(), known.fingerprint);
        findings.add(Finding::new(FindingKind::RolledBack, Name::Roster(1), detail));
    }
    check_head(&roster.digests, known.roster, None, findings);
    for (source, head) in &known.ledgers {
        let ledger = ledgers.iter().find(|ledger| ledger.source == *source);
        let digests = ledger.map(|ledger| ledger.digests.as_slice()).unwrap_or_default();
        check_head(digests, *head, Some(*source), findings);
    }
}

fn check_head(digests: &[Digest], known: Numbered, source: Option<SourceId>, findings: &mut Findings) {
    let at = usize::try_from(known.number).unwrap_or(usize::MAX).wrapping_sub(1);
    let detail = match digests.get(at) {
        Some(found) if *found == known.sha256 => return,
        Some(found) => format!("it was {} at an earlier visit and is {found} now", known.sha256),
        None => format!("it was there at an earlier visit; the chain now ends at number {}", digests.len()),
    };
    findings.add(entry_finding(FindingKind::RolledBack, source, known.number, detail));
}

/// What a later check must find again.
#[must_use]
pub fn heads(repository: &Repository, ledgers: &[Ledger]) -> Heads {
    let roster = repository.roster();
    let mut heads = Heads { fingerprint: roster.fingerprint(), roster: roster.head(), ledgers: Default::default() };
    for ledger in ledgers {
        if let Some(sha256) = ledger.digests.last() {
            let head = Numbered { number: ledger.digests.len() as u64, sha256: *sha256 };
            heads.ledgers.insert(ledger.source, head);
        }
    }
    heads
}

fn entry_name(source: Option<SourceId>, number: u64) -> Name {
    match source {
        Some(source) => Name::Ledger(source, number),
        None => Name::Roster(number),
    }
}

fn entry_finding(kind: FindingKind, source: Option<SourceId>, number: u64, detail: String) -> Finding {
    let mut finding = Finding::new(kind, entry_name(source, number), detail);
    finding.source = source;
    finding
}

/// An entry that does not count.
struct VoidEntry<'a> {
    number: u64,
    reason: &'a str,
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
struct EntryClaims {
    previous: Option<Digest>,
    is_snapshot: bool,
}

/// What became of a void entry.
struct VoidVerdict {
    kind: FindingKind,
    detail: String,
    /// The snapshot that it committed.
    snapshot: Option<Digest>,
}

impl VoidVerdict {
    fn altered(detail: String, snapshot: Option<Digest>) -> Self {
        Self { kind: FindingKind::Altered, detail, snapshot }
    }
}

impl ReadChain<'_> {
    fn report_voids(&self, voids: &[VoidEntry<'_>], findings: &mut Findings) -> Result<(), OpError> {
        let mut altered_before = None;
        for void in voids {
            let verdict = self.judge(void, altered_before)?;
            if verdict.kind == FindingKind::Altered {
                altered_before = Some(void.number);
            }
            let mut finding = entry_finding(verdict.kind, self.source, void.number, verdict.detail);
            if self.source.is_some() {
                finding = finding.affecting(Affected::snapshot(verdict.snapshot));
            }
            findings.add(finding);
        }
        Ok(())
    }

    /// Whether a void entry was altered after it was written; `altered_before` is the last one that was.
    fn judge(&self, void: &VoidEntry<'_>, altered_before: Option<u64>) -> Result<VoidVerdict, OpError> {
        let VoidEntry { number, reason } = *void;
        let own = self.digests[number as usize - 1];
        let is_newest = number as usize == self.digests.len();
        let claims = self.claims(number)?;
        let snapshot = claims.is_snapshot.then_some(own);
        let successor = if is_newest { EntryClaims::default() } else { self.claims(number + 1)? };
        if let Some(seen) = successor.previous
            && seen != own
        {
            let detail = format!("{reason}; its successor saw {seen}, and it is {own} now");
            return Ok(VoidVerdict::altered(detail, Some(seen)));
        }
        if altered_before == Some(number - 1) {
            let detail = format!("{reason}, because the entry before it was altered");
            return Ok(VoidVerdict::altered(detail, snapshot));
        }
        if is_newest {
            let detail = format!("{reason}; it is the newest entry, so what it said is lost");
            return Ok(VoidVerdict::altered(detail, snapshot));
        }
        let detail = format!("{reason}; it was passed over");
        Ok(VoidVerdict { kind: FindingKind::Void, detail, snapshot: None })
    }

    fn report_hole(&self, ignored: &[u64], findings: &mut Findings) {
        let Some(&first) = ignored.first() else { return };
        let missing = self.digests.len() as u64 + 1;
        let detail = format!("it is missing, so {} entries from number {first} on do not count", ignored.len());
        let kind = FindingKind::Hole { first, ignored: ignored.len() as u64 };
        findings.add(entry_finding(kind, self.source, missing, detail));
    }

    fn claims(&self, number: u64) -> Result<EntryClaims, OpError> {
        let name = entry_name(self.source, number);
        let bytes = match self.repository.objects().get(&name, STATEMENT_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. } | StoreError::Short { .. }) => {
                return Ok(EntryClaims::default());
            }
            Err(error) => return Err(RepoError::Store(error).into()),
        };
        let Ok(envelope) = Envelope::decode(&bytes) else { return Ok(EntryClaims::default()) };
        Ok(match self.source {
            None => roster_claims(&envelope),
            Some(_) => ledger_claims(&envelope),
        })
    }
}

fn roster_claims(envelope: &Envelope) -> EntryClaims {
    let entry: Option<RosterEntry> = envelope.predicate().ok();
    EntryClaims { previous: entry.map(|entry| entry.previous), is_snapshot: false }
}

fn ledger_claims(envelope: &Envelope) -> EntryClaims {
    match envelope.predicate::<Entry>() {
        Ok(entry) => EntryClaims {
            previous: Some(entry.place.previous),
            is_snapshot: matches!(entry.body, EntryBody::Snapshot(_)),
        },
        Err(_) => EntryClaims::default(),
    }
}
