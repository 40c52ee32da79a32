//! Reads all rows of the source and stores what the repository does not have yet.

use crate::base::finding::Finding;
use crate::base::frame::SessionWrap;
use crate::base::id::{Digest, Epoch, SourceId};
use crate::base::progress::ImageState;
use crate::base::time::Moment;
use crate::crypto::session::SessionKeys;
use crate::engine::contract::{Description, Source};
use crate::format::catalog::DictionaryEntry;
use crate::format::cell::StreamRef;
use crate::format::entry::Snapshot;
use crate::ops::backup::options::{BackupMode, BackupOptions};
use crate::ops::backup::pipeline::{ReadTotals, TablePipeline};
use crate::ops::backup::plan::{TablePlan, plan};
use crate::ops::error::OpError;
use crate::ops::placement::update::Update;
use crate::repo::commit::{Preconditions, draft_entry};
use crate::repo::dictionaries::DictionaryShelf;
use crate::repo::error::RepoError;
use crate::repo::known_chunks::KnownChunks;
use crate::repo::open::{SourceKeys, Unlocked};
use crate::repo::writer::{Announcer, ChunkSink, StoredPack, UsedPacks, WriteMode, WriterSetup, Written, write};
use crate::sort::{SpillFiles, SpillOptions};

/// What does not change during one backup run.
pub struct BackupRun<'a> {
    pub unlocked: &'a Unlocked,
    pub options: &'a BackupOptions,
    pub source: SourceId,
    pub epoch: Epoch,
    pub keys: &'a SourceKeys,
    pub known: &'a KnownChunks,
    pub image: &'a SourceImage,
    pub started: Moment,
}

/// The image of the database that is backed up. While rows are stored, its description has no schema document any more.
pub struct SourceImage {
    pub description: Description,
    pub opened: Moment,
}

/// The keys of this run's chunks, and the wrap from which a restore gets them.
pub struct WriterSession {
    pub keys: SessionKeys,
    pub wrap: SessionWrap,
}

/// What was read and stored.
pub struct StoredRows {
    pub totals: ReadTotals,
    pub written: Written,
    /// The dictionaries that the catalog names.
    pub dictionaries: Vec<DictionaryEntry>,
    pub used: UsedPacks,
    /// The schema document.
    pub schema: StreamRef,
    pub image_held_ms: u64,
}

/// What was read and passed to the writer.
struct FedRows {
    totals: ReadTotals,
    schema: StreamRef,
    image_held_ms: u64,
}

impl StoredRows {
    /// Bytes of the packs that were written.
    #[must_use]
    pub fn pack_bytes(&self) -> u64 {
        self.written.packs.iter().map(|pack| pack.size).sum()
    }

    /// The packs that must exist when the snapshot is committed.
    #[must_use]
    pub fn preconditions(&self, known: &KnownChunks) -> Preconditions {
        let mut preconditions = Preconditions {
            added: self.written.packs.iter().map(StoredPack::object).collect(),
            ..Preconditions::default()
        };
        for digest in self.used_packs(known) {
            match known.adopted.get(&digest) {
                Some(object) => preconditions.adopted.push(*object),
                None => {
                    preconditions.packs.insert(digest);
                }
            }
        }
        preconditions
    }

    fn used_packs(&self, known: &KnownChunks) -> impl Iterator<Item = Digest> {
        self.used.iter().map(|ordinal| known.index.packs()[ordinal as usize].pack.digest)
    }
}

