//! The verb: chains, then one listing, then as deep as was asked for. Whatever is found is data; the
//! only errors are a store that does not answer, a key that may not, and a wish to stop.

use crate::base::id::SourceId;
use crate::base::progress::CountUnit;
use crate::base::role::Role;
use crate::ops::error::OpError;
use crate::ops::verify::chains::{check_ledger, check_roster, check_visit, heads};
use crate::ops::verify::deep::Deep;
use crate::ops::verify::listing::{Listing, SourceObjects, check_grants, check_inventory};
use crate::ops::verify::read::{check_bytes, missing_page};
use crate::ops::verify::report::{Access, SnapshotChecked, SourceChecked, VerifyLevel, VerifyOptions, VerifyReport};
use crate::ops::verify::tables::{self, KeyedSource, check_fragments, epoch_keys};
use crate::ops::verify::walk::{Walker, empty};
use crate::repo::check::{Findings, Victim};
use crate::repo::error::RepoError;
use crate::repo::fragment::Signers;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::open::{Repository, Unlocked};
use crate::repo::reader::SnapshotReader;

/// Checks a repository.
pub fn run(access: Access<'_>, options: &VerifyOptions) -> Result<VerifyReport, OpError> {
    let unlocked = entitled(access, options.level)?;
    let repository = access.repository();
    let before = repository.objects().store().counters();
    let mut findings = Findings::default();
    let mut report = VerifyReport::empty(options.level);
    report.repository = Some(repository.id());
    report.started = Some(repository.env().now());
    options.progress.phase("looking at the chains", CountUnit::Objects, None);
    check_roster(repository, &mut findings)?;
    let sources = chosen(repository, options.source)?;
    let mut ledgers = Vec::new();
    for source in sources {
        let name = unlocked.and_then(|unlocked| unlocked.source_name(source));
        let mut checked = SourceChecked::new(source, name);
        if let Some(ledger) = check_ledger(repository, source, &mut findings)? {
            checked.entries = ledger.digests.len() as u64;
            ledgers.push(ledger);
        }
        report.sources.push(checked);
    }
    check_visit(repository, &ledgers, &options.visit, &mut findings);
    report.heads = Some(heads(repository, &ledgers));
    options.progress.phase("listing", CountUnit::Objects, None);
    let listing = Listing::load(repository.objects(), &mut findings, &options.cancel)?;
    (report.objects, report.object_bytes) = (listing.objects, listing.bytes);
    if options.source.is_none() {
        listing.unknown_sources(repository, &mut findings);
    }
    check_grants(repository, &listing, &mut findings)?;
    let none = SourceObjects::default();
    for ledger in &ledgers {
        let listed = listing.sources.get(&ledger.source).unwrap_or(&none);
        check_inventory(repository, ledger, listed, &mut findings)?;
        let checked = report.sources.iter_mut().find(|checked| checked.source == ledger.source);
        let checked = checked.expect("every ledger is of a source of the report");
        checked.packs = ledger.inventory().count() as u64;
        checked.pack_bytes = ledger.inventory().map(|pack| pack.size).sum();
        checked.manifests = ledger.manifests().count() as u64;
        if let Some(unlocked) = unlocked {
            let inside = Inside { unlocked, ledger, listed, options };
            inside.check(checked, &mut findings)?;
        }
    }
    if options.level == VerifyLevel::Read {
        check_bytes(repository, &listing, &ledgers, options, (&mut report, &mut findings))?;
    }
    report.findings = findings.finish();
    let counters = repository.objects().store().counters().since(&before);
    (report.requests, report.bytes_received) = (counters.requests(), counters.bytes_received);
    Ok(report)
}

/// The report of a repository that is so damaged that it cannot even be opened; `None` if that is
/// not why it could not be.
#[must_use]
pub fn unopened(error: RepoError, level: VerifyLevel) -> Option<VerifyReport> {
    let damaged = matches!(
        error,
        RepoError::Missing { .. }
            | RepoError::Damaged { .. }
            | RepoError::Foreign { .. }
            | RepoError::Unsupported { .. }
    );
    let mut findings = Findings::default();
    (damaged && findings.add_error(None, error).is_ok()).then(|| {
        let mut report = VerifyReport::empty(level);
        report.findings = findings.finish();
        report
    })
}

