//! Compares the session wraps in the headers of packs and in manifests. A session has one data key, so all its wraps
//! are equal, byte by byte.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::base::finding::{Affected, Finding, FindingKind, Findings};
use crate::base::frame::SessionWrap;
use crate::base::id::{Digest, Epoch, SessionId, SourceId};
use crate::format::name::Name;
use crate::repo::ledger::SnapshotRecord;
use crate::repo::pack_table::PackTable;
use crate::repo::reader::SnapshotReader;

/// The digest of the first wrap that was found of each session, and the object that it is in.
#[derive(Default)]
pub struct KnownWraps(HashMap<(Epoch, SessionId), (Digest, Name)>);

impl KnownWraps {
    /// Checks the wraps of a pack, and remembers them.
    pub fn add_header(&mut self, source: SourceId, table: &PackTable, findings: &mut Findings) {
        let object = Name::Pack(source, table.digest);
        if !table.header.has_own_wrap() {
            findings.add(fault(source, object, "its first session wrap is not the one of its writer".to_owned()));
        }
        for wrap in &table.header.wraps {
            match self.0.entry((table.header.epoch, wrap.session())) {
                Entry::Vacant(vacant) => drop(vacant.insert((digest(wrap), object))),
                Entry::Occupied(known) if known.get().0 == digest(wrap) => {}
                Entry::Occupied(known) => drop(findings.add(differing(source, object, wrap, known.get().1))),
            }
        }
    }

    /// Checks the wrap of a manifest.
    pub fn check_manifest(&self, reader: &SnapshotReader<'_>, record: &SnapshotRecord, findings: &mut Findings) {
        let wrap = &reader.manifest().wrap;
        let Some(known) = self.0.get(&(record.snapshot.epoch, wrap.session())) else { return };
        if known.0 != digest(wrap) {
            let object = Name::Manifest(reader.source(), record.snapshot.manifest.sha256);
            let finding = differing(reader.source(), object, wrap, known.1);
            findings.add(finding.affecting(Affected::snapshot(Some(record.id))));
        }
    }
}

fn digest(wrap: &SessionWrap) -> Digest {
    Digest::of(wrap.as_bytes())
}

fn differing(source: SourceId, object: Name, wrap: &SessionWrap, known: Name) -> Finding {
    fault(source, object, format!("its wrap of session {} differs from the one in {known}", wrap.session()))
}

fn fault(source: SourceId, object: Name, detail: String) -> Finding {
    Finding::new(FindingKind::Contradiction, object, detail).of_source(source)
}
