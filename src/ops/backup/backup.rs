//! The verb: open, look at last night, read, place, sort, cut, store, commit.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::base::cancel::Cancel;
use crate::base::frame::SessionWrap;
use crate::base::id::{Digest, Epoch, SourceId};
use crate::base::limit::WRAPS_PER_PAGE;
use crate::base::progress::{CountUnit, ImageState, SharedProgress};
use crate::base::role::Role;
use crate::base::time::Moment;
use crate::crypto::session::SessionKeys;
use crate::engine::contract::{Description, Source};
use crate::format::catalog::Catalog;
use crate::format::entry::ObjectRef;
use crate::format::manifest::{
    GapSummary, Secrets, StoredLocation, Summary, TableSummary, TreeKind, TreeRoot, WrapPage,
};
use crate::format::name::Name;
use crate::ops::backup::parent::last_manifest;
use crate::ops::backup::plan::plan;
use crate::ops::backup::tables::{ReadTotals, TablePipeline, references_tree, rows_tree};
use crate::ops::error::OpError;
use crate::ops::placement::update::{Pinned, PlacementConfig, Update, update};
use crate::repo::commit::{Preconditions, SnapshotCandidate, check_clock, commit, draft_entry};
use crate::repo::create::add_source;
use crate::repo::error::RepoError;
use crate::repo::index::Index;
use crate::repo::known_chunks::{self, KnownChunks};
use crate::repo::ledger::Ledger;
use crate::repo::manifest::{self, ManifestDraft, OpenManifest, carry_wraps};
use crate::repo::open::{SourceKeys, Unlocked};
use crate::repo::writer::{Announcer, BuiltTree, UsedPacks, WriteMode, WriterSetup, Written, write};
use crate::sort::{SpillError, SpillOptions, check_space};

/// What to back up and how.
#[derive(Clone)]
pub struct BackupOptions {
    pub source: BackupSubject,
    pub tags: Vec<String>,
    /// Threads that compress and seal.
    pub workers: usize,
    /// Where sorted rows are laid aside.
    pub spill_dir: PathBuf,
    pub placement: PlacementConfig,
    /// `Renew` makes the placement of rows anew, at the price of storing moved rows again.
    pub pinned: Pinned,
    pub mode: BackupMode,
    pub progress: SharedProgress,
    pub cancel: Cancel,
}

/// The source that is backed up, as the repository knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BackupSubject {
    Known(SourceId),
    /// It is added under this name once the database has answered, so that one that cannot be read leaves none behind.
    New(String),
}

/// Whether anything is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackupMode {
    Commit,
    /// Reads everything and says what would be stored; stores nothing.
    DryRun,
}

/// What a backup did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct BackupReport {
    /// The snapshot's id; none after a dry run.
    pub snapshot: Option<Digest>,
    pub number: Option<u64>,
    pub source: SourceId,
    pub source_clock: Moment,
    pub rows: u64,
    /// Bytes of leaf content and streams.
    pub content_bytes: u64,
    /// Bytes of packs that were new.
    pub new_bytes: u64,
    pub packs: usize,
    /// Bytes of the manifest.
    pub manifest_bytes: u64,
    pub tables: Vec<TableReport>,
    pub gaps: Vec<GapSummary>,
    /// How rows would be placed differently today.
    pub drift: Vec<String>,
    /// Things worth telling that change nothing.
    pub notes: Vec<String>,
    /// How long the live database's image was held open, in milliseconds.
    pub image_held_ms: u64,
    /// Packs of interrupted runs that were put to use.
    pub adopted: usize,
    pub races_lost: usize,
}

/// What a backup found in one table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TableReport {
    pub name: String,
    pub rows: u64,
    pub orphans: u64,
    pub duplicates: u64,
    pub leaves: u64,
    pub leaves_new: u64,
}

