//! The data keys of sessions. The wrap of a session is in the header of every pack that holds frames of it, and in the
//! manifest of the session itself. One header is read for each session, together with the first frames if they
//! are near. If it is damaged, the headers of other packs are read, and at last the first announcement of the session.
//!
//! Anybody who can write to the store can put another key into a header. Such a key opens nothing, so a key counts only
//! once it has opened a frame.

use std::collections::hash_map::Entry;
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
use crate::repo::reader::known_keys::{DataKey, FoundWrap, KeyState};
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
    fn open(&self, key: &DataKey, sealed: &mut Vec<u8>) -> Result<(), SealError> {
        key.opener.open(self.want.kind, &self.want.id, self.location.frame_counter, sealed)
    }

    /// Opens the frame if this is its key. Otherwise leaves the bytes as they are.
    fn try_open(&self, key: &DataKey, sealed: &mut Vec<u8>) -> bool {
        let mut attempt = sealed.clone();
        let opens = self.open(key, &mut attempt).is_ok();
        if opens {
            *sealed = attempt;
        }
        opens
    }
}

impl SnapshotReader<'_> {
    /// The wrap of the manifest's own session.
    pub(super) fn add_own_wrap(&self) {
        let found = FoundWrap { object: self.object, wrap: self.manifest.wrap.clone() };
        lock(&self.keys.headers).insert(self.manifest.session, found);
    }

    /// Objects in which the key of a session should be and is not, or is not usable. Each is returned once.
    #[must_use]
    pub fn take_damaged_keys(&self) -> Vec<RepoError> {
        std::mem::take(&mut *lock(&self.keys.damaged))
    }

    /// Whether the key of a session must still be read from a header.
    pub(super) fn needs_header(&self, session: &SessionId) -> bool {
        !lock(&self.keys.sessions).contains_key(session) && !lock(&self.keys.headers).contains_key(session)
    }

    /// Takes the wraps from the first bytes of a pack.
    pub(super) fn add_header(&self, pack: Digest, bytes: &[u8]) {
        let Ok(header) = PackHeader::read(&mut Take::new(bytes)) else { return };
        let object = self.name_of(pack);
        let mut headers = lock(&self.keys.headers);
        for wrap in header.wraps {
            headers.entry(wrap.session()).or_insert(FoundWrap { object, wrap });
        }
    }

    /// Opens a frame of the data tier.
    /// Fails if no usable key of its session is found, if it was altered, or if the store fails.
    pub(super) fn unseal_data(&self, frame: &SealedFrameAt<'_>, sealed: &mut Vec<u8>) -> Result<(), RepoError> {
        let key = self.data_key(frame)?;
        if key.state == KeyState::Untried {
            return self.unseal_with_untried(frame, key, sealed);
        }
        frame.open(&key, sealed).in_object(self.in_pack(frame.want, frame.pack))
    }

    /// Opens a frame with a key that has not opened any yet, or else with another key of the session.
    fn unseal_with_untried(
        &self,
        frame: &SealedFrameAt<'_>,
        key: DataKey,
        sealed: &mut Vec<u8>,
    ) -> Result<(), RepoError> {
        let untouched = sealed.clone();
        let opened = frame.open(&key, sealed);
        if opened.is_ok() {
            self.keep_key(frame.session, key, KeyState::Proven);
            return Ok(());
        }
        *sealed = untouched;
        if self.unseal_with_another_key(frame, key, sealed)? {
            return Ok(());
        }
        opened.in_object(self.in_pack(frame.want, frame.pack))
    }

    fn keep_key(&self, session: SessionId, key: DataKey, state: KeyState) {
        lock(&self.keys.sessions).insert(session, Some(DataKey { state, ..key }));
    }

    /// The key of the frame's session. The first one that is found.
    fn data_key(&self, frame: &SealedFrameAt<'_>) -> Result<DataKey, RepoError> {
        // Fail early: without an admin key no wrap can be opened.
        self.unlocked.admin(self.context.epoch, "opening rows")?;
        let mut sessions = lock(&self.keys.sessions);
        let key = match sessions.entry(frame.session) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(unknown) => unknown.insert(self.find_key(frame)?).clone(),
        };
        key.ok_or_else(|| RepoError::missing(format!("the data key of session {}", frame.session)))
    }

    fn find_key(&self, frame: &SealedFrameAt<'_>) -> Result<Option<DataKey>, RepoError> {
        match self.usable(self.first_wrap(frame))? {
            Some(key) => Ok(Some(key)),
            None => self.find_another_key(frame, &mut |_| true),
        }
    }

    /// The wrap of the frame's session: from a header that was read before, or from the header of its pack.
    fn first_wrap(&self, frame: &SealedFrameAt<'_>) -> Result<FoundWrap, RepoError> {
        let known = lock(&self.keys.headers).get(&frame.session).cloned();
        known.map_or_else(|| self.wrap_in_header(frame.session, frame.pack), Ok)
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
            Ok(opener) => Ok(DataKey { found, opener: Arc::new(opener), state: KeyState::Untried }),
            Err(_) => {
                let reason = format!("the key of session {} in it cannot be opened", found.wrap.session());
                Err(RepoError::damaged(found.object, reason))
            }
        }
    }

    /// Tries the keys that other objects have for the session. Keeps the one that opens the frame.
    fn unseal_with_another_key(
        &self,
        frame: &SealedFrameAt<'_>,
        tried: DataKey,
        sealed: &mut Vec<u8>,
    ) -> Result<bool, RepoError> {
        let mut opens = |key: &DataKey| key.found.wrap != tried.found.wrap && frame.try_open(key, sealed);
        let Some(key) = self.find_another_key(frame, &mut opens)? else {
            self.keep_key(frame.session, tried, KeyState::Alone);
            return Ok(false);
        };
        self.report_wrong_key(frame.session, tried);
        self.keep_key(frame.session, key, KeyState::Proven);
        Ok(true)
    }

    fn report_wrong_key(&self, session: SessionId, key: DataKey) {
        let reason = format!("the key of session {session} in it opens none of the session's frames");
        lock(&self.keys.damaged).push(RepoError::damaged(key.found.object, reason));
    }

    /// The first key that `accepts`, from the headers of other packs that name the session, then from its announcement.
    fn find_another_key(
        &self,
        frame: &SealedFrameAt<'_>,
        accepts: &mut dyn FnMut(&DataKey) -> bool,
    ) -> Result<Option<DataKey>, RepoError> {
        for pack in self.other_packs_of(frame)? {
            let key = self.usable(self.wrap_in_header(frame.session, &pack))?;
            if let Some(key) = key.filter(&mut *accepts) {
                return Ok(Some(key));
            }
        }
        Ok(self.announced_key(frame.session)?.filter(accepts))
    }

    /// The key in the announcement of a session. `None` if there is none that can be opened.
    fn announced_key(&self, session: SessionId) -> Result<Option<DataKey>, RepoError> {
        match self.announced_wrap(session).and_then(|found| self.open_wrap(found)) {
            Ok(key) => Ok(Some(key)),
            Err(error @ RepoError::Store(_)) => Err(error),
            Err(_) => Ok(None),
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
