//! The backup itself: opens the repository and the parent snapshot, reads rows, places, sorts, cuts and stores them,
//! and commits.

use crate::base::finding::{Finding, Severity};
use crate::base::id::{Epoch, SourceId};
use crate::base::progress::{CountUnit, ImageState};
use crate::base::role::Role;
use crate::engine::contract::{Description, Source};
use crate::ops::backup::manifest::draft;
use crate::ops::backup::options::{BackupMode, BackupOptions, BackupSubject};
use crate::ops::backup::parent::{ParentSnapshot, last_manifest};
use crate::ops::backup::report::BackupReport;
use crate::ops::backup::store_rows::{BackupRun, SourceImage};
use crate::ops::error::OpError;
use crate::ops::placement::update::{Update, update};
use crate::repo::commit::{SnapshotCandidate, check_clock, commit};
use crate::repo::create::add_source;
use crate::repo::error::RepoError;
use crate::repo::known_chunks::{self, KnownChunks};
use crate::repo::ledger::Ledger;
use crate::repo::manifest::{self, ManifestLimits};
use crate::repo::open::{SourceKeys, Unlocked};
use crate::sort::{SpillError, check_space};

/// Takes a snapshot of `source`.
/// Fails if the key is not an operator's or was revoked, the roster announces a feature that this program does not know,
/// no epoch is open, the source cannot be read, its clock is behind the newest snapshot, the store or the spill directory
/// fails, a limit of the format is exceeded, or the backup is cancelled.
pub fn run(unlocked: &mut Unlocked, source: &mut dyn Source, options: &BackupOptions) -> Result<BackupReport, OpError> {
    check_role(unlocked)?;
    // Before hours of work.
    unlocked.check_not_revoked()?;
    unlocked.repository().roster().check_writable()?;
    let started = unlocked.repository().env().now();
    let epoch = open_epoch(unlocked)?;
    // A new source is added only after its database has answered. The image of a known source is opened as late as
    // possible.
    let KnownSource { id, image } = known_source(unlocked, source, options)?;
    let keys = unlocked.source_keys(id, epoch, "a backup")?;
    // Chunks that are stored already are not stored again.
    let state = load_state(unlocked, id, &keys, epoch, options)?;
    let StoredState { mut ledger, known, parent, notes } = state;
    let mut image = image.map_or_else(|| open_image(unlocked, source, options), Ok)?;
    // With a clock that was set back, the snapshot would sort before older ones.
    check_clock(&ledger, image.description.source_clock)?;
    note_small_disk(options, &image.description);
    // Each table keeps its number and its placement, or gets new ones.
    let update = update_catalog(parent, &image.description, &keys, options)?;
    let schema = std::mem::take(&mut image.description.schema);
    let backup = BackupRun { unlocked, options, source: id, epoch, keys: &keys, known: &known, image: &image, started };
    let session = backup.create_session()?;
    // This releases the image as soon as everything has been read.
    let mut stored = backup.store(source, &update, &session, schema)?;
    let draft = draft(&backup, update.catalog, &mut stored, &session.wrap);
    let manifest = manifest::seal(unlocked, &draft, &session.keys, &ManifestLimits::default())?;
    let preconditions = stored.preconditions(&known);
    let mut report = BackupReport::of_stored(&backup, &stored, &draft.summary);
    report.manifest_bytes = manifest.len() as u64;
    report.adopted = preconditions.adopted.len();
    report.findings.splice(0..0, notes.into_iter().chain(update.drift));
    report.findings.extend(unlocked.repository().objects().head_findings());
    // Until now the packs are orphans. The ledger entry makes them part of a snapshot.
    if options.mode == BackupMode::Commit {
        let snapshot = backup.draft_entry(&session);
        let candidate = SnapshotCandidate { snapshot, manifest, preconditions };
        options.progress.phase("committing", CountUnit::Objects, None);
        report.set_committed(&commit(unlocked, &mut ledger, candidate)?);
    }
    Ok(report)
}

fn check_role(unlocked: &Unlocked) -> Result<(), OpError> {
    if unlocked.role() == Role::Operator {
        return Ok(());
    }
    Err(unlocked.wrong_role("a backup", "an operator").into())
}

