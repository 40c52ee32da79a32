//! Compares every byte of every object with its digest. Several threads work at the same time. Each reads and hashes
//! one object at a time, and a budget limits the bytes in memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::Scope;

use crate::base::finding::{Affected, Finding, FindingKind, Findings, Severity};
use crate::base::id::{Digest, SourceId};
use crate::base::limit::{MANIFEST_BYTES_MAX, STATEMENT_BYTES_MAX};
use crate::base::pipeline::{lock, spawn};
use crate::base::progress::CountUnit;
use crate::format::announcement::Announcement;
use crate::format::dsse::Envelope;
use crate::format::manifest::SealedManifest;
use crate::format::name::Name;
use crate::format::wire::WireError;
use crate::ops::error::OpError;
use crate::ops::verify::listing::{Listing, SourceObjects, snapshots_by_entry};
use crate::ops::verify::report::{VerifyOptions, VerifyReport};

use crate::repo::ledger::{InventoryPack, Ledger, SnapshotRecord};
use crate::repo::objects::{ObjectRead, Objects};
use crate::repo::open::Repository;
use crate::store::StoreError;

/// Number of objects that are read and hashed at the same time.
const READERS: usize = 6;
/// Maximum bytes of objects that are in memory at the same time.
const BYTES_AT_ONCE: u64 = 72 << 20;
/// Largest object that is read with one request, in bytes. Larger objects are read in parts, except manifests, which
/// are parsed.
const WHOLE_BYTES_MAX: u64 = 32 << 20;
/// The same for stores whose requests cost nothing.
const WHOLE_BYTES_MAX_FREE: u64 = 2 << 20;

const ALTERED: &str = "its bytes do not match the digest in its name";

/// An object to compare with the digest in its name.
struct DigestJob {
    source: SourceId,
    name: Name,
    size: u64,
    /// The ledger entry that added it to the inventory. `None` for an object that only saves work.
    entry: Option<u64>,
}

/// The result of reading an object.
struct DigestResult {
    digest: Digest,
    /// Why no reader accepts it, if it is a manifest.
    fault: Option<String>,
}

impl DigestResult {
    fn new(digest: Digest) -> Self {
        Self { digest, fault: None }
    }

    /// The result for a manifest.
    fn of_manifest(bytes: &[u8]) -> Self {
        let result = Self::new(Digest::of(bytes));
        match SealedManifest::read(bytes) {
            // A later version may be able to read it.
            Ok(_) | Err(WireError::Unsupported { .. }) => result,
            Err(fault) => Self { fault: Some(format!("it {fault}")), ..result },
        }
    }

    /// The result for a manifest that is longer than readers accept.
    fn of_long_manifest(digest: Digest) -> Self {
        Self { fault: Some("it is longer than a manifest may be".to_owned()), ..Self::new(digest) }
    }
}

/// A check of every byte of the sources of `ledgers`.
pub struct ReadCheck<'a> {
    repository: &'a Repository,
    listing: &'a Listing,
    ledgers: &'a [Ledger],
    options: &'a VerifyOptions,
    /// The snapshots of each source by ledger entry.
    snapshots: HashMap<SourceId, HashMap<u64, Digest>>,
}

impl<'a> ReadCheck<'a> {
    /// A check that has not read anything.
    pub fn new(
        repository: &'a Repository,
        listing: &'a Listing,
        ledgers: &'a [Ledger],
        options: &'a VerifyOptions,
    ) -> Self {
        let snapshots = ledgers.iter().map(|ledger| (ledger.source, snapshots_by_entry(ledger))).collect();
        Self { repository, listing, ledgers, options, snapshots }
    }

    /// Reads and checks everything.
    /// Fails if the store fails or the check is cancelled.
    pub fn run(&self, report: &mut VerifyReport, findings: &mut Findings) -> Result<(), OpError> {
        self.read(report, findings)?;
        for ledger in self.ledgers {
            let listed = self.listing.of(ledger.source);
            check_sessions(self.repository, ledger, listed, findings)?;
        }
        Ok(())
    }

