//! The data keys that a reader has found so far.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::base::frame::SessionWrap;
use crate::base::id::{Digest, SessionId};
use crate::base::pipeline::lock;
use crate::crypto::seal::Opener;
use crate::format::name::Name;
use crate::repo::error::RepoError;

/// The data keys that are known, and where they came from.
#[derive(Default)]
pub(super) struct DataKeys {
    pub(super) sessions: Mutex<HashMap<SessionId, FoundKeys>>,
    /// Wraps of headers that were read together with frames, by pack. Each is used once.
    pub(super) headers: Mutex<HashMap<(Digest, SessionId), SessionWrap>>,
    /// Objects that should have a usable key and do not.
    pub(super) damaged: Mutex<Vec<RepoError>>,
}

/// A wrap and the object that it is from.
#[derive(Clone)]
pub(super) struct FoundWrap {
    pub(super) object: Name,
    pub(super) wrap: SessionWrap,
}

/// A key of a session.
pub(super) struct DataKey {
    pub(super) found: FoundWrap,
    pub(super) opener: Opener,
}

/// The keys that were found for one session: more than one if somebody has put another key into the header of a pack.
/// None of them is final, because a key may open only the frames of the person who chose it.
#[derive(Default)]
pub(super) struct FoundKeys {
    keys: Vec<Arc<DataKey>>,
    /// The position of the key that opened a frame of this pack last.
    of_pack: HashMap<Digest, usize>,
    /// Packs whose own header was looked at.
    looked_at: HashSet<Digest>,
    /// Whether other packs and the announcement were looked at.
    is_searched: bool,
    /// Held while keys of the session are looked for.
    finding: Arc<Mutex<()>>,
}

impl FoundKeys {
    /// All keys. The one that opened a frame of this pack comes first.
    fn for_pack(&self, pack: &Digest) -> Vec<Arc<DataKey>> {
        let mut keys = self.keys.clone();
        if let Some(at) = self.of_pack.get(pack) {
            keys.swap(0, *at);
        }
        keys
    }

    fn add(&mut self, key: Arc<DataKey>) -> usize {
        let known = self.keys.iter().position(|known| known.found.wrap == key.found.wrap);
        known.unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        })
    }
}

impl DataKeys {
    /// Whether no key of the session is known.
    pub(super) fn lacks(&self, session: &SessionId) -> bool {
        lock(&self.sessions).get(session).is_none_or(|found| found.keys.is_empty())
    }

    /// The keys of the session, in the order in which frames of this pack are tried.
    pub(super) fn for_pack(&self, session: &SessionId, pack: &Digest) -> Vec<Arc<DataKey>> {
        lock(&self.sessions).get(session).map(|found| found.for_pack(pack)).unwrap_or_default()
    }

    /// Remembers a key that may open frames of the session.
    pub(super) fn add(&self, session: SessionId, key: Arc<DataKey>) {
        lock(&self.sessions).entry(session).or_default().add(key);
    }

    /// Remembers a key that has opened a frame of the session in this pack.
    pub(super) fn add_opened(&self, session: SessionId, pack: Digest, key: Arc<DataKey>) {
        let mut sessions = lock(&self.sessions);
        let found = sessions.entry(session).or_default();
        let at = found.add(key);
        found.of_pack.insert(pack, at);
    }

    /// To be locked while keys of the session are looked for, so that threads do not read the same headers.
    pub(super) fn finding(&self, session: SessionId) -> Arc<Mutex<()>> {
        Arc::clone(&lock(&self.sessions).entry(session).or_default().finding)
    }

    /// Whether the pack's own header must still be looked at. The answer is yes once.
    pub(super) fn must_look_at(&self, session: SessionId, pack: Digest) -> bool {
        lock(&self.sessions).entry(session).or_default().looked_at.insert(pack)
    }

    /// Whether other objects must still be searched for keys of the session. The answer is yes once.
    pub(super) fn must_search(&self, session: SessionId) -> bool {
        !std::mem::replace(&mut lock(&self.sessions).entry(session).or_default().is_searched, true)
    }
}
