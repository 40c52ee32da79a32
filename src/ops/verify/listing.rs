//! One paged listing of the whole store, sorted by what the names say, and the checks that need
//! nothing else: everything in the inventory is there with its size. What nothing accounts for is named.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use crate::base::cancel::Cancel;
use crate::base::finding::{Affected, Finding, FindingKind, Findings, Severity};
use crate::base::id::{Digest, Epoch, KeyId, SourceId};
use crate::format::name::Name;
use crate::ops::error::OpError;
use crate::repo::error::RepoError;
use crate::repo::io::{Objects, Read};
use crate::repo::ledger::Ledger;
use crate::repo::open::Repository;
use crate::repo::roster::Roster;
use crate::store::StoreError;

/// Largest grant that is read.
const GRANT_BYTES_MAX: u64 = 1 << 20;

/// What the store holds.
#[derive(Debug, Default)]
pub struct Listing {
    sources: BTreeMap<SourceId, SourceObjects>,
    grants: BTreeSet<(Epoch, KeyId)>,
    pub objects: u64,
    pub bytes: u64,
    /// Of a source that the store has nothing of.
    nothing: SourceObjects,
}

/// What the store holds of one source: sizes in bytes by digest.
#[derive(Debug, Default)]
pub struct SourceObjects {
    pub packs: HashMap<Digest, u64>,
    pub manifests: HashMap<Digest, u64>,
    pub wraps: BTreeMap<Digest, u64>,
    pub index: BTreeMap<Digest, u64>,
    pub sessions: Vec<Name>,
    entries: u64,
}

impl SourceObjects {
    fn count(&self) -> u64 {
        let by_digest = self.packs.len() + self.manifests.len() + self.wraps.len() + self.index.len();
        (by_digest + self.sessions.len()) as u64 + self.entries
    }
}

impl Listing {
    /// Lists everything. Names that are none of ours are reported.
    pub fn load(objects: &Objects, findings: &mut Findings, cancel: &Cancel) -> Result<Self, OpError> {
        let mut listing = Self::default();
        objects.list_each("", |listed| {
            if cancel.is_cancelled() {
                return Err(OpError::Cancelled);
            }
            listing.objects += 1;
            listing.bytes += listed.size_bytes;
            match Name::parse(&listed.name) {
                Some(name) => listing.add(name, listed.size_bytes),
                None => report_unknown_name(&listed.name, findings),
            }
            Ok(())
        })?;
        Ok(listing)
    }

    fn add(&mut self, name: Name, size: u64) {
        match name {
            Name::Descriptor | Name::Roster(_) => {}
            Name::Grant(epoch, key) => drop(self.grants.insert((epoch, key))),
            Name::Ledger(source, _) => self.of_mut(source).entries += 1,
            Name::Pack(source, digest) => drop(self.of_mut(source).packs.insert(digest, size)),
            Name::Wraps(source, digest) => drop(self.of_mut(source).wraps.insert(digest, size)),
            Name::Manifest(source, digest) => drop(self.of_mut(source).manifests.insert(digest, size)),
            Name::Index(source, digest) => drop(self.of_mut(source).index.insert(digest, size)),
            Name::Session(source, _, _) => self.of_mut(source).sessions.push(name),
        }
    }

    fn of_mut(&mut self, source: SourceId) -> &mut SourceObjects {
        self.sources.entry(source).or_default()
    }

    /// What the store has of a source.
    #[must_use]
    pub fn of(&self, source: SourceId) -> &SourceObjects {
        self.sources.get(&source).unwrap_or(&self.nothing)
    }

    /// Reports sources that the roster does not know.
    pub fn report_unknown_sources(&self, repository: &Repository, findings: &mut Findings) {
        for (source, objects) in &self.sources {
            if repository.roster().sources.contains_key(source) {
                continue;
            }
            let count = objects.count();
            let detail = format!("no valid roster entry adds this source, and the store has {count} objects of it");
            let finding = Finding::new(FindingKind::UnknownSource, format!("{source}/"), detail);
            findings.add(finding.of_source(*source));
        }
    }
}

fn report_unknown_name(text: &str, findings: &mut Findings) {
    let finding = match reserved(text) {
        ReservedName::Probe => Finding::new(FindingKind::Orphan, text, "a probe of the store was left behind"),
        ReservedName::No => Finding::new(FindingKind::Foreign, text, "its name is none of Sidekeep's"),
        ReservedName::Later => return,
    };
    findings.add(finding);
}

enum ReservedName {
    Probe,
    Later,
    No,
}

/// Names that the format keeps for something else than what this version writes.
fn reserved(text: &str) -> ReservedName {
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        ["probe", _] => ReservedName::Probe,
        ["reports", key, _] if key.parse::<KeyId>().is_ok() => ReservedName::Later,
        [source, "plans" | "folds", _] | [source, "journal", _, ..] if source.parse::<SourceId>().is_ok() => {
            ReservedName::Later
        }
        _ => ReservedName::No,
    }
}

/// An object that an entry of a ledger added.
struct AddedObject {
    name: Name,
    digest: Digest,
    size: u64,
    /// Number of the entry.
    entry: u64,
}

impl AddedObject {
    /// Its size in the store.
    fn found(&self, listed: &SourceObjects) -> Option<u64> {
        match self.name {
            Name::Pack(..) => listed.packs.get(&self.digest).copied(),
            _ => listed.manifests.get(&self.digest).copied(),
        }
    }

    fn is_in(&self, ledger: &Ledger) -> bool {
        match self.name {
            Name::Pack(..) => ledger.has_pack(&self.digest),
            _ => ledger.manifests().any(|(digest, _)| self.digest == digest),
        }
    }