    /// Compares every object with its digest.
    fn read(&self, report: &mut VerifyReport, findings: &mut Findings) -> Result<(), OpError> {
        let jobs = self.jobs();
        let total = jobs.iter().fold(0, |sum: u64, job| sum.saturating_add(job.size));
        self.options.progress.phase("reading", CountUnit::StoredBytes, Some(total));
        read_all(self.repository.objects(), &jobs, self.options, |at, result| {
            let job = &jobs[at];
            if self.judge(job, result, findings)?.is_some() {
                report.objects_read += 1;
                report.bytes_read += job.size;
            }
            Ok(())
        })
    }

    /// Reports an object that does not match its name. Returns the result if the whole object could be read.
    fn judge(
        &self,
        job: &DigestJob,
        result: Result<DigestResult, StoreError>,
        findings: &mut Findings,
    ) -> Result<Option<DigestResult>, OpError> {
        match result {
            Ok(result) => {
                if let Some(fault) = job.fault(&result) {
                    self.report(job, fault, findings);
                }
                Ok(Some(result))
            }
            // It was deleted after it was listed. Either a prune did that, or the inventory check has reported it.
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(StoreError::Short { .. }) => {
                self.report(job, ALTERED, findings);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn jobs(&self) -> Vec<DigestJob> {
        let mut jobs = Vec::new();
        for ledger in self.ledgers {
            let listed = self.listing.of(ledger.source);
            push_packs(ledger, listed, &mut jobs);
            push_manifests(ledger, listed, &mut jobs);
            push_fragments_and_bundles(ledger, listed, &mut jobs);
        }
        jobs
    }

    fn report(&self, job: &DigestJob, detail: &str, findings: &mut Findings) {
        let mut finding = Finding::new(job.altered_kind(), job.name, detail);
        if let Some(number) = job.entry {
            finding = finding.affecting(Affected::snapshot(self.snapshot_of(job.source, number)));
        }
        findings.add(finding.of_source(job.source).with_severity(job.altered_severity()));
    }

    /// The snapshot that a ledger entry commits.
    fn snapshot_of(&self, source: SourceId, number: u64) -> Option<Digest> {
        self.snapshots.get(&source)?.get(&number).copied()
    }
}

/// Adds index fragments and bundles, which only save work.
fn push_fragments_and_bundles(ledger: &Ledger, listed: &SourceObjects, jobs: &mut Vec<DigestJob>) {
    for (digest, size) in &listed.index {
        push_job(ledger, Name::Index(ledger.source, *digest), *size, jobs);
    }
    for (digest, size) in &listed.bundles {
        push_job(ledger, Name::Bundle(ledger.source, *digest), *size, jobs);
    }
}

/// Adds an object that only saves work.
fn push_job(ledger: &Ledger, name: Name, size: u64, jobs: &mut Vec<DigestJob>) {
    jobs.push(DigestJob { source: ledger.source, name, size, entry: None });
}

/// Adds the packs of the inventory, newest first, because new data was verified least often. Then adds the other packs.
fn push_packs(ledger: &Ledger, listed: &SourceObjects, jobs: &mut Vec<DigestJob>) {
    let mut needed = needed_packs(ledger, listed);
    needed.reverse();
    jobs.extend(needed);
    let inventory: HashSet<Digest> = ledger.inventory().map(|pack| pack.digest).collect();
    for (digest, size) in &listed.packs {
        if !inventory.contains(digest) {
            push_job(ledger, Name::Pack(ledger.source, *digest), *size, jobs);
        }
    }
}

/// The packs of the inventory that are stored with the right size. The other packs have been reported already, and
/// their content need not be read.
fn needed_packs(ledger: &Ledger, listed: &SourceObjects) -> Vec<DigestJob> {
    let is_there = |pack: &&InventoryPack| listed.packs.get(&pack.digest) == Some(&pack.size);
    ledger.inventory().filter(is_there).map(|pack| pack_job(ledger.source, pack)).collect()
}

fn pack_job(source: SourceId, pack: &InventoryPack) -> DigestJob {
    DigestJob { source, name: Name::Pack(source, pack.digest), size: pack.size, entry: Some(pack.entry) }
}

fn push_manifests(ledger: &Ledger, listed: &SourceObjects, jobs: &mut Vec<DigestJob>) {
    let live = live_by_manifest(ledger);
    for (digest, size) in &listed.manifests {
        let record = live.get(digest);
        if record.is_none_or(|record| record.snapshot.manifest.size == *size) {
            let name = Name::Manifest(ledger.source, *digest);
            let entry = record.map(|record| record.number);
            jobs.push(DigestJob { source: ledger.source, name, size: *size, entry });
        }
    }
}

fn live_by_manifest(ledger: &Ledger) -> BTreeMap<Digest, &SnapshotRecord> {
    ledger.live().map(|record| (record.snapshot.manifest.sha256, record)).collect()
}

/// Checks that announcements are signed by enrolled keys and stored under their own names. No data depends on them.
fn check_sessions(
    repository: &Repository,
    ledger: &Ledger,
    listed: &SourceObjects,
    findings: &mut Findings,
) -> Result<(), OpError> {
    let reads: Vec<ObjectRead> = listed.sessions.iter().map(|name| announcement_read(*name)).collect();
    repository.objects().get_many(&reads, |at, bytes| {
        let name = reads[at].name;
        let fault = match bytes {
            Ok(bytes) => announcement_fault(repository, name, &bytes),
            Err(error) => unread_fault(error)?,
        };
        if let Some(fault) = fault {
            findings.add(announcement_finding(ledger.source, name, &fault));
        }
        Ok(())
    })
}

/// What is wrong with an announcement that could not be read whole. `None` if it was deleted after it was listed.
/// Fails if the store failed.
fn unread_fault(error: StoreError) -> Result<Option<String>, OpError> {
    match error {
        StoreError::NotFound { .. } => Ok(None),
        StoreError::TooLarge { .. } => Ok(Some("it is too long".to_owned())),
        StoreError::Short { .. } => Ok(Some("it is shorter than the store says".to_owned())),
        error => Err(error.into()),
    }
}

fn announcement_read(name: Name) -> ObjectRead {
    ObjectRead { name, range: None, bytes_max: STATEMENT_BYTES_MAX as u64 }
}

fn announcement_finding(source: SourceId, name: Name, fault: &str) -> Finding {
    let detail = format!("{fault}; data that an interrupted run stored may be stored again");
    Finding::new(FindingKind::WrongContent, name, detail).of_source(source).with_severity(Severity::Warning)
}

fn announcement_fault(repository: &Repository, name: Name, bytes: &[u8]) -> Option<String> {
    match Envelope::decode(bytes) {
        Ok(envelope) => envelope_fault(repository, name, &envelope),
        Err(error) => Some(format!("it {error}")),
    }
}

fn envelope_fault(repository: &Repository, name: Name, envelope: &Envelope) -> Option<String> {
    match envelope.predicate() {
        Ok(announcement) if is_in_place(repository, name, &announcement) => signature_fault(repository, envelope),
        Ok(_) => Some("it belongs to another repository, source or session".to_owned()),
        Err(error) => Some(format!("it {error}")),
    }
}

fn is_in_place(repository: &Repository, name: Name, announcement: &Announcement) -> bool {
    let place = Name::Session(announcement.source, announcement.session, announcement.number);
    place == name && announcement.repository == repository.id()
}

fn signature_fault(repository: &Repository, envelope: &Envelope) -> Option<String> {
    let Some(state) = repository.roster().keys.get(&envelope.key()) else {
        return Some("its signer was never enrolled".to_owned());
    };
    let is_signed = state.signing.verify(&envelope.pae(), envelope.signature()).is_ok();
    (!is_signed).then(|| "its signature is not valid".to_owned())
}

/// Limits the bytes in memory.
struct Budget {
    free: Mutex<u64>,
    freed: Condvar,
}

impl Budget {
    fn new(bytes: u64) -> Self {
        Self { free: Mutex::new(bytes), freed: Condvar::new() }
    }

    fn take(&self, bytes: u64) {
        let free = lock(&self.free);
        let mut free = self.freed.wait_while(free, |free| *free < bytes).unwrap_or_else(PoisonError::into_inner);
        *free -= bytes;
    }

    fn give(&self, bytes: u64) {
        *lock(&self.free) += bytes;
        self.freed.notify_all();
    }
}

/// Reads and hashes all objects in several threads. Calls `each` with the position of each job and its result.
fn read_all(
    objects: &Objects,
    jobs: &[DigestJob],
    options: &VerifyOptions,
    mut each: impl FnMut(usize, Result<DigestResult, StoreError>) -> Result<(), OpError>,
) -> Result<(), OpError> {
    let queue = JobQueue { objects, jobs, options, next: AtomicUsize::new(0), budget: Budget::new(BYTES_AT_ONCE) };
    std::thread::scope(|scope| {
        for (at, result) in queue.start(scope) {
            each(at, result)?;
        }
        if options.cancel.is_cancelled() { Err(OpError::Cancelled) } else { Ok(()) }
    })
}

/// The position of a job and its result.
type PlacedResult = (usize, Result<DigestResult, StoreError>);

/// A queue of jobs that several threads share.
struct JobQueue<'a> {
    objects: &'a Objects,
    jobs: &'a [DigestJob],
    options: &'a VerifyOptions,
    next: AtomicUsize,
    budget: Budget,
}

impl JobQueue<'_> {
    /// Starts the threads. Returns the positions of jobs and their results.
    fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Receiver<PlacedResult> {
        let (sender, results) = sync_channel(READERS);
        for _ in 0..READERS {
            let sender = sender.clone();
            spawn(scope, "verify", move || self.work(&sender));
        }
        results
    }

    /// Runs jobs until none is left, the receiver was dropped, or the check is cancelled.
    fn work(&self, results: &SyncSender<PlacedResult>) {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = self.jobs.get(at) else { return };
            if self.options.cancel.is_cancelled() || results.send((at, self.digest(job))).is_err() {
                return;
            }
        }
    }