fn open_epoch(unlocked: &Unlocked) -> Result<Epoch, RepoError> {
    let open = unlocked.repository().roster().open_epoch();
    let (epoch, _) = open.ok_or_else(|| RepoError::missing("an epoch that is open for writing"))?;
    Ok(epoch)
}

/// A source that the repository knows.
struct KnownSource {
    id: SourceId,
    /// Present if the source is new: its image is open already.
    image: Option<SourceImage>,
}

fn known_source(
    unlocked: &mut Unlocked,
    source: &mut dyn Source,
    options: &BackupOptions,
) -> Result<KnownSource, OpError> {
    match &options.source {
        BackupSubject::Known(id) => Ok(KnownSource { id: *id, image: None }),
        BackupSubject::New(name) => new_source(unlocked, source, name, options),
    }
}

/// Adds a source after its database has answered.
fn new_source(
    unlocked: &mut Unlocked,
    source: &mut dyn Source,
    name: &str,
    options: &BackupOptions,
) -> Result<KnownSource, OpError> {
    let image = open_image(unlocked, source, options)?;
    Ok(KnownSource { id: add_source(unlocked, name)?, image: Some(image) })
}

fn open_image(unlocked: &Unlocked, source: &mut dyn Source, options: &BackupOptions) -> Result<SourceImage, OpError> {
    options.progress.phase("reading the schema", CountUnit::Objects, None);
    options.progress.image(ImageState::Held);
    let opened = unlocked.repository().env().now();
    let description = source.describe().map_err(OpError::from_engine)?;
    Ok(SourceImage { description, opened })
}

/// Warns if the temporary files may not fit. The estimate is too high for bloated tables, so the backup is tried
/// anyway.
fn note_small_disk(options: &BackupOptions, description: &Description) {
    let Some(bytes) = description.bytes_estimate else { return };
    let Err(error) = check_space(&options.spill_dir, bytes) else { return };
    let end = match error {
        SpillError::Create { .. } => "if one is needed, the backup fails",
        _ => "if they fill the directory, the backup fails",
    };
    options.progress.note(&format!("{error}; {end}: choose another directory with --spill-dir"));
}

/// What the repository already has for a source.
struct StoredState {
    ledger: Ledger,
    known: KnownChunks,
    parent: ParentSnapshot,
    notes: Vec<Finding>,
}

fn load_state(
    unlocked: &Unlocked,
    source: SourceId,
    keys: &SourceKeys,
    epoch: Epoch,
    options: &BackupOptions,
) -> Result<StoredState, OpError> {
    options.progress.phase("looking at the store", CountUnit::Objects, None);
    let ledger = Ledger::load(unlocked.repository(), source)?;
    // Nothing is uploaded that cannot be committed.
    ledger.check_complete(unlocked.repository())?;
    let known = known_chunks::load(unlocked, &ledger, &keys.structure, epoch)?;
    let mut notes = store_notes(&ledger, &known);
    notes.extend(unlocked.names().findings().map(|finding| finding.with_severity(Severity::Information)));
    let parent = last_manifest(unlocked, &ledger, &mut notes)?;
    Ok(StoredState { ledger, known, parent, notes })
}

/// Notes about the store that are known before anything is read. They do not change the backup.
fn store_notes(ledger: &Ledger, known: &KnownChunks) -> Vec<Finding> {
    let warnings = ledger.warnings_at_head().into_iter().chain(ledger.roster().refusals());
    let warnings = warnings.map(|finding| finding.with_severity(Severity::Information));
    warnings.chain(known.notes.iter().cloned()).collect()
}

/// The next catalog. Drops the parent's, because with many tables each takes much memory.
fn update_catalog(
    mut parent: ParentSnapshot,
    description: &Description,
    keys: &SourceKeys,
    options: &BackupOptions,
) -> Result<Update, RepoError> {
    let schema_digest = data_encoding::HEXLOWER.encode(&keys.ids.row_hash(&description.schema));
    let first_new = parent.next_table();
    let mut update = update(parent.catalog.take(), description, &options.placement, schema_digest, options.pinned);
    if let Some(address) = &options.address {
        update.catalog.add_address(address);
    }
    parent.check_numbers(first_new, &update.catalog)?;
    Ok(update)
}