impl BackupRun<'_> {
    /// What is not captured: first the gaps in the description, then the gaps found while rows were read.
    pub fn gaps<'g>(&'g self, stored: &'g StoredRows) -> impl Iterator<Item = &'g Finding> {
        self.image.description.gaps.iter().chain(&stored.totals.gaps)
    }

    /// New keys for this run's chunks.
    /// Fails if the epoch has no usable restore key.
    pub fn create_session(&self) -> Result<WriterSession, OpError> {
        let repository = self.unlocked.repository();
        let restore_key = repository.roster().restore_key(self.epoch)?;
        let created = SessionKeys::create(repository.env(), &restore_key, &self.keys.structure, &self.keys.ids);
        match created {
            Ok((keys, wrap)) => Ok(WriterSession { keys, wrap }),
            Err(error) => Err(self.unusable_restore_key(&error).into()),
        }
    }

    fn unusable_restore_key(&self, error: &impl ToString) -> RepoError {
        let object = format!("the restore key of epoch {}", self.epoch);
        RepoError::damaged(object, error.to_string())
    }

    /// The ledger entry of this run's snapshot, without its manifest.
    pub fn draft_entry(&self, session: &WriterSession) -> Snapshot {
        let clock = self.image.description.source_clock;
        draft_entry(clock, session.keys.session(), self.epoch, self.options.tags.clone())
    }

    /// Reads all rows and stores the chunks that are new, and the schema document.
    /// Fails if the source, the spill directory or the store fails, or the backup is cancelled. Packs that are stored
    /// by then are announced, so that the next run can reuse them.
    pub fn store(
        &self,
        source: &mut dyn Source,
        update: &Update,
        session: &WriterSession,
        schema: Vec<u8>,
    ) -> Result<StoredRows, OpError> {
        let plans = plan(update, &self.image.description.tables);
        let dictionaries = DictionaryShelf::of(&update.catalog);
        let tables = self.table_pipeline(&plans, &dictionaries);
        let used = UsedPacks::new(self.known.index.packs().len());
        let (fed, written) =
            self.write(session, &dictionaries, &used, |chunk_sink| self.feed(&tables, source, chunk_sink, schema))?;
        let FedRows { totals, schema, image_held_ms } = fed;
        let dictionaries = dictionaries.with_new(&written.dictionaries);
        Ok(StoredRows { totals, written, dictionaries, used, schema, image_held_ms })
    }

    fn write(
        &self,
        session: &WriterSession,
        dictionaries: &DictionaryShelf,
        used: &UsedPacks,
        feed: impl FnOnce(&ChunkSink<'_>) -> Result<FedRows, OpError>,
    ) -> Result<(FedRows, Written), OpError> {
        let setup = self.writer_setup(session, dictionaries);
        let announcer = Announcer::new(self.unlocked, session.keys.context(), session.keys.session(), &session.wrap);
        let result = write(&setup, &announcer, used, feed);
        if result.is_err() {
            // The next run can reuse the packs that are stored already. A failure here must not hide why this run
            // failed.
            let _ = announcer.flush();
        }
        result
    }

    fn feed(
        &self,
        tables: &TablePipeline<'_>,
        source: &mut dyn Source,
        chunk_sink: &ChunkSink<'_>,
        document: Vec<u8>,
    ) -> Result<FedRows, OpError> {
        let schema = chunk_sink.stream(&document)?;
        // With many tables it takes much memory.
        drop(document);
        let mut image_held_ms = 0;
        let mut release = |source: &mut dyn Source| {
            let gaps = self.release(source);
            image_held_ms = self.image_held_ms();
            gaps
        };
        let totals = tables.feed(source, chunk_sink, &mut release)?;
        Ok(FedRows { totals, schema, image_held_ms })
    }

    fn release(&self, source: &mut dyn Source) -> Result<Vec<Finding>, OpError> {
        let gaps = source.release().map_err(OpError::from_engine);
        self.options.progress.image(ImageState::Released);
        gaps
    }

    fn image_held_ms(&self) -> u64 {
        let now = self.unlocked.repository().env().now();
        u64::try_from((now.0 - self.image.opened.0) / 1000).unwrap_or(0)
    }

    fn table_pipeline<'r>(&'r self, plans: &'r [TablePlan], dictionaries: &'r DictionaryShelf) -> TablePipeline<'r> {
        TablePipeline {
            ids: &self.keys.ids,
            progress: self.options.progress.clone(),
            cancel: self.options.cancel.clone(),
            spill: self.spill_options(),
            description: &self.image.description,
            plans,
            dictionaries,
        }
    }

    fn writer_setup<'r>(&'r self, session: &'r WriterSession, dictionaries: &'r DictionaryShelf) -> WriterSetup<'r> {
        let repository = self.unlocked.repository();
        WriterSetup {
            objects: repository.objects(),
            env: repository.shared_env(),
            progress: self.options.progress.clone(),
            cancel: self.options.cancel.clone(),
            identity: self.unlocked.identity(),
            ids: &self.keys.ids,
            session: &session.keys,
            wrap: &session.wrap,
            known_index: &self.known.index,
            dictionaries,
            workers: self.options.workers,
            spill: self.spill_options(),
            mode: write_mode(self.options.mode),
        }
    }

    /// Where rows and streams are spilled to disk. Each sorter sets its own memory limit.
    fn spill_options(&self) -> SpillOptions {
        let env = self.unlocked.repository().shared_env();
        let dir = self.options.spill_dir.clone();
        SpillOptions { dir, memory_bytes: 0, env, files: SpillFiles::default() }
    }
}

fn write_mode(mode: BackupMode) -> WriteMode {
    match mode {
        BackupMode::Commit => WriteMode::Store,
        BackupMode::DryRun => WriteMode::Count,
    }
}
