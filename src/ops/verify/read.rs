//! Every byte of every object against its digest. Several objects are read and hashed at once, each
//! by one thread from request to digest, within a bound on the bytes that are in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::base::id::{Digest, SourceId};
use crate::base::limit::STATEMENT_BYTES_MAX;
use crate::base::pipeline::spawn;
use crate::base::progress::CountUnit;
use crate::format::dsse::Envelope;
use crate::format::manifest::SealedManifest;
use crate::format::name::Name;
use crate::format::session::Announcement;
use crate::ops::error::OpError;
use crate::ops::verify::listing::{Listing, SourceObjects};
use crate::ops::verify::report::{VerifyOptions, VerifyReport};
use crate::repo::check::{Fault, Findings, Severity, Victim};
use crate::repo::error::RepoError;
use crate::repo::io::{Objects, Read};
use crate::repo::ledger::Ledger;
use crate::repo::open::Repository;
use crate::store::StoreError;

/// Objects read and hashed at once.
const READERS: usize = 6;
/// Bytes of objects in memory at once. One larger object alone is read in parts.
const BYTES_AT_ONCE: u64 = 72 << 20;
/// Largest object that is read by one request.
const WHOLE_BYTES_MAX: u64 = 32 << 20;
/// The same where requests cost nothing.
const WHOLE_BYTES_MAX_FREE: u64 = 2 << 20;

/// An object to be compared with the digest in its name.
struct DigestJob {
    source: SourceId,
    name: Name,
    size: u64,
    /// Whether the inventory has it.
    needed: Needed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    /// Added by this ledger entry.
    By(u64),
    Economy,
}

/// What a reader found.
struct DigestResult {
    digest: Digest,
    /// Pages of wraps that it names, if it is a manifest.
    pages: Vec<Digest>,
}

/// Reads everything that lies below the sources of `ledgers`.
pub fn check_bytes(
    repository: &Repository,
    listing: &Listing,
    ledgers: &[Ledger],
    options: &VerifyOptions,
    (report, findings): (&mut VerifyReport, &mut Findings),
) -> Result<(), OpError> {
    let none = SourceObjects::default();
    let of = |ledger: &Ledger| listing.sources.get(&ledger.source).unwrap_or(&none);
    let jobs: Vec<DigestJob> = ledgers.iter().flat_map(|ledger| jobs(ledger, of(ledger))).collect();
    let total = jobs.iter().map(|job| job.size).sum();
    options.progress.phase("reading", CountUnit::StoredBytes, Some(total));
    let mut pages: BTreeMap<SourceId, BTreeMap<Digest, Option<u64>>> = BTreeMap::new();
    read_all(repository.objects(), &jobs, options, |at, seen| {
        let job = &jobs[at];
        match seen {
            Ok(seen) => {
                report.objects_read += 1;
                report.bytes_read += job.size;
                let entry = if let Needed::By(entry) = job.needed { Some(entry) } else { None };
                let known = pages.entry(job.source).or_default();
                seen.pages.into_iter().for_each(|page| *known.entry(page).or_default() = entry);
                if job.name.digest() != Some(seen.digest) {
                    altered(job, ledgers, findings);
                }
                Ok(())
            }
            // Deleted since it was listed: by a prune, or the inventory has been compared already.
            Err(StoreError::NotFound { .. }) => Ok(()),
            Err(StoreError::Short { .. }) => {
                altered(job, ledgers, findings);
                Ok(())
            }
            Err(error) => Err(OpError::from(RepoError::Store(error))),
        }
    })?;
    for ledger in ledgers {
        let named = pages.remove(&ledger.source).unwrap_or_default();
        check_pages(ledger, of(ledger), &named, findings);
        check_sessions(repository, ledger, of(ledger), findings)?;
    }
    Ok(())
}

