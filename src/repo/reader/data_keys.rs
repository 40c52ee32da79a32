//! The data keys of sessions. The wrap of a session is in the header of every pack that holds frames of it, and in the
//! manifest of the session itself. One header is read for each session, together with the first frames if they
//! are near. If it is damaged, the headers of other packs are read, and at last the first announcement of the session.
//!
//! An operator whose key was stolen can commit a pack that names an honest session, with a key of the thief's choice in
//! its header. That key opens the thief's frames and no others. So no key is final: a frame that the known keys do not
//! open is tried with the key in the header of its own pack.

use std::sync::Arc;

use crate::base::frame::SessionWrap;
use crate::base::id::{Digest, SessionId};
use crate::base::limit::{PACK_WRAPS_MAX, STATEMENT_BYTES_MAX};
use crate::base::pipeline::lock;
use crate::crypto::seal::SealError;
use crate::format::announcement::Announcement;
use crate::format::dsse::Envelope;
use crate::format::name::Name;
use crate::format::node::{FrameLocation, PackRef};
use crate::format::pack::PackHeader;
use crate::format::wire::Take;
use crate::repo::error::{InObject, RepoError};
use crate::repo::reader::known_keys::{DataKey, FoundWrap};
use crate::repo::reader::snapshot::{SnapshotReader, Want};

/// Most headers that are read for a key after the first one.
const OTHER_PACKS_MAX: usize = 16;

/// A sealed frame and where it is from.
pub(super) struct SealedFrameAt<'a> {
    pub(super) want: &'a Want,
    pub(super) pack: &'a PackRef,
    pub(super) location: &'a FrameLocation,
    pub(super) session: SessionId,
}

impl SealedFrameAt<'_> {
    fn open(&self, key: &DataKey, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut content = sealed.to_vec();
        key.opener.open(self.want.kind, &self.want.id, self.location.frame_counter, &mut content).ok()?;
        Some(content)
    }
}

