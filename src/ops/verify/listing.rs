//! Lists the whole store once, groups the objects by their names, and runs the checks that need nothing else:
//! everything in the inventory is stored with the right size. Objects that nothing refers to are reported.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use crate::base::cancel::Cancel;
use crate::base::finding::{Affected, Finding, FindingKind, Findings, Severity};
use crate::base::id::{Digest, Epoch, KeyId, SourceId};
use crate::base::limit::GRANT_BYTES_MAX;
use crate::format::name::Name;
use crate::ops::error::OpError;

use crate::repo::ledger::Ledger;
use crate::repo::objects::{ObjectRead, Objects};
use crate::repo::open::Repository;
use crate::repo::roster::Roster;
use crate::store::StoreError;

/// What the store contains.
#[derive(Debug, Default)]
pub struct Listing {
    sources: BTreeMap<SourceId, SourceObjects>,
    grants: BTreeSet<(Epoch, KeyId, Digest)>,
    pub objects: u64,
    pub bytes: u64,
    /// For a source that the store has no objects of.
    nothing: SourceObjects,
}

/// What the store contains of one source: sizes in bytes by digest.
#[derive(Debug, Default)]
pub struct SourceObjects {
    pub packs: HashMap<Digest, u64>,
    pub manifests: HashMap<Digest, u64>,
    pub index: BTreeMap<Digest, u64>,
    pub bundles: BTreeMap<Digest, u64>,
    pub sessions: Vec<Name>,
    entries: u64,
}

impl SourceObjects {
    fn add(&mut self, name: Name, size: u64) {
        match name {
            Name::Pack(_, digest) => drop(self.packs.insert(digest, size)),
            Name::Manifest(_, digest) => drop(self.manifests.insert(digest, size)),
            Name::Index(_, digest) => drop(self.index.insert(digest, size)),
            Name::Session(..) => self.sessions.push(name),
            Name::Ledger(..) => self.entries += 1,
            Name::Bundle(_, digest) => drop(self.bundles.insert(digest, size)),
            _ => {}
        }
    }

    /// The finding for these objects if the roster does not know their source.
    fn unknown_source(&self, source: SourceId) -> Finding {
        let count = self.count();
        let detail = format!("no valid roster entry adds this source, but the store has {count} objects of it");
        Finding::new(FindingKind::UnknownSource, format!("{source}/"), detail).of_source(source)
    }

    fn count(&self) -> u64 {
        let by_digest = self.packs.len() + self.manifests.len() + self.index.len() + self.bundles.len();
        (by_digest + self.sessions.len()) as u64 + self.entries
    }
}

impl Listing {
    /// Lists everything. Reports names that Sidekeep does not use.
    /// Fails if the store fails or `cancel` is set.
    pub fn load(objects: &Objects, findings: &mut Findings, cancel: &Cancel) -> Result<Self, OpError> {
        let mut listing = Self::default();
        objects.list_each("", |listed| {
            if cancel.is_cancelled() {
                return Err(OpError::Cancelled);
            }
            listing.add_named(&listed.name, listed.size_bytes, findings);
            Ok(())
        })?;
        Ok(listing)
    }

    fn add_named(&mut self, text: &str, size: u64, findings: &mut Findings) {
        self.objects += 1;
        self.bytes += size;
        match Name::parse(text) {
            Some(name) => self.add(name, size),
            None => report_unknown_name(text, findings),
        }
    }

    fn add(&mut self, name: Name, size: u64) {
        match name {
            Name::Descriptor | Name::Roster(_) => {}
            // Statements that nothing depends on.
            Name::RosterBundle(_) | Name::Report(..) | Name::ReportBody(..) | Name::Copy(_) => {}
            Name::Grant(epoch, key, digest) => drop(self.grants.insert((epoch, key, digest))),
            Name::Ledger(source, _)
            | Name::Pack(source, _)
            | Name::Manifest(source, _)
            | Name::Index(source, _)
            | Name::Bundle(source, _)
            | Name::Session(source, _, _) => self.sources.entry(source).or_default().add(name, size),
        }
    }

    /// What the store contains of a source.
    #[must_use]
    pub fn of(&self, source: SourceId) -> &SourceObjects {
        self.sources.get(&source).unwrap_or(&self.nothing)
    }

    /// Reports sources that the roster does not know.
    pub fn report_unknown_sources(&self, repository: &Repository, findings: &mut Findings) {
        let known = &repository.roster().sources;
        for (source, objects) in &self.sources {
            if !known.contains_key(source) {
                findings.add(objects.unknown_source(*source));
            }
        }
    }
}

fn report_unknown_name(text: &str, findings: &mut Findings) {
    let finding = match reserved(text) {
        ReservedName::Probe => Finding::new(FindingKind::Orphan, text, "a probe of the store was left behind"),
        ReservedName::No => Finding::new(FindingKind::Foreign, text, "its name is not a name that Sidekeep uses"),
        ReservedName::Later => return,
    };
    findings.add(finding);
}

