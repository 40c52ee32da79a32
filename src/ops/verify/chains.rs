//! Checks the roster and the ledgers: void entries, holes, and entries that an earlier check saw and that are now
//! missing or changed.
//!
//! If the successor of a void entry names the entry's digest, the entry was void when the successor was written, so it
//! never counted. If the successor names another digest, the entry was altered later. The newest entry has no
//! successor. If it is void, it is assumed to be altered.

use bytes::Bytes;

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
use crate::repo::finding::{chain_hole, finding_of, void_entry};
use crate::repo::heads::head_fault;
use crate::repo::ledger::Ledger;
use crate::repo::open::Repository;
use crate::repo::roster::Roster;
use crate::store::StoreError;

const FIND_WRITER: &str = "nothing is lost; find out who wrote it";
const RESTORE_MISSING: &str =
    "put the missing entry back from a second copy of the store before the next backup takes its number";

/// Reports what is wrong with the roster.
/// Fails if the store fails.
pub fn check_roster(repository: &Repository, findings: &mut Findings) -> Result<(), OpError> {
    let roster = repository.roster();
    let chain = ReadChain { repository, source: None, digests: &roster.digests };
    chain.report_voids(&roster_voids(roster), findings)?;
    chain.report_hole(&roster.ignored, findings);
    for finding in roster.refusals().chain(roster.feature_findings()) {
        findings.add(finding);
    }
    Ok(())
}

fn roster_voids(roster: &Roster) -> Vec<VoidEntry<'_>> {
    let mut voids = Vec::new();
    for (number, reason) in &roster.voids {
        voids.push(VoidEntry { number: *number, reason });
    }
    voids
}

/// Folds the ledger of a source and reports what is wrong with it. `None` if it cannot be folded.
/// Fails if the store fails.
pub fn check_ledger(
    repository: &Repository,
    source: SourceId,
    findings: &mut Findings,
) -> Result<Option<Ledger>, OpError> {
    match Ledger::load(repository, source) {
        Ok(ledger) => {
            report_ledger(repository, &ledger, findings)?;
            Ok(Some(ledger))
        }
        Err(error) => {
            findings.add(finding_of(Some(source), error)?);
            Ok(None)
        }
    }
}

fn report_ledger(repository: &Repository, ledger: &Ledger, findings: &mut Findings) -> Result<(), OpError> {
    let chain = ReadChain { repository, source: Some(ledger.source), digests: &ledger.digests };
    chain.report_voids(&ledger_voids(ledger), findings)?;
    chain.report_hole(&ledger.ignored, findings);
    for finding in ledger.roster_findings() {
        findings.add(finding);
    }
    Ok(())
}

fn ledger_voids(ledger: &Ledger) -> Vec<VoidEntry<'_>> {
    let mut voids = Vec::new();
    for (entry, reason) in &ledger.voids {
        voids.push(VoidEntry { number: entry.number, reason });
    }
    voids
}

/// Compares the chains with what an earlier check saw, and with what this host remembers.
#[must_use]
pub fn check_known_heads(repository: &Repository, ledgers: &[Ledger], known: Option<&Heads>) -> Vec<Finding> {
    let mut findings = repository.objects().head_findings();
    for finding in known.map(|known| known_head_findings(repository, ledgers, known)).unwrap_or_default() {
        if findings.iter().all(|other| other.object != finding.object) {
            findings.push(finding);
        }
    }
    findings
}

fn known_head_findings(repository: &Repository, ledgers: &[Ledger], known: &Heads) -> Vec<Finding> {
    let roster = repository.roster();
    let mut findings = Vec::new();
    findings.extend(fingerprint_finding(roster.fingerprint(), known.fingerprint));
    if !roster.gave_up(&known.roster) {
        findings.extend(head_finding(&roster.digests, known.roster, None));
    }
    for (source, head) in &known.ledgers {
        let ledger = ledgers.iter().find(|ledger| ledger.source == *source);
        if !ledger.is_some_and(|ledger| ledger.gave_up(head)) {
            findings.extend(head_finding(digests_of(ledger), *head, Some(*source)));
        }
    }
    findings
}

fn fingerprint_finding(found: Digest, known: Digest) -> Option<Finding> {
    let detail = format!("the fingerprint is {found}, but an earlier check saw {known}");
    (found != known).then(|| Finding::new(FindingKind::RolledBack, Name::Roster(1), detail))
}

/// The digests of a ledger. Empty if it could not be folded.
fn digests_of(ledger: Option<&Ledger>) -> &[Digest] {
    ledger.map(|ledger| ledger.digests.as_slice()).unwrap_or_default()
}

fn head_finding(digests: &[Digest], known: Numbered, source: Option<SourceId>) -> Option<Finding> {
    let detail = head_fault(digests, &known)?;
    Some(entry_finding(FindingKind::RolledBack, source, known.number, detail))
}

/// The newest entries. A later check must find them again.
#[must_use]
pub fn heads(repository: &Repository, ledgers: &[Ledger]) -> Heads {
    let roster = repository.roster();
    let mut heads = Heads { fingerprint: roster.fingerprint(), roster: roster.head(), ledgers: Default::default() };
    for ledger in ledgers {
        if let Some(head) = head_of(ledger) {
            heads.ledgers.insert(ledger.source, head);
        }
    }
    heads
}

