//! Tells later runs which packs this session has stored, so that an interrupted one is not in vain
//! (`docs/format.md` section 12). Written with the first pack, then every few packs, and when a run ends early.

use std::sync::{Mutex, PoisonError};

use crate::base::frame::{Context, SessionWrap};
use crate::base::id::SessionId;
use crate::format::dsse::encode;
use crate::format::entry::ObjectRef;
use crate::format::name::Name;
use crate::format::session::Announcement;
use crate::repo::open::Unlocked;
use crate::repo::write::run::{StoredPack, WriteError};

/// Packs between announcements: what a killed run may have to upload again.
const PACKS_PER_ANNOUNCEMENT: usize = 8;

/// Writes session announcements.
pub struct Announcer<'a> {
    unlocked: &'a Unlocked,
    context: Context,
    session: SessionId,
    wrap: &'a SessionWrap,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    number: u64,
    waiting: Vec<StoredPack>,
}

impl<'a> Announcer<'a> {
    /// Nothing is announced yet.
    #[must_use]
    pub fn new(unlocked: &'a Unlocked, context: Context, session: SessionId, wrap: &'a SessionWrap) -> Self {
        Self { unlocked, context, session, wrap, state: Mutex::default() }
    }

    /// A pack is in the store.
    pub fn uploaded(&self, pack: StoredPack) -> Result<(), WriteError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push(pack);
        if state.number == 0 || state.waiting.len() >= PACKS_PER_ANNOUNCEMENT {
            self.announce(&mut state)?;
        }
        Ok(())
    }

    /// Announces what is not announced yet: for a run that ends without a commit.
    pub fn flush(&self) -> Result<(), WriteError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() { Ok(()) } else { self.announce(&mut state) }
    }

    fn announce(&self, state: &mut State) -> Result<(), WriteError> {
        let number = state.number + 1;
        let repository = self.unlocked.repository();
        let announcement = Announcement {
            repository: self.context.repository,
            source: self.context.source,
            session: self.session,
            number,
            epoch: self.context.epoch,
            written: repository.env().now(),
            wrap: (number == 1).then(|| self.wrap.clone()),
            packs: state.waiting.iter().map(|pack| ObjectRef { sha256: pack.digest, size: pack.size }).collect(),
        };
        let identity = self.unlocked.identity();
        let bytes = encode(&announcement, identity.key_id(), |message| identity.sign(message))
            .map_err(|source| WriteError::Statement { source })?;
        // An announced pack is believed by the run that adopts it, so it must not be lost by a power cut.
        repository.objects().barrier()?;
        repository.objects().create(&Name::Session(self.context.source, self.session, number), bytes.into())?;
        state.number = number;
        state.waiting.clear();
        Ok(())
    }
}