/// The keys to check with, if the level needs any.
fn entitled(access: Access<'_>, level: VerifyLevel) -> Result<Option<&Unlocked>, OpError> {
    let needed = match level {
        VerifyLevel::Quick | VerifyLevel::Read => return Ok(None),
        VerifyLevel::Structure => "any role",
        VerifyLevel::Deep => "an admin",
    };
    let Access::Key(unlocked) = access else {
        return Err(RepoError::NoKey { doing: "this level of checking", needed }.into());
    };
    let may = level == VerifyLevel::Structure || matches!(unlocked.role(), Role::Admin | Role::Recovery);
    if may { Ok(Some(unlocked)) } else { Err(unlocked.wrong_role("a deep check", needed).into()) }
}

fn chosen(repository: &Repository, source: Option<SourceId>) -> Result<Vec<SourceId>, OpError> {
    let all = repository.roster().sources.keys().copied();
    match source {
        None => Ok(all.collect()),
        Some(source) if repository.roster().sources.contains_key(&source) => Ok(vec![source]),
        Some(source) => Err(RepoError::NoSource { name: source.to_string() }.into()),
    }
}

/// A source, with keys.
struct Inside<'a> {
    unlocked: &'a Unlocked,
    ledger: &'a Ledger,
    listed: &'a SourceObjects,
    options: &'a VerifyOptions,
}

impl Inside<'_> {
    fn check(&self, checked: &mut SourceChecked, findings: &mut Findings) -> Result<(), OpError> {
        let keys = epoch_keys(self.unlocked, self.ledger.source);
        let signers = Signers::of(self.ledger);
        let of = KeyedSource { unlocked: self.unlocked, ledger: self.ledger, listed: self.listed, keys, signers };
        let places = tables::load(&of, self.options, findings)?;
        checked.frames = places.len() as u64;
        check_fragments(&of, &places, checked, findings)?;
        let records = self.records()?;
        self.options.progress.phase("checking structure", CountUnit::Objects, None);
        let mut walker = Walker::new(&places, findings, self.options.progress.clone(), self.options.cancel.clone());
        for record in &records {
            let snapshot = match self.open(record, walker.findings)? {
                Some(reader) => {
                    self.pages(&reader, record, walker.findings);
                    let gaps = reader.manifest().summary.gaps.clone();
                    SnapshotChecked { gaps, ..walker.snapshot(&reader, record)? }
                }
                None => empty(record),
            };
            checked.snapshots.push(snapshot);
        }
        if self.options.level == VerifyLevel::Deep {
            self.options.progress.phase("checking rows", CountUnit::ContentBytes, None);
            let mut deep = Deep::new(&places, findings, self.options.progress.clone(), self.options.cancel.clone());
            for (record, snapshot) in records.iter().zip(&mut checked.snapshots) {
                self.deep(&mut deep, record, snapshot)?;
            }
        }
        for snapshot in &mut checked.snapshots {
            snapshot.intact = !findings.hurt(&snapshot.snapshot);
        }
        Ok(())
    }

    fn deep(
        &self,
        deep: &mut Deep<'_>,
        record: &SnapshotRecord,
        snapshot: &mut SnapshotChecked,
    ) -> Result<(), OpError> {
        // What keeps it from being opened has been reported with its structure.
        let mut ignored = Findings::default();
        let Some(reader) = self.open(record, &mut ignored)? else { return Ok(()) };
        let Some(ids) = reader.ids() else { return Ok(()) };
        deep.snapshot((&reader, ids), record, snapshot)
    }

    /// The snapshots to look into, newest first: what is new was verified least.
    fn records(&self) -> Result<Vec<SnapshotRecord>, OpError> {
        if self.options.snapshots.is_empty() {
            return Ok(self.ledger.live().rev().cloned().collect());
        }
        let mut records: Vec<SnapshotRecord> = Vec::new();
        for selector in &self.options.snapshots {
            let record = selector.find(self.ledger)?;
            if records.iter().all(|known| known.id != record.id) {
                records.push(record.clone());
            }
        }
        Ok(records)
    }

    fn open(&self, record: &SnapshotRecord, findings: &mut Findings) -> Result<Option<SnapshotReader<'_>>, OpError> {
        match SnapshotReader::open(self.unlocked, self.ledger, record) {
            Ok(reader) => Ok(Some(reader)),
            Err(error) => {
                let at = findings.add_error(Some(self.ledger.source), error)?;
                findings.hurts(at, Victim { snapshot: Some(record.id), table: None });
                Ok(None)
            }
        }
    }

    /// Pages of wraps that the manifest names. Without one, readers look into the packs' headers.
    fn pages(&self, reader: &SnapshotReader<'_>, record: &SnapshotRecord, findings: &mut Findings) {
        let source = self.ledger.source;
        for page in reader.manifest().pages.iter().filter(|page| !self.listed.wraps.contains_key(page)) {
            missing_page(source, *page, Some(record.id), findings);
        }
    }
}