fn head_of(ledger: &Ledger) -> Option<Numbered> {
    let sha256 = *ledger.digests.last()?;
    Some(Numbered { number: ledger.digests.len() as u64, sha256 })
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

impl VoidEntry<'_> {
    /// Its successor names another digest.
    fn changed(&self, seen: Digest, own: Digest) -> VoidVerdict {
        let detail = format!("{}; its successor names {seen}, but it is now {own}", self.reason);
        VoidVerdict::altered(detail, Some(seen))
    }

    fn follows_altered(&self, snapshot: Option<Digest>) -> VoidVerdict {
        let detail = format!("{}, because the entry before it was altered", self.reason);
        VoidVerdict::altered(detail, snapshot)
    }

    fn is_lost(&self, snapshot: Option<Digest>) -> VoidVerdict {
        let detail = format!("{}; it is the newest entry, so its content is lost", self.reason);
        VoidVerdict::altered(detail, snapshot)
    }

    fn passed_over(&self) -> VoidVerdict {
        let detail = format!("{}; it was skipped", self.reason);
        VoidVerdict { is_altered: false, detail, snapshot: None }
    }
}

/// A chain as it was read.
struct ReadChain<'a> {
    repository: &'a Repository,
    /// `None`: the roster.
    source: Option<SourceId>,
    digests: &'a [Digest],
}

/// What an entry claims, whether it is valid or not.
#[derive(Default)]
struct EntryClaims {
    previous: Option<Digest>,
    is_snapshot: bool,
}

/// The verdict on a void entry.
struct VoidVerdict {
    /// Else it was never valid.
    is_altered: bool,
    detail: String,
    /// The snapshot that the entry committed.
    snapshot: Option<Digest>,
}

impl VoidVerdict {
    fn altered(detail: String, snapshot: Option<Digest>) -> Self {
        Self { is_altered: true, detail, snapshot }
    }
}

impl ReadChain<'_> {
    fn report_voids(&self, voids: &[VoidEntry<'_>], findings: &mut Findings) -> Result<(), OpError> {
        let mut altered_before = None;
        for void in voids {
            let verdict = self.judge(void, altered_before)?;
            if verdict.is_altered {
                altered_before = Some(void.number);
            }
            findings.add(self.void_finding(void, verdict));
        }
        Ok(())
    }

    fn void_finding(&self, void: &VoidEntry<'_>, verdict: VoidVerdict) -> Finding {
        let snapshot = verdict.snapshot;
        let finding = self.verdict_finding(void.number, verdict);
        match self.source {
            Some(_) => finding.affecting(Affected::snapshot(snapshot)),
            None => finding,
        }
    }

    fn verdict_finding(&self, number: u64, verdict: VoidVerdict) -> Finding {
        if verdict.is_altered {
            return entry_finding(FindingKind::Altered, self.source, number, verdict.detail);
        }
        let finding = void_entry(entry_name(self.source, number), verdict.detail, FIND_WRITER);
        Finding { source: self.source, ..finding }
    }

    /// Decides whether a void entry was altered after it was written. `altered_before` is the number of the last entry
    /// that was.
    fn judge(&self, void: &VoidEntry<'_>, altered_before: Option<u64>) -> Result<VoidVerdict, OpError> {
        let own = self.digests[void.number as usize - 1];
        let claims = self.claims(void.number)?;
        let snapshot = claims.is_snapshot.then_some(own);
        Ok(match self.seen_by_successor(void)? {
            Some(seen) if seen != own => void.changed(seen, own),
            _ if altered_before == Some(void.number - 1) => void.follows_altered(snapshot),
            _ if self.is_newest(void) => void.is_lost(snapshot),
            _ => void.passed_over(),
        })
    }

    /// The digest of this entry according to the next entry.
    fn seen_by_successor(&self, void: &VoidEntry<'_>) -> Result<Option<Digest>, OpError> {
        if self.is_newest(void) {
            return Ok(None);
        }
        Ok(self.claims(void.number + 1)?.previous)
    }

    fn is_newest(&self, void: &VoidEntry<'_>) -> bool {
        void.number as usize == self.digests.len()
    }

    fn report_hole(&self, ignored: &[u64], findings: &mut Findings) {
        let Some(&first) = ignored.first() else { return };
        let count = ignored.len();
        let missing = entry_name(self.source, self.digests.len() as u64 + 1);
        let detail = format!("it is missing, so {count} entries, starting with number {first}, do not count");
        let hole = chain_hole(missing, ignored, detail, RESTORE_MISSING);
        if let Some(hole) = hole {
            findings.add(Finding { source: self.source, ..hole });
        }
    }

    /// The claims of an entry. Empty if the entry does not exist or cannot be decoded.
    fn claims(&self, number: u64) -> Result<EntryClaims, OpError> {
        let bytes = self.entry_bytes(number)?;
        let envelope = bytes.and_then(|bytes| Envelope::decode(&bytes).ok());
        Ok(match (envelope, self.source) {
            (None, _) => EntryClaims::default(),
            (Some(envelope), None) => roster_claims(&envelope),
            (Some(envelope), Some(_)) => ledger_claims(&envelope),
        })
    }

    /// The bytes of an entry. `None` if it does not exist or does not have a possible length.
    fn entry_bytes(&self, number: u64) -> Result<Option<Bytes>, OpError> {
        let name = entry_name(self.source, number);
        match self.repository.objects().get(&name, STATEMENT_BYTES_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. } | StoreError::Short { .. }) => Ok(None),
            Err(error) => Err(RepoError::Store(error).into()),
        }
    }
}

fn roster_claims(envelope: &Envelope) -> EntryClaims {
    let entry: Option<RosterEntry> = envelope.predicate().ok();
    EntryClaims { previous: entry.map(|entry| entry.previous), is_snapshot: false }
}

fn ledger_claims(envelope: &Envelope) -> EntryClaims {
    let Ok(entry) = envelope.predicate::<Entry>() else { return EntryClaims::default() };
    let is_snapshot = matches!(entry.body, EntryBody::Snapshot(_));
    EntryClaims { previous: Some(entry.place.previous), is_snapshot }
}