enum ReservedName {
    Probe,
    Later,
    No,
}

/// Whether the format reserves a name for something that this version does not store.
fn reserved(text: &str) -> ReservedName {
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        ["probe", _] => ReservedName::Probe,
        [source, within @ ..] if source.parse::<SourceId>().is_ok() && is_kept(within) => ReservedName::Later,
        _ => ReservedName::No,
    }
}

/// Whether a later version may write this name within a source.
fn is_kept(within: &[&str]) -> bool {
    matches!(within, ["plans", _] | ["journal", _, ..])
}

/// An object that a ledger entry added.
struct AddedObject {
    name: Name,
    digest: Digest,
    size: u64,
    /// Number of the entry.
    entry: u64,
}

impl AddedObject {
    /// Its size in the store in bytes, if it is stored.
    fn found(&self, listed: &SourceObjects) -> Option<u64> {
        match self.name {
            Name::Pack(..) => listed.packs.get(&self.digest).copied(),
            _ => listed.manifests.get(&self.digest).copied(),
        }
    }

    /// `manifests` are the manifests of the ledger.
    fn is_in(&self, ledger: &Ledger, manifests: &HashSet<Digest>) -> bool {
        match self.name {
            Name::Pack(..) => ledger.has_pack(&self.digest),
            _ => manifests.contains(&self.digest),
        }
    }

    fn finding(&self, listed: &SourceObjects) -> Finding {
        match self.found(listed) {
            None => self.missing(),
            Some(found_bytes) => self.wrong_size(found_bytes),
        }
    }

    fn missing(&self) -> Finding {
        let detail = format!("ledger entry {} added it, but it is missing", self.entry);
        Finding::new(FindingKind::Missing, self.name, detail)
    }

    fn wrong_size(&self, found_bytes: u64) -> Finding {
        let Self { size, entry, .. } = self;
        let detail = format!("ledger entry {entry} added it with {size} bytes, but it has {found_bytes}");
        Finding::new(FindingKind::WrongSize { expected_bytes: *size, found_bytes }, self.name, detail)
    }
}

/// Packs and manifests that the ledger needs and that are missing or have the wrong size.
fn missing_objects(ledger: &Ledger, listed: &SourceObjects) -> Vec<AddedObject> {
    let needed = needed_packs(ledger).chain(needed_manifests(ledger));
    needed.filter(|object| object.found(listed) != Some(object.size)).collect()
}

fn needed_packs(ledger: &Ledger) -> impl Iterator<Item = AddedObject> {
    ledger.inventory().map(|pack| AddedObject {
        name: Name::Pack(ledger.source, pack.digest),
        digest: pack.digest,
        size: pack.size,
        entry: pack.entry,
    })
}

fn needed_manifests(ledger: &Ledger) -> impl Iterator<Item = AddedObject> {
    ledger.live().map(|record| {
        let manifest = record.snapshot.manifest;
        AddedObject {
            name: Name::Manifest(ledger.source, manifest.sha256),
            digest: manifest.sha256,
            size: manifest.size,
            entry: record.number,
        }
    })
}

/// Compares the inventory of a source with the store.
/// Fails if objects are missing and the ledger cannot be loaded again.
pub fn check_inventory(
    repository: &Repository,
    ledger: &Ledger,
    listed: &SourceObjects,
    findings: &mut Findings,
) -> Result<(), OpError> {
    let mut missing = missing_objects(ledger, listed);
    if !missing.is_empty() {
        // A prune may have run in the meantime.
        let now = Ledger::load(repository, ledger.source)?;
        let manifests: HashSet<Digest> = now.manifests().map(|(digest, _)| digest).collect();
        missing.retain(|object| object.is_in(&now, &manifests));
    }
    let snapshots = snapshots_by_entry(ledger);
    for object in missing {
        let affected = Affected::snapshot(snapshots.get(&object.entry).copied());
        findings.add(object.finding(listed).of_source(ledger.source).affecting(affected));
    }
    report_orphans(ledger, listed, findings);
    Ok(())
}

/// The live snapshots by the number of the ledger entry that commits them.
pub fn snapshots_by_entry(ledger: &Ledger) -> HashMap<u64, Digest> {
    ledger.live().map(|record| (record.number, record.id)).collect()
}

const UNNAMED: &str = "no ledger entry names it: it belongs to an interrupted run or to a run in progress";

/// A manifest is all that is left of a snapshot whose entry was deleted.
const UNCOMMITTED: &str =
    "no ledger entry names it: a run stopped before it committed or is in progress, or its ledger entry was deleted";
const COMPARE: &str = "if no backup was interrupted or is running, compare the ledger with a second copy of the store";

const PRUNED: &str = "a prune removed it from the inventory, but has not deleted it yet";
const FORGOTTEN: &str = "it belongs to a snapshot that was forgotten";
const GIVEN_UP: &str = "an entry added it that was lost and that an admin has given up";