fn jobs(ledger: &Ledger, listed: &SourceObjects) -> Vec<DigestJob> {
    let source = ledger.source;
    let job = |name, size, needed| DigestJob { source, name, size, needed };
    let mut expected = BTreeMap::new();
    // Newest first: what is new was verified least.
    let mut jobs: Vec<DigestJob> = Vec::new();
    for pack in ledger.inventory() {
        expected.insert(pack.digest, ());
        // Another size has been reported, and another content goes without saying.
        if listed.packs.get(&pack.digest) == Some(&pack.size) {
            jobs.push(job(Name::Pack(source, pack.digest), pack.size, Needed::By(pack.entry)));
        }
    }
    jobs.reverse();
    let orphans = listed.packs.iter().filter(|(digest, _)| !expected.contains_key(digest));
    jobs.extend(orphans.map(|(digest, size)| job(Name::Pack(source, *digest), *size, Needed::Economy)));
    let live: BTreeMap<Digest, (u64, u64)> = ledger
        .live()
        .map(|record| (record.snapshot.manifest.sha256, (record.snapshot.manifest.size, record.number)))
        .collect();
    for (digest, size) in &listed.manifests {
        let needed = match live.get(digest) {
            Some((wanted, _)) if wanted != size => continue,
            Some((_, number)) => Needed::By(*number),
            None => Needed::Economy,
        };
        jobs.push(job(Name::Manifest(source, *digest), *size, needed));
    }
    jobs.extend(listed.wraps.iter().map(|(d, size)| job(Name::Wraps(source, *d), *size, Needed::Economy)));
    jobs.extend(listed.index.iter().map(|(d, size)| job(Name::Index(source, *d), *size, Needed::Economy)));
    jobs
}

fn altered(job: &DigestJob, ledgers: &[Ledger], findings: &mut Findings) {
    let what = "its bytes are not those that its name says".to_owned();
    let (fault, severity) = match (job.needed, job.name) {
        (Needed::By(_), _) => (Fault::WrongContent, Severity::Damage),
        (Needed::Economy, Name::Index(..)) => (Fault::StaleIndex, Severity::Warning),
        (Needed::Economy, _) => (Fault::WrongContent, Severity::Warning),
    };
    let at = findings.add_as(severity, (fault, Some(job.source), job.name.to_string()), what);
    if let Needed::By(number) = job.needed {
        let ledger = ledgers.iter().find(|ledger| ledger.source == job.source);
        let record = ledger.and_then(|ledger| ledger.live().find(|record| record.number == number));
        findings.hurts(at, Victim { snapshot: record.map(|record| record.id), table: None });
    }
}

/// Pages of wraps that manifests name are there. Without one, readers look into the packs' headers.
fn check_pages(
    ledger: &Ledger,
    listed: &SourceObjects,
    named: &BTreeMap<Digest, Option<u64>>,
    findings: &mut Findings,
) {
    let source = Some(ledger.source);
    for (page, entry) in named.iter().filter(|(page, _)| !listed.wraps.contains_key(page)) {
        let record = ledger.live().find(|record| Some(record.number) == *entry);
        missing_page(ledger.source, *page, record.map(|record| record.id), findings);
    }
    for page in listed.wraps.keys().filter(|page| !named.contains_key(page)) {
        findings.add(Fault::Orphan, source, Name::Wraps(ledger.source, *page), "no manifest names it");
    }
}

/// Reports a page of wraps that a manifest names and that is not there.
pub fn missing_page(source: SourceId, page: Digest, snapshot: Option<Digest>, findings: &mut Findings) {
    let name = Name::Wraps(source, page).to_string();
    let what = "a manifest names it and it is not there; readers find the keys in the packs".to_owned();
    let at = findings.add_as(Severity::Warning, (Fault::Missing, Some(source), name), what);
    findings.hurts(at, Victim { snapshot, table: None });
}

/// Announcements are signed by enrolled keys and stand in their places. Nothing rests on them.
fn check_sessions(
    repository: &Repository,
    ledger: &Ledger,
    listed: &SourceObjects,
    findings: &mut Findings,
) -> Result<(), OpError> {
    let read = |(name, _): &(Name, u64)| Read { name: *name, range: None, bytes_max: STATEMENT_BYTES_MAX as u64 };
    let reads: Vec<Read> = listed.sessions.iter().map(read).collect();
    repository.objects().get_many(&reads, |at, bytes| {
        let name = reads[at].name;
        let fault = match bytes {
            Ok(bytes) => announcement_fault(repository, name, &bytes),
            Err(StoreError::NotFound { .. }) => None,
            Err(StoreError::TooLarge { .. } | StoreError::Short { .. }) => Some("it is too long".to_owned()),
            Err(error) => return Err(OpError::from(RepoError::Store(error))),
        };
        if let Some(what) = fault {
            let what = format!("{what}; what an interrupted run stored may be stored again");
            findings.add_as(Severity::Warning, (Fault::WrongContent, Some(ledger.source), name.to_string()), what);
        }
        Ok(())
    })
}