/// Takes a snapshot of `source`.
pub fn run(unlocked: &mut Unlocked, source: &mut dyn Source, options: &BackupOptions) -> Result<BackupReport, OpError> {
    if unlocked.role() != Role::Operator {
        return Err(unlocked.wrong_role("a backup", "an operator").into());
    }
    let started = unlocked.repository().env().now();
    let (epoch, _) = unlocked
        .repository()
        .roster()
        .open_epoch()
        .ok_or_else(|| RepoError::Missing { object: "an epoch that is open for writing".to_owned() })?;
    let (source_id, early) = match &options.source {
        BackupSubject::Known(id) => (*id, None),
        BackupSubject::New(name) => {
            let described = describe(unlocked, source, options)?;
            (add_source(unlocked, name)?, Some(described))
        }
    };
    let keys = unlocked.source_keys(source_id, epoch, "a backup")?;
    options.progress.phase("looking at the store", CountUnit::Objects, None);
    let mut ledger = Ledger::load(unlocked.repository(), source_id)?;
    let base = known_chunks::load(unlocked, &ledger, &keys.structure, epoch)?;
    let mut notes = ledger.warnings_at_head();
    notes.extend(base.notes.iter().cloned());
    let prior = last_manifest(unlocked, &ledger, &mut notes)?;
    let (description, opened) = early.map_or_else(|| describe(unlocked, source, options), Ok)?;
    check_clock(&ledger, description.source_clock)?;
    if let Some(bytes) = description.bytes_estimate
        && let Err(error) = check_space(&options.spill_dir, bytes)
    {
        // A bloated table has fewer rows than pages, so this is no reason not to try.
        let end = match error {
            SpillError::Create { .. } => "if one is needed, the backup ends",
            _ => "if they fill it, the backup ends",
        };
        options.progress.note(&format!("{error}; {end}: --spill-dir names another place"));
    }
    let schema_digest = data_encoding::HEXLOWER.encode(&keys.ids.row_hash(&description.schema));
    let update = update(prior.catalog.as_ref(), &description, &options.placement, schema_digest, options.pinned);
    let (keys, base, description) = (&keys, &base, &description);
    let night = BackupRun { unlocked, options, source: source_id, epoch, keys, base, description, started, opened };
    let (session, wrap) = night.session()?;
    let stored = night.store(source, &update, (&session, &wrap))?;
    let draft = night.draft(&update, &stored, prior.manifest.as_ref(), &wrap)?;
    let manifest = manifest::seal(&draft, &session, 0)?;
    let mut report = BackupReport { notes, ..night.report(&update, &stored, &draft, manifest.len() as u64) };
    if options.mode == BackupMode::Commit {
        options.progress.phase("committing", CountUnit::Objects, None);
        let clock = description.source_clock;
        let snapshot = draft_entry(clock, session.session(), epoch, options.tags.clone());
        let preconditions = stored.counted(base);
        let committed = commit(unlocked, &mut ledger, SnapshotCandidate { snapshot, manifest, preconditions })?;
        report.snapshot = Some(committed.entry.sha256);
        report.number = Some(committed.entry.number);
        report.races_lost = committed.races_lost;
    }
    Ok(report)
}

/// Opens the database's image; gives when that was.
fn describe(
    unlocked: &Unlocked,
    source: &mut dyn Source,
    options: &BackupOptions,
) -> Result<(Description, Moment), OpError> {
    options.progress.phase("reading the schema", CountUnit::Objects, None);
    options.progress.image(ImageState::Held);
    let opened = unlocked.repository().env().now();
    Ok((source.describe().map_err(OpError::from_source)?, opened))
}

/// What stays the same for the whole of one run.
struct BackupRun<'a> {
    unlocked: &'a Unlocked,
    options: &'a BackupOptions,
    source: SourceId,
    epoch: Epoch,
    keys: &'a SourceKeys,
    base: &'a KnownChunks,
    description: &'a Description,
    started: Moment,
    /// When the image was.
    opened: Moment,
}

/// What the rows became.
struct StoredRows {
    found: ReadTotals,
    written: Written,
    used: UsedPacks,
    schema: crate::format::cell::StreamRef,
    image_held_ms: u64,
}

impl StoredRows {
    fn counted(&self, base: &KnownChunks) -> Preconditions {
        let mut counted = Preconditions::default();
        for ordinal in self.used.iter() {
            let digest = base.index.packs()[ordinal as usize].pack.digest;
            match base.adopted.get(&digest) {
                Some(object) => counted.adopted.push(*object),
                None => {
                    counted.packs.insert(digest);
                }
            }
        }
        counted.added =
            self.written.packs.iter().map(|pack| ObjectRef { sha256: pack.digest, size: pack.size }).collect();
        counted
    }