impl SnapshotReader<'_> {
    /// Adds the key of the manifest's own session, if this role can open it.
    pub(super) fn add_own_key(&self) {
        if let Ok(key) = self.open_wrap(FoundWrap { object: self.object, wrap: self.manifest.wrap.clone() }) {
            self.keys.add(self.manifest.session, Arc::new(key));
        }
    }

    /// Objects in which the key of a session should be and is not, or is not usable. Each is returned once.
    #[must_use]
    pub fn take_damaged_keys(&self) -> Vec<RepoError> {
        std::mem::take(&mut *lock(&self.keys.damaged))
    }

    /// Takes the wraps of sessions without a key from the first bytes of a pack.
    pub(super) fn add_header(&self, pack: Digest, bytes: &[u8]) {
        let Ok(header) = PackHeader::read(&mut Take::new(bytes)) else { return };
        if header.context() != self.context {
            return;
        }
        let wraps = header.wraps.into_iter().filter(|wrap| self.keys.lacks(&wrap.session()));
        lock(&self.keys.headers).extend(wraps.map(|wrap| ((pack, wrap.session()), wrap)));
    }

    /// The content of a sealed frame of the data tier.
    /// Fails if no key of its session opens it, or if the store fails.
    pub(super) fn unseal_data(&self, frame: &SealedFrameAt<'_>, sealed: &[u8]) -> Result<Vec<u8>, RepoError> {
        // Fail early: without an admin key no wrap can be opened.
        self.unlocked.admin(self.context.epoch, "opening rows")?;
        if let Some(content) = self.open_with_known_key(frame, sealed) {
            return Ok(content);
        }
        let finding = self.keys.finding(frame.session);
        let _finding = lock(&finding);
        let opened = match self.open_with_known_key(frame, sealed) {
            Some(content) => Some(content),
            None => self.open_with_new_key(frame, sealed)?,
        };
        opened.ok_or_else(|| self.unopened(frame))
    }

    fn open_with_known_key(&self, frame: &SealedFrameAt<'_>, sealed: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.for_pack(&frame.session, &frame.pack.digest);
        keys.into_iter().find_map(|key| self.open_with(frame, key, sealed))
    }

    /// Opens the frame and remembers the key, if this is its key.
    fn open_with(&self, frame: &SealedFrameAt<'_>, key: Arc<DataKey>, sealed: &[u8]) -> Option<Vec<u8>> {
        let content = frame.open(&key, sealed)?;
        self.keys.add_opened(frame.session, frame.pack.digest, key);
        Some(content)
    }

    /// Looks for a key that opens the frame: in the header of its own pack, then in other objects.
    fn open_with_new_key(&self, frame: &SealedFrameAt<'_>, sealed: &[u8]) -> Result<Option<Vec<u8>>, RepoError> {
        let own = self.look_at_own_pack(frame)?;
        let opened = own.as_ref().and_then(|key| self.open_with(frame, Arc::clone(key), sealed));
        if opened.is_some() || !self.keys.must_search(frame.session) {
            return Ok(opened);
        }
        self.search_keys(frame)?;
        let opened = self.open_with_known_key(frame, sealed);
        if let (Some(_), Some(own)) = (&opened, own) {
            self.report_wrong_key(frame.session, &own);
        }
        Ok(opened)
    }

    /// Adds the key in the header of the frame's pack. `None` if it is not usable, or was added before.
    fn look_at_own_pack(&self, frame: &SealedFrameAt<'_>) -> Result<Option<Arc<DataKey>>, RepoError> {
        if !self.keys.must_look_at(frame.session, frame.pack.digest) {
            return Ok(None);
        }
        let read = lock(&self.keys.headers).remove(&(frame.pack.digest, frame.session));
        let found = match read {
            Some(wrap) => Ok(FoundWrap { object: self.name_of(frame.pack.digest), wrap }),
            None => self.wrap_in_header(frame.session, frame.pack),
        };
        self.add_usable(frame.session, found)
    }

    /// Adds the keys that other packs and the announcement have for the session.
    fn search_keys(&self, frame: &SealedFrameAt<'_>) -> Result<(), RepoError> {
        for pack in self.other_packs_of(frame)? {
            self.add_usable(frame.session, self.wrap_in_header(frame.session, &pack))?;
        }
        match self.announced_wrap(frame.session).and_then(|found| self.open_wrap(found)) {
            Ok(key) => self.keys.add(frame.session, Arc::new(key)),
            Err(error @ RepoError::Store(_)) => return Err(error),
            // Sessions of snapshots need no announcement.
            Err(_) => {}
        }
        Ok(())
    }

    fn add_usable(
        &self,
        session: SessionId,
        found: Result<FoundWrap, RepoError>,
    ) -> Result<Option<Arc<DataKey>>, RepoError> {
        let key = self.usable(found)?.map(Arc::new);
        if let Some(key) = &key {
            self.keys.add(session, Arc::clone(key));
        }
        Ok(key)
    }

    fn report_wrong_key(&self, session: SessionId, key: &DataKey) {
        let reason = format!("the key of session {session} in it does not open its frames");
        lock(&self.keys.damaged).push(RepoError::damaged(key.found.object, reason));
    }

    fn unopened(&self, frame: &SealedFrameAt<'_>) -> RepoError {
        if self.keys.lacks(&frame.session) {
            return RepoError::missing(format!("the data key of session {}", frame.session));
        }
        let error = SealError::Unauthentic { frame: frame.want.kind, id: frame.want.id };
        RepoError::sealed(self.in_pack(frame.want, frame.pack), &error)
    }

    /// The key, if the wrap could be read and opened. Otherwise its object is remembered as damaged.
    fn usable(&self, found: Result<FoundWrap, RepoError>) -> Result<Option<DataKey>, RepoError> {
        match found.and_then(|found| self.open_wrap(found)) {
            Ok(key) => Ok(Some(key)),
            Err(error @ RepoError::Store(_)) => Err(error),
            Err(error) => {
                lock(&self.keys.damaged).push(error);
                Ok(None)
            }
        }
    }

    fn open_wrap(&self, found: FoundWrap) -> Result<DataKey, RepoError> {
        match self.unlocked.data_opener(&self.context, &found.wrap) {
            Ok(opener) => Ok(DataKey { found, opener }),
            Err(_) => {
                let reason = format!("the key of session {} in it cannot be opened", found.wrap.session());
                Err(RepoError::damaged(found.object, reason))
            }
        }
    }

    /// Other packs with frames of the session. Not all, because the frame may be damaged, and not the key.
    fn other_packs_of(&self, frame: &SealedFrameAt<'_>) -> Result<Vec<PackRef>, RepoError> {
        let is_other = |pack: &&PackRef| pack.digest != frame.pack.digest && pack.sessions.contains(&frame.session);
        let packs = self.index()?.packs().iter().map(|indexed| &indexed.pack).filter(is_other);
        Ok(packs.take(OTHER_PACKS_MAX).cloned().collect())
    }

    fn wrap_in_header(&self, session: SessionId, pack: &PackRef) -> Result<FoundWrap, RepoError> {
        let object = self.name_of(pack.digest);
        let header = self.read_header(pack)?;
        self.check_context(object, &header)?;
        let wrap = header.wraps.into_iter().find(|wrap| wrap.session() == session);
        let wrap = wrap.ok_or_else(|| RepoError::damaged(object, format!("its header has no key of {session}")))?;
        Ok(FoundWrap { object, wrap })
    }

    fn check_context(&self, object: Name, header: &PackHeader) -> Result<(), RepoError> {
        if header.context() == self.context {
            return Ok(());
        }
        Err(RepoError::damaged(object, "it belongs to another repository, source or epoch"))
    }

    fn read_header(&self, pack: &PackRef) -> Result<PackHeader, RepoError> {
        let short = self.read_start(pack, pack.sessions.len())?;
        match PackHeader::read(&mut Take::new(&short)) {
            Ok(header) => Ok(header),
            // The hint may not name all sessions of the pack.
            Err(_) => self.read_long_header(pack),
        }
    }

    fn read_long_header(&self, pack: &PackRef) -> Result<PackHeader, RepoError> {
        let long = self.read_start(pack, PACK_WRAPS_MAX)?;
        PackHeader::read(&mut Take::new(&long)).in_object(self.name_of(pack.digest))
    }

    fn read_start(&self, pack: &PackRef, wraps: usize) -> Result<bytes::Bytes, RepoError> {
        let len = PackHeader::len(wraps.clamp(1, PACK_WRAPS_MAX));
        let len = self.size_of(&pack.digest).map_or(len, |size| size.min(len));
        let objects = self.unlocked.repository().objects();
        objects.get_range(&self.name_of(pack.digest), 0, len).map_err(RepoError::referenced)
    }

    fn announced_wrap(&self, session: SessionId) -> Result<FoundWrap, RepoError> {
        let object = Name::Session(self.context.source, session, 1);
        let objects = self.unlocked.repository().objects();
        let bytes = objects.get(&object, STATEMENT_BYTES_MAX).map_err(RepoError::referenced)?;
        let wrap = wrap_of_announcement(&bytes).filter(|wrap| wrap.session() == session);
        let wrap = wrap.ok_or_else(|| RepoError::damaged(object, format!("it has no key of session {session}")))?;
        Ok(FoundWrap { object, wrap })
    }

    fn name_of(&self, pack: Digest) -> Name {
        Name::Pack(self.context.source, pack)
    }
}

fn wrap_of_announcement(bytes: &[u8]) -> Option<SessionWrap> {
    let announcement: Announcement = Envelope::decode(bytes).ok()?.predicate().ok()?;
    announcement.wrap
}
