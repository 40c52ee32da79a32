//! Reading chunks: by their hints in long ranges, and by the index where a hint leads nowhere. Every
//! frame is opened under the id that its parent names, and the id is computed again.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::base::frame::{FrameType, SessionWrap, Tier};
use crate::base::id::SessionId;
use crate::crypto::seal::Opener;
use crate::format::codec;
use crate::format::name::Name;
use crate::format::node::{FrameLocation, PackRef, Skeleton};
use crate::format::wire::WireError;
use crate::repo::error::RepoError;
use crate::repo::index::Index;
use crate::repo::io::Read;
use crate::repo::known_chunks;
use crate::repo::manifest::read_page;
use crate::repo::pack_table::PackTable;
use crate::repo::reader::snapshot::{SnapshotReader, Want};
use crate::store::StoreError;

/// Frames that are at most this far apart are read in one go.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// Longest range that is read in one go.
const RUN_BYTES_MAX: u64 = 2 << 20;

impl SnapshotReader<'_> {
    /// Reads chunks, several at once, in the order in which they lie in their packs.
    pub fn fetch<E: From<RepoError>>(
        &self,
        wants: &[Want],
        mut each: impl FnMut(usize, Result<Vec<u8>, RepoError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let runs = self.runs(wants);
        let reads: Vec<Read> = runs.iter().map(|run| run.read.clone()).collect();
        let mut alone = Vec::new();
        let mut placeless: Vec<usize> = (0..wants.len()).filter(|at| wants[*at].location.is_none()).collect();
        self.unlocked.repository().objects().get_many::<E>(&reads, |at, bytes| {
            let run = &runs[at];
            match bytes {
                Ok(bytes) => {
                    for &want in &run.wants {
                        match self.open_in_run(&wants[want], run.offset, &bytes) {
                            Ok(content) => each(want, Ok(content))?,
                            Err(_) => placeless.push(want),
                        }
                    }
                }
                Err(StoreError::NotFound { .. }) => placeless.extend(&run.wants),
                // The pack is cut off somewhere; what lies before that can be read by itself.
                Err(StoreError::Short { .. }) => alone.extend(&run.wants),
                Err(error) => {
                    let mut error = Some(error);
                    for &want in &run.wants {
                        let error =
                            error.take().unwrap_or_else(|| StoreError::NotFound { name: run.read.name.to_string() });
                        each(want, Err(RepoError::Store(error)))?;
                    }
                }
            }
            Ok(())
        })?;
        for want in alone {
            match self.fetch_by_hint(&wants[want]) {
                Ok(content) => each(want, Ok(content))?,
                Err(_) => placeless.push(want),
            }
        }
        for want in placeless {
            each(want, self.fetch_by_index(&wants[want]))?;
        }
        Ok(())
    }

    /// Reads one chunk.
    pub fn fetch_one(&self, want: Want) -> Result<Vec<u8>, RepoError> {
        let mut found = None;
        self.fetch(&[want], |_, content| {
            found = Some(content?);
            Ok::<(), RepoError>(())
        })?;
        found.ok_or_else(|| RepoError::Missing { object: describe(&want) })
    }

    fn runs(&self, wants: &[Want]) -> Vec<FetchRun> {
        let mut placed: Vec<(usize, FrameLocation)> =
            wants.iter().enumerate().filter_map(|(at, want)| want.location.map(|location| (at, location))).collect();
        placed.sort_by_key(|(_, location)| (location.pack, location.offset));
        let mut runs: Vec<FetchRun> = Vec::new();
        let mut last_pack = None;
        for (at, location) in placed {
            let (start, end) = (u64::from(location.offset), u64::from(location.offset) + u64::from(location.stored));
            if let Some(run) = runs.last_mut()
                && last_pack == Some(location.pack)
                && start <= run.end + GAP_BYTES_MAX
                && end - run.offset <= RUN_BYTES_MAX
            {
                run.end = run.end.max(end);
                run.read.range = Some((run.offset, run.end - run.offset));
                run.wants.push(at);
                continue;
            }
            last_pack = Some(location.pack);
            let name = Name::Pack(self.context.source, self.pack(location.pack).digest);
            let read = Read { name, range: Some((start, end - start)), bytes_max: 0 };
            runs.push(FetchRun { read, offset: start, end, wants: vec![at] });
        }
        runs
    }

    fn open_in_run(&self, want: &Want, run_offset: u64, bytes: &[u8]) -> Result<Vec<u8>, RepoError> {
        let location = want.location.as_ref().ok_or_else(|| RepoError::Missing { object: describe(want) })?;
        let start = usize::try_from(u64::from(location.offset) - run_offset).unwrap_or(usize::MAX);
        let sealed = bytes.get(start..start.saturating_add(location.stored as usize));
        let sealed = sealed.ok_or_else(|| RepoError::Missing { object: describe(want) })?;
        let pack = self.pack(location.pack);
        self.open_frame(want, &pack, location, sealed.to_vec())
    }

    /// Opens a frame under the id that it must have, and computes the id again.
    fn open_frame(
        &self,
        want: &Want,
        pack: &PackRef,
        location: &FrameLocation,
        mut sealed: Vec<u8>,
    ) -> Result<Vec<u8>, RepoError> {
        let object = || format!("{} in {}", describe(want), Name::Pack(self.context.source, pack.digest));
        let session = pack
            .sessions
            .get(usize::from(location.session))
            .ok_or_else(|| RepoError::wire(object(), &WireError::Invalid { what: "session of a hint" }))?;
        let opener = self.opener(*session, want.kind.tier(), pack)?;
        opener
            .open(want.kind, &want.id, location.frame_counter, &mut sealed)
            .map_err(|error| RepoError::sealed(object(), &error))?;
        let content = codec::decode(location.codec, sealed).map_err(|error| RepoError::codec(object(), &error))?;
        self.check_id(want, &content, &object)?;
        Ok(content)
    }

    fn check_id(&self, want: &Want, content: &[u8], object: &dyn Fn() -> String) -> Result<(), RepoError> {
        let found = match want.kind {
            FrameType::Node | FrameType::List => {
                let hashed = Skeleton::hashed_of(content).map_err(|error| RepoError::wire(object(), &error))?;
                self.structure.chunk_id(want.kind, hashed)
            }
            // Their content is compared with the digest in their node, by whoever has both.
            FrameType::Ranges => return Ok(()),
            kind => self.ids.as_ref().map(|ids| ids.chunk_id(kind, content)),
        };
        match found {
            Some(found) if found != want.id => {
                Err(RepoError::Damaged { object: object(), reason: "its content has another id".to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn opener(&self, session: SessionId, tier: Tier, pack: &PackRef) -> Result<Arc<Opener>, RepoError> {
        let mut openers = self.openers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opener) = openers.get(&(session, tier)) {
            return Ok(Arc::clone(opener));
        }
        let opener = match tier {
            Tier::Structure => self.structure.opener(session),
            Tier::Catalog => {
                let ids = self.ids.as_ref();
                ids.ok_or_else(|| self.unlocked.wrong_role("reading a catalog", "an operator or admin"))?
                    .opener(session)
            }
            Tier::Data => {
                let admin = self.unlocked.admin(self.context.epoch, "opening rows")?;
                let wrap = self.wrap(session, pack)?;
                admin
                    .opener(self.context.source, &wrap)
                    .map_err(|source| RepoError::Grant { key: self.unlocked.key(), source })?
            }
        };
        let opener = Arc::new(opener);
        openers.insert((session, tier), Arc::clone(&opener));
        Ok(opener)
    }

    /// The wrap of a session: from the manifest, its pages, or the header of a pack that it wrote.
    fn wrap(&self, session: SessionId, pack: &PackRef) -> Result<SessionWrap, RepoError> {
        let mut wraps = self.wraps.lock().unwrap_or_else(PoisonError::into_inner);
        if !wraps.contains_key(&session) {
            for page in &self.manifest.pages {
                // A page that is gone is no loss while the pack's own header has the wrap.
                if let Ok(page) = read_page(self.unlocked.repository().objects(), self.context, *page) {
                    wraps.extend(page.into_iter().map(|wrap| (wrap.session(), wrap)));
                }
            }
        }
        if !wraps.contains_key(&session) {
            let size = self.inventory.iter().find(|known| known.0 == pack.digest).map_or(1 << 20, |known| known.1);
            let table = PackTable::read(self.unlocked.repository().objects(), &self.structure, pack.digest, size)?;
            wraps.extend(table.header.wraps.into_iter().map(|wrap| (wrap.session(), wrap)));
        }
        let object = || format!("the data key of session {session}");
        wraps.get(&session).cloned().ok_or_else(|| RepoError::Missing { object: object() })
    }

    fn fetch_by_hint(&self, want: &Want) -> Result<Vec<u8>, RepoError> {
        let location = want.location.ok_or_else(|| RepoError::Missing { object: describe(want) })?;
        let name = Name::Pack(self.context.source, self.pack(location.pack).digest);
        let objects = self.unlocked.repository().objects();
        let (offset, len) = (u64::from(location.offset), u64::from(location.stored));
        let sealed = objects.get_range(&name, offset, len).map_err(RepoError::referenced)?;
        self.open_in_run(want, offset, &sealed)
    }

    /// The way without a hint.
    fn fetch_by_index(&self, want: &Want) -> Result<Vec<u8>, RepoError> {
        let index = self.index()?;
        let hinted = want.location.map(|location| Name::Pack(self.context.source, self.pack(location.pack).digest));
        let object = || match hinted {
            Some(name) => format!("{} in {name}", describe(want)),
            None => describe(want),
        };
        let Some(location) = index.get(&want.id) else { return Err(RepoError::Missing { object: object() }) };
        let pack = &index.packs()[location.pack as usize].pack;
        let name = Name::Pack(self.context.source, pack.digest);
        let objects = self.unlocked.repository().objects();
        let sealed = objects
            .get_range(&name, u64::from(location.offset), u64::from(location.stored))
            .map_err(RepoError::referenced)?;
        let content = self.open_frame(want, pack, &location, sealed.to_vec())?;
        self.stale_hints.fetch_add(u64::from(want.location.is_some()), Ordering::Relaxed);
        Ok(content)
    }

    fn index(&self) -> Result<&Index, RepoError> {
        if self.index.get().is_none() {
            let repository = self.unlocked.repository();
            let loaded = known_chunks::index_of_readable(repository, &self.structure, &self.signers, &self.inventory)?;
            let _ = self.index.set(loaded.index);
        }
        Ok(self.index.get().expect("just set"))
    }
}

struct FetchRun {
    read: Read,
    offset: u64,
    end: u64,
    wants: Vec<usize>,
}

pub(super) fn describe(want: &Want) -> String {
    let what = match want.kind {
        FrameType::Leaf => "leaf",
        FrameType::Node => "node",
        FrameType::Ranges => "ranges",
        FrameType::Piece => "piece",
        FrameType::List => "list",
        _ => "frame",
    };
    format!("{what} {}", want.id)
}
