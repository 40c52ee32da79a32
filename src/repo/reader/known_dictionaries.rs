//! The dictionaries that a reader has opened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use crate::base::id::{ChunkId, Digest};
use crate::base::limit::DICTIONARIES_MAX;
use crate::base::pipeline::lock;
use crate::format::catalog::DictionaryEntry;
use crate::format::dictionary::Dictionary;

/// The dictionaries that were read.
#[derive(Default)]
pub(super) struct KnownDictionaries {
    /// Those that the catalog names, by number.
    pub(super) listed: OnceLock<HashMap<u32, Arc<Dictionary>>>,
    by_id: Mutex<HashMap<ChunkId, Arc<Dictionary>>>,
    of_packs: Mutex<HashMap<Digest, Arc<OwnDictionaries>>>,
}

/// Where a pack has its dictionaries. None until its table was read. The lock is held while it is read.
pub(super) type OwnDictionaries = Mutex<Option<Vec<DictionaryEntry>>>;

impl KnownDictionaries {
    pub(super) fn of_pack(&self, pack: &Digest) -> Arc<OwnDictionaries> {
        Arc::clone(lock(&self.of_packs).entry(*pack).or_default())
    }

    pub(super) fn with_id(&self, id: &ChunkId) -> Option<Arc<Dictionary>> {
        lock(&self.by_id).get(id).cloned()
    }

    /// Keeps a dictionary. Somebody who writes many of them must not fill the memory.
    pub(super) fn keep(&self, id: ChunkId, dictionary: &Arc<Dictionary>) {
        let mut by_id = lock(&self.by_id);
        if by_id.len() >= DICTIONARIES_MAX {
            by_id.clear();
        }
        by_id.insert(id, Arc::clone(dictionary));
    }
}