fn report_orphans(ledger: &Ledger, listed: &SourceObjects, findings: &mut Findings) {
    report_orphaned_packs(ledger, listed, findings);
    report_orphaned_manifests(ledger, listed, findings);
}

fn report_orphaned_packs(ledger: &Ledger, listed: &SourceObjects, findings: &mut Findings) {
    let given_up = ledger.given_up();
    for digest in listed.packs.keys().filter(|digest| !ledger.has_pack(digest)) {
        let detail = if ledger.was_removed(digest) { PRUNED } else { why_unnamed(digest, &given_up) };
        findings.add(orphan(ledger, Name::Pack(ledger.source, *digest), detail));
    }
}

fn report_orphaned_manifests(ledger: &Ledger, listed: &SourceObjects, findings: &mut Findings) {
    let manifests: HashSet<Digest> = ledger.manifests().map(|(digest, _)| digest).collect();
    let of_snapshots: HashSet<Digest> = ledger.snapshots.iter().map(|record| record.snapshot.manifest.sha256).collect();
    let given_up = ledger.given_up();
    for digest in listed.manifests.keys().filter(|digest| !manifests.contains(digest)) {
        let name = Name::Manifest(ledger.source, *digest);
        findings.add(match (of_snapshots.contains(digest), given_up.contains(digest)) {
            (true, _) => orphan(ledger, name, FORGOTTEN),
            (false, true) => orphan(ledger, name, GIVEN_UP),
            (false, false) => orphan(ledger, name, UNCOMMITTED).with_remedy(COMPARE),
        });
    }
}

fn why_unnamed(digest: &Digest, given_up: &BTreeSet<Digest>) -> &'static str {
    if given_up.contains(digest) { GIVEN_UP } else { UNNAMED }
}

fn orphan(ledger: &Ledger, name: Name, detail: &str) -> Finding {
    Finding::new(FindingKind::Orphan, name, detail).of_source(ledger.source)
}

/// A grant that the roster names.
struct NamedGrant {
    epoch: Epoch,
    key: KeyId,
    digest: Digest,
}

impl NamedGrant {
    fn name(&self) -> Name {
        Name::Grant(self.epoch, self.key, self.digest)
    }

    fn read(&self) -> ObjectRead {
        ObjectRead { name: self.name(), range: None, bytes_max: GRANT_BYTES_MAX as u64 }
    }

    fn finding(&self, kind: FindingKind, detail: &str) -> Finding {
        Finding::new(kind, self.name(), detail)
    }
}

fn named_grants(roster: &Roster) -> Vec<NamedGrant> {
    let mut grants = Vec::new();
    for (epoch, state) in &roster.epochs {
        for (key, digests) in &state.grants {
            grants.extend(digests.iter().map(|digest| NamedGrant { epoch: *epoch, key: *key, digest: *digest }));
        }
    }
    grants
}

/// Compares every grant with its digest in the roster.
/// Fails if the store fails.
pub fn check_grants(repository: &Repository, listing: &Listing, findings: &mut Findings) -> Result<(), OpError> {
    let roster = repository.roster();
    let grants = named_grants(roster);
    report_unnamed_grants(listing, &grants, findings);
    let reads: Vec<ObjectRead> = grants.iter().map(NamedGrant::read).collect();
    repository.objects().get_many(&reads, |at, bytes| {
        let grant = &grants[at];
        if let Some(finding) = grant_finding(grant, bytes)? {
            findings.add(limit_to_enrolled(finding, roster, grant.key));
        }
        Ok(())
    })
}

fn report_unnamed_grants(listing: &Listing, named: &[NamedGrant], findings: &mut Findings) {
    let known: BTreeSet<(Epoch, KeyId, Digest)> =
        named.iter().map(|grant| (grant.epoch, grant.key, grant.digest)).collect();
    for (epoch, key, digest) in listing.grants.difference(&known) {
        let name = Name::Grant(*epoch, *key, *digest);
        findings.add(Finding::new(FindingKind::Orphan, name, "the roster does not name it"));
    }
}

/// What is wrong with a grant. `None` if it is correct.
fn grant_finding(grant: &NamedGrant, bytes: Result<Bytes, StoreError>) -> Result<Option<Finding>, OpError> {
    match bytes {
        Ok(bytes) if Digest::of(&bytes) == grant.digest => Ok(None),
        Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::Short { .. }) => {
            Ok(Some(grant.finding(FindingKind::WrongContent, "it does not match the grant's digest in the roster")))
        }
        Err(StoreError::NotFound { .. }) => {
            Ok(Some(grant.finding(FindingKind::Missing, "the roster names it, but it is missing")))
        }
        Err(error) => Err(error.into()),
    }
}

/// A finding about the grant of a revoked key is only information, because nobody needs that grant.
fn limit_to_enrolled(finding: Finding, roster: &Roster, key: KeyId) -> Finding {
    let is_enrolled = roster.keys.get(&key).is_some_and(|state| state.revoked.is_none());
    if is_enrolled { finding } else { finding.with_severity(Severity::Information) }
}