    fn tree(&self, tree: u32) -> Option<&BuiltTree> {
        self.written.trees.iter().find(|built| built.tree == tree)
    }
}

impl BackupRun<'_> {
    fn session(&self) -> Result<(SessionKeys, SessionWrap), OpError> {
        let repository = self.unlocked.repository();
        let restore = repository.roster().restore_key(self.epoch)?;
        let made = SessionKeys::create(repository.env(), &restore, &self.keys.structure, &self.keys.ids);
        made.map_err(|error| {
            let object = format!("the restore key of epoch {}", self.epoch);
            RepoError::Damaged { object, reason: error.to_string() }.into()
        })
    }

    fn store(
        &self,
        source: &mut dyn Source,
        update: &Update,
        (session, wrap): (&SessionKeys, &SessionWrap),
    ) -> Result<StoredRows, OpError> {
        let repository = self.unlocked.repository();
        let plans = plan(update, &self.description.tables);
        let used = UsedPacks::new(self.base.index.packs().len());
        let spill = SpillOptions { dir: self.options.spill_dir.clone(), memory_bytes: 0, env: repository.shared_env() };
        let tables = TablePipeline {
            ids: &self.keys.ids,
            progress: self.options.progress.clone(),
            cancel: self.options.cancel.clone(),
            spill: spill.clone(),
            description: self.description,
            plans: &plans,
        };
        let setup = WriterSetup {
            objects: repository.objects(),
            env: repository.shared_env(),
            progress: self.options.progress.clone(),
            cancel: self.options.cancel.clone(),
            identity: self.unlocked.identity(),
            ids: &self.keys.ids,
            session,
            wrap,
            known: &self.base.index,
            workers: self.options.workers,
            spill,
            mode: match self.options.mode {
                BackupMode::Commit => WriteMode::Store,
                BackupMode::DryRun => WriteMode::Count,
            },
        };
        let announcer = Announcer::new(self.unlocked, session.context(), session.session(), wrap);
        let result = write(&setup, &announcer, &used, |chunk_sink| {
            let schema = chunk_sink.stream(&self.description.schema)?;
            let mut image_held_ms = 0;
            let mut release = |source: &mut dyn Source| {
                let released = source.release().map_err(OpError::from_source);
                self.options.progress.image(ImageState::LetGo);
                image_held_ms = self.since_opened_ms();
                released
            };
            let found = tables.feed(source, chunk_sink, &mut release)?;
            Ok::<_, OpError>((schema, found, image_held_ms))
        });
        match result {
            Ok(((schema, found, image_held_ms), written)) => {
                Ok(StoredRows { found, written, used, schema, image_held_ms })
            }
            Err(error) => {
                // What is in the store already is worth telling the next run, but no reason to hide
                // why this one ended.
                let _ = announcer.flush();
                Err(error)
            }
        }
    }

    fn since_opened_ms(&self) -> u64 {
        let now = self.unlocked.repository().env().now();
        u64::try_from((now.0 - self.opened.0) / 1000).unwrap_or(0)
    }

    fn draft(
        &self,
        update: &Update,
        stored: &StoredRows,
        prior: Option<&OpenManifest>,
        wrap: &SessionWrap,
    ) -> Result<ManifestDraft, OpError> {
        let mut catalog = update.catalog.clone();
        for table in &mut catalog.tables {
            table.rows_per_leaf = stored.found.pinned.get(&table.number).copied().or(table.rows_per_leaf);
        }
        let needed: HashSet<_> =
            self.base.index.packs().iter().flat_map(|pack| pack.pack.sessions.iter().copied()).collect();
        let prior = prior.filter(|manifest| manifest.context.epoch == self.epoch);
        let (mut pages, old) = prior.map_or((Vec::new(), &[][..]), |p| (p.pages.clone(), p.wraps.as_slice()));
        let mut wraps = carry_wraps(old, |session| needed.contains(session), &self.base.wraps, wrap);
        if wraps.len() >= WRAPS_PER_PAGE {
            let own = wraps.split_off(WRAPS_PER_PAGE - 1);
            let mut full = std::mem::replace(&mut wraps, own.clone());
            full.push(own[0].clone());
            pages.push(self.store_page(full)?);
        }
        let roots = self.roots(&catalog, stored);
        let hint = |index: &Index| {
            let location = index.get(&stored.schema.id)?;
            StoredLocation::new(&index.packs()[location.pack as usize].pack, &location)
        };
        let schema_at = hint(&self.base.index).or_else(|| hint(&stored.written.index));
        let secrets = Secrets { schema: stored.schema.into(), schema_at };
        Ok(ManifestDraft { summary: self.summary(&catalog, stored), catalog, roots, secrets, pages, wraps })
    }

    fn store_page(&self, wraps: Vec<SessionWrap>) -> Result<Digest, OpError> {
        let repository = self.unlocked.repository();
        let page = WrapPage { repository: repository.id(), source: self.source, wraps }.to_bytes();
        let digest = Digest::of(&page);
        if self.options.mode == BackupMode::Commit {
            let name = Name::Wraps(self.source, digest);
            repository.objects().create(&name, page.into()).map_err(RepoError::Store)?;
        }
        Ok(digest)
    }

    fn roots(&self, catalog: &Catalog, stored: &StoredRows) -> Vec<TreeRoot> {
        let mut roots = Vec::new();
        for table in &catalog.tables {
            let kinds =
                [(rows_tree(table.number), TreeKind::Rows), (references_tree(table.number), TreeKind::References)];
            for (tree, kind) in kinds {
                if let Some(built) = stored.tree(tree) {
                    roots.push(TreeRoot { table: table.number, kind, ..built.root.clone() });
                }
            }
        }
        roots
    }

    fn summary(&self, catalog: &Catalog, stored: &StoredRows) -> Summary {
        let tables = catalog
            .tables
            .iter()
            .filter_map(|table| {
                let built = stored.tree(rows_tree(table.number))?;
                let counts = stored.found.counts.get(&built.tree).copied().unwrap_or_default();
                Some(TableSummary {
                    number: table.number,
                    name: table.name.clone(),
                    layout: table.layout,
                    rows: counts.owned + counts.none + counts.orphan,
                    owned: counts.owned,
                    none: counts.none,
                    orphan: counts.orphan,
                    duplicates: counts.duplicates,
                    bytes: built.bytes,
                    owners: built.owners,
                    leaves: built.leaves,
                    leaves_new: built.leaves_new,
                })
            })
            .collect();
        let gaps = self.description.gaps.iter().chain(&stored.found.gaps);
        Summary {
            engine: catalog.engine.clone(),
            source_clock: self.description.source_clock,
            started: self.started,
            tables,
            gaps: gaps.map(|gap| GapSummary { object: gap.object.clone(), reason: gap.reason.clone() }).collect(),
            streams: stored.found.streams,
            stream_bytes: stored.found.stream_bytes,
            journal: None,
            proofs: None,
        }
    }

    fn report(&self, update: &Update, stored: &StoredRows, draft: &ManifestDraft, manifest_bytes: u64) -> BackupReport {
        let summary = &draft.summary;
        let table = |table: &TableSummary| TableReport {
            name: table.name.clone(),
            rows: table.rows,
            orphans: table.orphan,
            duplicates: table.duplicates,
            leaves: table.leaves,
            leaves_new: table.leaves_new,
        };
        BackupReport {
            snapshot: None,
            number: None,
            source: self.source,
            source_clock: summary.source_clock,
            rows: stored.found.rows,
            content_bytes: summary.tables.iter().map(|table| table.bytes).sum::<u64>() + summary.stream_bytes,
            new_bytes: stored.written.packs.iter().map(|pack| pack.size).sum(),
            packs: stored.written.packs.len(),
            manifest_bytes,
            tables: summary.tables.iter().map(table).collect(),
            gaps: summary.gaps.clone(),
            drift: update.drift.clone(),
            notes: Vec::new(),
            image_held_ms: stored.image_held_ms,
            adopted: stored.counted(self.base).adopted.len(),
            races_lost: 0,
        }
    }
}