    fn finding(&self, listed: &SourceObjects) -> Finding {
        let Self { size, entry, .. } = self;
        match self.found(listed) {
            None => {
                let detail = format!("ledger entry {entry} added it and it is not there");
                Finding::new(FindingKind::Missing, self.name, detail)
            }
            Some(found) => {
                let detail = format!("ledger entry {entry} added it with {size} bytes and it has {found}");
                let kind = FindingKind::WrongSize { expected_bytes: *size, found_bytes: found };
                Finding::new(kind, self.name, detail)
            }
        }
    }
}

/// Packs and manifests that the ledger needs and that are not there in their size.
fn missing_objects(ledger: &Ledger, listed: &SourceObjects) -> Vec<AddedObject> {
    let source = ledger.source;
    let mut missing = Vec::new();
    for pack in ledger.inventory() {
        if listed.packs.get(&pack.digest) != Some(&pack.size) {
            let name = Name::Pack(source, pack.digest);
            missing.push(AddedObject { name, digest: pack.digest, size: pack.size, entry: pack.entry });
        }
    }
    for record in ledger.live() {
        let manifest = record.snapshot.manifest;
        if listed.manifests.get(&manifest.sha256) != Some(&manifest.size) {
            let name = Name::Manifest(source, manifest.sha256);
            missing.push(AddedObject { name, digest: manifest.sha256, size: manifest.size, entry: record.number });
        }
    }
    missing
}

/// Compares the inventory of a source with what is there.
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
        missing.retain(|object| object.is_in(&now));
    }
    for object in missing {
        let record = ledger.live().find(|record| record.number == object.entry);
        let affected = Affected::snapshot(record.map(|record| record.id));
        findings.add(object.finding(listed).of_source(ledger.source).affecting(affected));
    }
    report_orphans(ledger, listed, findings);
    Ok(())
}

const UNNAMED: &str = "no ledger entry names it: of an interrupted run, or of a run that goes on";

fn report_orphans(ledger: &Ledger, listed: &SourceObjects, findings: &mut Findings) {
    let orphan = |name, detail| Finding::new(FindingKind::Orphan, name, detail).of_source(ledger.source);
    for digest in listed.packs.keys().filter(|digest| !ledger.has_pack(digest)) {
        let was_pruned = ledger.was_removed(digest);
        let detail = if was_pruned { "a prune named it and has not deleted it yet" } else { UNNAMED };
        findings.add(orphan(Name::Pack(ledger.source, *digest), detail));
    }
    let manifests: HashMap<Digest, u64> = ledger.manifests().collect();
    for digest in listed.manifests.keys().filter(|digest| !manifests.contains_key(digest)) {
        let is_forgotten = ledger.snapshots.iter().any(|record| record.snapshot.manifest.sha256 == *digest);
        let detail = if is_forgotten { "of a snapshot that was forgotten" } else { UNNAMED };
        findings.add(orphan(Name::Manifest(ledger.source, *digest), detail));
    }
}

/// A grant that the roster names.
struct NamedGrant {
    epoch: Epoch,
    key: KeyId,
    digest: Digest,
}

fn named_grants(roster: &Roster) -> Vec<NamedGrant> {
    let mut grants = Vec::new();
    for (epoch, state) in &roster.epochs {
        for (key, digest) in &state.grants {
            grants.push(NamedGrant { epoch: *epoch, key: *key, digest: *digest });
        }
    }
    grants
}

/// Compares every grant with the digest that the roster names.
pub fn check_grants(repository: &Repository, listing: &Listing, findings: &mut Findings) -> Result<(), OpError> {
    let roster = repository.roster();
    let grants = named_grants(roster);
    let known: BTreeSet<(Epoch, KeyId)> = grants.iter().map(|grant| (grant.epoch, grant.key)).collect();
    for (epoch, key) in listing.grants.iter().filter(|grant| !known.contains(grant)) {
        let name = Name::Grant(*epoch, *key);
        findings.add(Finding::new(FindingKind::Orphan, name, "the roster does not name it"));
    }
    let mut reads = Vec::new();
    for grant in &grants {
        let name = Name::Grant(grant.epoch, grant.key);
        reads.push(Read { name, range: None, bytes_max: GRANT_BYTES_MAX });
    }
    repository.objects().get_many(&reads, |at, bytes| {
        let grant = &grants[at];
        if let Some(finding) = grant_finding(grant, reads[at].name, bytes)? {
            findings.add(limit_to_enrolled(finding, roster, grant.key));
        }
        Ok(())
    })
}

/// What is wrong with a grant.
fn grant_finding(grant: &NamedGrant, name: Name, bytes: Result<Bytes, StoreError>) -> Result<Option<Finding>, OpError> {
    let (kind, detail) = match bytes {
        Ok(bytes) if Digest::of(&bytes) == grant.digest => return Ok(None),
        Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::Short { .. }) => {
            (FindingKind::WrongContent, "it is not the grant that the roster names")
        }
        Err(StoreError::NotFound { .. }) => (FindingKind::Missing, "the roster names it and it is not there"),
        Err(error) => return Err(OpError::from(RepoError::Store(error))),
    };
    Ok(Some(Finding::new(kind, name, detail)))
}

/// A revoked key has no use for its grant.
fn limit_to_enrolled(finding: Finding, roster: &Roster, key: KeyId) -> Finding {
    let is_enrolled = roster.keys.get(&key).is_some_and(|state| state.revoked.is_none());
    if is_enrolled { finding } else { finding.with_severity(Severity::Information) }
}
