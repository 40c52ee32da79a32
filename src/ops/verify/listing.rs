//! One paged listing of the whole store, sorted by what the names say, and the checks that need
//! nothing else: everything in the inventory is there with its size. What nothing accounts for is named.

use std::collections::{BTreeMap, HashMap};

use crate::base::cancel::Cancel;
use crate::base::id::{Digest, Epoch, KeyId, SourceId};
use crate::format::name::Name;
use crate::ops::error::OpError;
use crate::repo::check::{Fault, Findings, Severity, Victim};
use crate::repo::error::RepoError;
use crate::repo::io::{Objects, Read};
use crate::repo::ledger::Ledger;
use crate::repo::open::Repository;
use crate::store::StoreError;

/// Largest grant that is read.
const GRANT_BYTES_MAX: u64 = 1 << 20;

/// What the store holds.
#[derive(Debug, Default)]
pub struct Listing {
    pub sources: BTreeMap<SourceId, SourceObjects>,
    pub grants: BTreeMap<(Epoch, KeyId), u64>,
    pub objects: u64,
    pub bytes: u64,
}

/// What the store holds of one source: sizes in bytes by digest.
#[derive(Debug, Default)]
pub struct SourceObjects {
    pub packs: HashMap<Digest, u64>,
    pub manifests: HashMap<Digest, u64>,
    pub wraps: BTreeMap<Digest, u64>,
    pub index: BTreeMap<Digest, u64>,
    pub sessions: Vec<(Name, u64)>,
    pub entries: u64,
}

impl SourceObjects {
    fn objects(&self) -> usize {
        self.packs.len() + self.manifests.len() + self.wraps.len() + self.index.len() + self.sessions.len()
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
            listing.take(&listed.name, listed.size_bytes, findings);
            Ok(())
        })?;
        Ok(listing)
    }

    fn take(&mut self, text: &str, size: u64, findings: &mut Findings) {
        let Some(name) = Name::parse(text) else {
            let (fault, what) = match reserved(text) {
                ReservedName::Probe => (Fault::Orphan, "a probe of the store was left behind"),
                ReservedName::No => (Fault::Foreign, "its name is none of Sidekeep's"),
                ReservedName::Later => return,
            };
            findings.add(fault, None, text, what);
            return;
        };
        match name {
            Name::Descriptor | Name::Roster(_) => {}
            Name::Grant(epoch, key) => drop(self.grants.insert((epoch, key), size)),
            Name::Ledger(source, _) => self.of(source).entries += 1,
            Name::Pack(source, digest) => drop(self.of(source).packs.insert(digest, size)),
            Name::Wraps(source, digest) => drop(self.of(source).wraps.insert(digest, size)),
            Name::Manifest(source, digest) => drop(self.of(source).manifests.insert(digest, size)),
            Name::Index(source, digest) => drop(self.of(source).index.insert(digest, size)),
            Name::Session(source, _, _) => self.of(source).sessions.push((name, size)),
        }
    }

    fn of(&mut self, source: SourceId) -> &mut SourceObjects {
        self.sources.entry(source).or_default()
    }

    /// Names sources that the roster does not know.
    pub fn unknown_sources(&self, repository: &Repository, findings: &mut Findings) {
        for (source, objects) in &self.sources {
            if !repository.roster().sources.contains_key(source) {
                let count = objects.objects() as u64 + objects.entries;
                let what = format!("no valid roster entry adds this source, and the store has {count} objects of it");
                findings.add(Fault::UnknownSource, Some(*source), format!("{source}/"), what);
            }
        }
    }
}

enum ReservedName {
    Probe,
    Later,
    No,
}

/// Names that the format keeps for something else than what this version writes.
fn reserved(text: &str) -> ReservedName {
    let parts: Vec<&str> = text.split('/').collect();
    let is_source = |part: &str| part.parse::<SourceId>().is_ok();
    match parts.as_slice() {
        ["probe", _] => ReservedName::Probe,
        ["reports", key, _] if key.parse::<KeyId>().is_ok() => ReservedName::Later,
        [source, "plans" | "folds", _] | [source, "journal", _, ..] if is_source(source) => ReservedName::Later,
        _ => ReservedName::No,
    }
}

