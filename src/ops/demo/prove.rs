//! The demo's proof: checks every byte of the store with public keys only, every row and stream with the admin's key,
//! and whether anything of the database can be read in the store.

use crate::base::finding::Severity;
use crate::base::id::SourceId;
use crate::ops::access::RepositoryAccess;
use crate::ops::demo::options::DemoOptions;
use crate::ops::demo::report::Verified;
use crate::ops::error::OpError;
use crate::ops::verify::{self, VerifyLevel, VerifyOptions, VerifyReport};
use crate::repo::error::RepoError;
use crate::repo::open::{Repository, Unlocked};

/// Part of every email address in the database.
const NEEDLE: &[u8] = b"@example.";

/// Verifies the whole store.
/// Fails if the store fails or the operation is cancelled. Damage that is found is in the result.
pub(super) fn prove(admin: &Unlocked, source: SourceId, options: &DemoOptions) -> Result<Verified, OpError> {
    let read = check(RepositoryAccess::WithoutKey(admin.repository()), source, VerifyLevel::Read, options)?;
    let deep = check(RepositoryAccess::WithKey(admin), source, VerifyLevel::Deep, options)?;
    let snapshots = || deep.sources.iter().flat_map(|source| &source.snapshots);
    Ok(Verified {
        objects: read.objects,
        objects_read: read.objects_read,
        bytes_read: read.bytes_read,
        entries: read.sources.iter().map(|source| source.entries).sum(),
        snapshots: snapshots().filter(|snapshot| snapshot.intact).count() as u64,
        chunks_opened: snapshots().map(|snapshot| snapshot.opened).sum(),
        damage: [damage_of(&read), damage_of(&deep)].concat(),
        readable: readable(admin.repository())?,
    })
}

fn check(
    access: RepositoryAccess<'_>,
    source: SourceId,
    level: VerifyLevel,
    options: &DemoOptions,
) -> Result<VerifyReport, OpError> {
    let options = VerifyOptions {
        level,
        source: Some(source),
        snapshots: Vec::new(),
        known_heads: None,
        progress: options.progress.clone(),
        cancel: options.cancel.clone(),
    };
    verify::run(access, &options)
}

fn damage_of(report: &VerifyReport) -> Vec<String> {
    report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Damage)
        .map(|finding| format!("{}: {}", finding.object, finding.detail))
        .collect()
}

/// Counts the objects in which something of the database can be read.
fn readable(repository: &Repository) -> Result<u64, OpError> {
    let objects = repository.objects();
    let mut readable = 0;
    for object in objects.list("").map_err(RepoError::from)? {
        let get = objects.store().get(&object.name, object.size_bytes);
        let bytes = objects.runtime().block_on(get).map_err(RepoError::from)?;
        readable += u64::from(bytes.windows(NEEDLE.len()).any(|window| window == NEEDLE));
    }
    Ok(readable)
}