    /// Reads an object within the budget.
    fn digest(&self, job: &DigestJob) -> Result<DigestResult, StoreError> {
        let bytes = job.bytes_in_memory().min(BYTES_AT_ONCE);
        self.budget.take(bytes);
        let result = job.digest(self.objects);
        self.budget.give(bytes);
        self.options.progress.add(CountUnit::StoredBytes, job.size);
        result
    }
}

impl DigestJob {
    /// What is wrong with the object that was read.
    fn fault<'r>(&self, result: &'r DigestResult) -> Option<&'r str> {
        if self.name.digest() != Some(result.digest) {
            return Some(ALTERED);
        }
        result.fault.as_deref()
    }

    fn altered_kind(&self) -> FindingKind {
        match (self.entry, self.name) {
            (None, Name::Index(..)) => FindingKind::StaleIndex,
            _ => FindingKind::WrongContent,
        }
    }

    fn altered_severity(&self) -> Severity {
        if self.entry.is_some() { Severity::Damage } else { Severity::Warning }
    }

    fn digest(&self, objects: &Objects) -> Result<DigestResult, StoreError> {
        if self.is_read_in_parts(objects) {
            return self.digest_in_parts(objects);
        }
        let bytes = objects.get(&self.name, self.size as usize).map_err(grown)?;
        let is_manifest = self.is_parsed();
        Ok(if is_manifest { DigestResult::of_manifest(&bytes) } else { DigestResult::new(Digest::of(&bytes)) })
    }

    fn digest_in_parts(&self, objects: &Objects) -> Result<DigestResult, StoreError> {
        let digest = objects.digest(&self.name, self.size)?;
        let is_long = matches!(self.name, Name::Manifest(..));
        Ok(if is_long { DigestResult::of_long_manifest(digest) } else { DigestResult::new(digest) })
    }

    /// Whether it is a manifest that readers accept by its size.
    fn is_parsed(&self) -> bool {
        matches!(self.name, Name::Manifest(..)) && self.size <= MANIFEST_BYTES_MAX as u64
    }

    fn is_read_in_parts(&self, objects: &Objects) -> bool {
        let whole_max = if objects.store().has_free_requests() { WHOLE_BYTES_MAX_FREE } else { WHOLE_BYTES_MAX };
        self.size > whole_max && !self.is_parsed()
    }

    /// The most bytes of it that are in memory at the same time.
    fn bytes_in_memory(&self) -> u64 {
        if self.is_parsed() { self.size } else { self.size.min(WHOLE_BYTES_MAX) }
    }
}

/// Converts the error: an object that is too large has grown since it was listed.
fn grown(error: StoreError) -> StoreError {
    match error {
        StoreError::TooLarge { name, size_bytes, limit_bytes } => {
            StoreError::Short { name, wanted_bytes: limit_bytes, got_bytes: size_bytes }
        }
        error => error,
    }
}