/// Compares the inventory of a source with what is there.
pub fn check_inventory(
    repository: &Repository,
    ledger: &Ledger,
    listed: &SourceObjects,
    findings: &mut Findings,
) -> Result<(), OpError> {
    let mut wrong = Vec::new();
    let packs = ledger.inventory().map(|pack| (Name::Pack(ledger.source, pack.digest), pack.size, pack.entry));
    wrong.extend(packs.filter(|(name, size, _)| listed.packs.get(&digest(name)) != Some(size)));
    for record in ledger.live() {
        let manifest = record.snapshot.manifest;
        if listed.manifests.get(&manifest.sha256) != Some(&manifest.size) {
            wrong.push((Name::Manifest(ledger.source, manifest.sha256), manifest.size, record.number));
        }
    }
    if !wrong.is_empty() {
        // Somebody may have pruned while we looked.
        let now = Ledger::load(repository, ledger.source)?;
        let named = |name: &Name| match name {
            Name::Pack(_, digest) => now.has_pack(digest),
            name => now.manifests().any(|(digest, _)| name.digest() == Some(digest)),
        };
        wrong.retain(|(name, ..)| named(name));
    }
    for (name, size, entry) in wrong {
        let found = match name {
            Name::Pack(_, digest) => listed.packs.get(&digest),
            _ => listed.manifests.get(&digest(&name)),
        };
        let (fault, what) = match found {
            None => (Fault::Missing, format!("ledger entry {entry} added it and it is not there")),
            Some(found) => {
                (Fault::WrongSize, format!("ledger entry {entry} added it with {size} bytes and it has {found}"))
            }
        };
        let at = findings.add(fault, Some(ledger.source), name, what);
        let snapshot = ledger.live().find(|record| record.number == entry).map(|record| record.id);
        findings.hurts(at, Victim { snapshot, table: None });
    }
    orphans(ledger, listed, findings);
    Ok(())
}

fn digest(name: &Name) -> Digest {
    name.digest().expect("packs and manifests are named by a digest")
}

fn orphans(ledger: &Ledger, listed: &SourceObjects, findings: &mut Findings) {
    let source = Some(ledger.source);
    let unnamed = "no ledger entry names it: of an interrupted run, or of a run that goes on";
    let manifests: HashMap<Digest, u64> = ledger.manifests().collect();
    for digest in listed.packs.keys().filter(|digest| !ledger.has_pack(digest)) {
        let what = if ledger.was_removed(digest) { "a prune named it and has not deleted it yet" } else { unnamed };
        findings.add(Fault::Orphan, source, Name::Pack(ledger.source, *digest), what);
    }
    for digest in listed.manifests.keys().filter(|digest| !manifests.contains_key(digest)) {
        let of_forgotten = ledger.snapshots.iter().any(|record| record.snapshot.manifest.sha256 == *digest);
        let what = if of_forgotten { "of a snapshot that was forgotten" } else { unnamed };
        findings.add(Fault::Orphan, source, Name::Manifest(ledger.source, *digest), what);
    }
}

/// Compares every grant with the digest that the roster names.
pub fn check_grants(repository: &Repository, listing: &Listing, findings: &mut Findings) -> Result<(), OpError> {
    let roster = repository.roster();
    let expected: BTreeMap<(Epoch, KeyId), Digest> = roster
        .epochs
        .iter()
        .flat_map(|(epoch, state)| state.grants.iter().map(|(key, digest)| ((*epoch, *key), *digest)))
        .collect();
    for (epoch, key) in listing.grants.keys().filter(|grant| !expected.contains_key(grant)) {
        findings.add(Fault::Orphan, None, Name::Grant(*epoch, *key), "the roster does not name it");
    }
    let wanted: Vec<_> = expected.into_iter().collect();
    let read = |grant: &((Epoch, KeyId), Digest)| {
        let name = Name::Grant(grant.0.0, grant.0.1);
        Read { name, range: None, bytes_max: GRANT_BYTES_MAX }
    };
    let reads: Vec<Read> = wanted.iter().map(read).collect();
    repository.objects().get_many(&reads, |at, bytes| {
        let ((_, key), digest) = wanted[at];
        let (fault, what) = match bytes {
            Ok(bytes) if Digest::of(&bytes) == digest => return Ok(()),
            Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::Short { .. }) => {
                (Fault::WrongContent, "it is not the grant that the roster names")
            }
            Err(StoreError::NotFound { .. }) => (Fault::Missing, "the roster names it and it is not there"),
            Err(error) => return Err(OpError::from(RepoError::Store(error))),
        };
        let enrolled = roster.keys.get(&key).is_some_and(|state| state.revoked.is_none());
        // A revoked key has no use for its grant.
        let severity = if enrolled { fault.severity() } else { Severity::Information };
        findings.add_as(severity, (fault, None, reads[at].name.to_string()), what.to_owned());
        Ok(())
    })
}