fn announcement_fault(repository: &Repository, name: Name, bytes: &[u8]) -> Option<String> {
    let decoded = Envelope::decode(bytes).and_then(|envelope| Ok((envelope.predicate::<Announcement>()?, envelope)));
    let (told, envelope) = match decoded {
        Ok(decoded) => decoded,
        Err(error) => return Some(format!("it {error}")),
    };
    if Name::Session(told.source, told.session, told.number) != name || told.repository != repository.id() {
        return Some("it belongs elsewhere".to_owned());
    }
    let Some(state) = repository.roster().keys.get(&envelope.key()) else {
        return Some("its signer was never enrolled".to_owned());
    };
    let holds = state.signing.verify(&envelope.pae(), envelope.signature()).is_ok();
    (!holds).then(|| "its signature does not hold".to_owned())
}

/// Bytes that may be in memory.
struct Budget {
    free: Mutex<u64>,
    freed: Condvar,
}

impl Budget {
    fn take(&self, bytes: u64) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free < bytes).unwrap_or_else(PoisonError::into_inner);
        *free -= bytes;
    }

    fn give(&self, bytes: u64) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        self.freed.notify_all();
    }
}

fn read_all(
    objects: &Objects,
    jobs: &[DigestJob],
    options: &VerifyOptions,
    mut each: impl FnMut(usize, Result<DigestResult, StoreError>) -> Result<(), OpError>,
) -> Result<(), OpError> {
    let next = AtomicUsize::new(0);
    let budget = Budget { free: Mutex::new(BYTES_AT_ONCE), freed: Condvar::new() };
    std::thread::scope(|scope| {
        let (seen, results) = sync_channel(READERS);
        for _ in 0..READERS {
            let (seen, next, budget) = (seen.clone(), &next, &budget);
            spawn(scope, "verify", move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(at).filter(|_| !options.cancel.is_cancelled()) else { return };
                    let bytes = job.size.min(WHOLE_BYTES_MAX);
                    budget.take(bytes);
                    let result = look(objects, job);
                    budget.give(bytes);
                    options.progress.add(CountUnit::StoredBytes, job.size);
                    if seen.send((at, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(seen);
        for (at, result) in results {
            each(at, result)?;
        }
        if options.cancel.is_cancelled() { Err(OpError::Cancelled) } else { Ok(()) }
    })
}

fn look(objects: &Objects, job: &DigestJob) -> Result<DigestResult, StoreError> {
    let whole = if objects.store().has_free_requests() { WHOLE_BYTES_MAX_FREE } else { WHOLE_BYTES_MAX };
    if job.size > whole && !matches!(job.name, Name::Manifest(..)) || job.size > WHOLE_BYTES_MAX {
        let digest = objects.digest(&job.name, job.size)?;
        return Ok(DigestResult { digest, pages: Vec::new() });
    }
    let bytes = match objects.get(&job.name, job.size as usize) {
        // It has grown since it was listed.
        Err(StoreError::TooLarge { name, size_bytes, limit_bytes }) => {
            return Err(StoreError::Short { name, wanted_bytes: limit_bytes, got_bytes: size_bytes });
        }
        answer => answer?,
    };
    let pages = match job.name {
        Name::Manifest(..) => SealedManifest::read(&bytes).map(|manifest| manifest.pages).unwrap_or_default(),
        _ => Vec::new(),
    };
    let pages: BTreeSet<Digest> = pages.into_iter().collect();
    Ok(DigestResult { digest: Digest::of(&bytes), pages: pages.into_iter().collect() })
}
