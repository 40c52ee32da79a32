//! Checks a repository: first the chains, then one listing, then as much as the level requires. Everything that is
//! found is reported. The only errors are a store that does not answer, a key with the wrong role, and a cancellation.

use crate::base::finding::Findings;
use crate::base::id::SourceId;
use crate::base::progress::CountUnit;
use crate::base::role::Role;
use crate::ops::access::RepositoryAccess;
use crate::ops::error::OpError;
use crate::ops::verify::chains::{check_known_heads, check_ledger, check_roster, heads};
use crate::ops::verify::keyed_source::KeyedSource;
use crate::ops::verify::listing::{Listing, check_grants, check_inventory};
use crate::ops::verify::read::ReadCheck;
use crate::ops::verify::report::{SourceChecked, VerifyLevel, VerifyOptions, VerifyReport};
use crate::ops::verify::source::check_source;
use crate::repo::error::RepoError;
use crate::repo::finding::finding_of;
use crate::repo::ledger::Ledger;
use crate::repo::open::{Repository, Unlocked};

/// Checks a repository.
/// Fails if the level needs a key that was not given, the source is unknown or a chosen snapshot does not exist, the
/// store fails, or the check is cancelled. Damage that is found is in the report.
pub fn run(access: RepositoryAccess<'_>, options: &VerifyOptions) -> Result<VerifyReport, OpError> {
    let unlocked = keys_for(access, options.level)?;
    let repository = access.repository();
    let counters_before = repository.objects().store().counters();
    let mut run = VerifyRun::new(repository, unlocked, options);
    let ledgers = run.check_chains()?;
    let listing = run.list_store()?;
    for ledger in &ledgers {
        run.check_source(ledger, &listing)?;
    }
    if options.level == VerifyLevel::Read {
        let check = ReadCheck::new(repository, &listing, &ledgers, options);
        check.run(&mut run.report, &mut run.findings)?;
    }
    let mut report = run.finish();
    let counters = repository.objects().store().counters().since(&counters_before);
    report.requests = counters.requests();
    report.bytes_received = counters.bytes_received;
    Ok(report)
}

/// The report of a repository that is too damaged to be opened. `None` if it could not be opened for another reason.
#[must_use]
pub fn unopened(error: RepoError, level: VerifyLevel) -> Option<VerifyReport> {
    if !is_damage(&error) {
        return None;
    }
    let finding = finding_of(None, error).ok()?;
    let mut report = VerifyReport::empty(level);
    report.findings.push(finding);
    Some(report)
}

fn is_damage(error: &RepoError) -> bool {
    matches!(
        error,
        RepoError::Missing { .. }
            | RepoError::Damaged { .. }
            | RepoError::Foreign { .. }
            | RepoError::Unsupported { .. }
    )
}

/// The keys to check with, if the level needs any.
fn keys_for(access: RepositoryAccess<'_>, level: VerifyLevel) -> Result<Option<&Unlocked>, OpError> {
    let needed = match level {
        VerifyLevel::Quick | VerifyLevel::Read => return Ok(None),
        VerifyLevel::Structure => "any role",
        VerifyLevel::Deep => "an admin or the recovery key",
    };
    let RepositoryAccess::WithKey(unlocked) = access else {
        return Err(RepoError::NoKey { doing: "a check at this level", needed }.into());
    };
    let may_open_rows = matches!(unlocked.role(), Role::Admin | Role::Recovery);
    if level == VerifyLevel::Deep && !may_open_rows {
        return Err(unlocked.wrong_role("a deep check", needed).into());
    }
    Ok(Some(unlocked))
}

/// A check in progress.
struct VerifyRun<'a> {
    repository: &'a Repository,
    unlocked: Option<&'a Unlocked>,
    options: &'a VerifyOptions,
    findings: Findings,
    report: VerifyReport,
}

impl<'a> VerifyRun<'a> {
    fn new(repository: &'a Repository, unlocked: Option<&'a Unlocked>, options: &'a VerifyOptions) -> Self {
        let mut report = VerifyReport::empty(options.level);
        report.repository = Some(repository.id());
        report.started = Some(repository.env().now());
        Self { repository, unlocked, options, findings: Findings::default(), report }
    }

    /// Checks the roster and the ledgers. Returns the ledgers that can be folded.
    fn check_chains(&mut self) -> Result<Vec<Ledger>, OpError> {
        self.options.progress.phase("checking the chains", CountUnit::Objects, None);
        check_roster(self.repository, &mut self.findings)?;
        let mut ledgers = Vec::new();
        for source in chosen_sources(self.repository, self.options.source)? {
            ledgers.extend(self.check_chain(source)?);
        }
        if let Some(finding) = self.unlocked.and_then(Unlocked::revocation) {
            self.findings.add(finding);
        }
        let known = self.options.known_heads.as_ref();
        for finding in check_known_heads(self.repository, &ledgers, known) {
            self.findings.add(finding);
        }
        self.report.heads = Some(heads(self.repository, &ledgers));
        Ok(ledgers)
    }

    /// Checks the ledger of a source. Returns it if it can be folded.
    fn check_chain(&mut self, source: SourceId) -> Result<Option<Ledger>, OpError> {
        let name = self.unlocked.and_then(|unlocked| unlocked.source_name(source));
        let mut checked = SourceChecked::new(source, name);
        let ledger = check_ledger(self.repository, source, &mut self.findings)?;
        checked.entries = ledger.as_ref().map_or(0, |ledger| ledger.digests.len() as u64);
        self.report.sources.push(checked);
        Ok(ledger)
    }

    /// Lists the store, and checks the objects that belong to no source.
    fn list_store(&mut self) -> Result<Listing, OpError> {
        self.options.progress.phase("listing", CountUnit::Objects, None);
        let listing = Listing::load(self.repository.objects(), &mut self.findings, &self.options.cancel)?;
        self.report.objects = listing.objects;
        self.report.object_bytes = listing.bytes;
        if self.options.source.is_none() {
            listing.report_unknown_sources(self.repository, &mut self.findings);
        }
        check_grants(self.repository, &listing, &mut self.findings)?;
        Ok(listing)
    }

    fn check_source(&mut self, ledger: &Ledger, listing: &Listing) -> Result<(), OpError> {
        let listed = listing.of(ledger.source);
        check_inventory(self.repository, ledger, listed, &mut self.findings)?;
        let checked = self.report.sources.iter_mut().find(|checked| checked.source == ledger.source);
        let checked = checked.expect("the report has the source of every ledger");
        count_objects(ledger, checked);
        if let Some(unlocked) = self.unlocked {
            let source = KeyedSource::new(unlocked, ledger, listed);
            check_source(&source, self.options, checked, &mut self.findings)?;
        }
        Ok(())
    }

    fn finish(mut self) -> VerifyReport {
        self.report.findings = self.findings.finish();
        self.report
    }
}

fn count_objects(ledger: &Ledger, checked: &mut SourceChecked) {
    checked.packs = ledger.inventory().count() as u64;
    checked.pack_bytes = ledger.inventory().fold(0, |sum, pack| sum.saturating_add(pack.size));
    checked.manifests = ledger.manifests().count() as u64;
}

fn chosen_sources(repository: &Repository, source: Option<SourceId>) -> Result<Vec<SourceId>, OpError> {
    let known = &repository.roster().sources;
    match source {
        None => Ok(known.keys().copied().collect()),
        Some(source) if known.contains_key(&source) => Ok(vec![source]),
        Some(source) => Err(RepoError::NoSource { name: source.to_string() }.into()),
    }
}
