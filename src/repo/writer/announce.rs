//! Tells later runs which packs this session has stored, so that an interrupted one is not in vain
//! (`docs/format.md` section 12). Written with the first pack, then with the pack that is stored a few seconds or a
//! few packs later, and when a run ends early. So a run that is killed uploads again what took it some seconds: few
//! packs over a slow line, where each is dear, and some more over a fast one; and announcing costs no line much.

use std::sync::Mutex;

use crate::base::frame::{FrameContext, SessionWrap};
use crate::base::id::SessionId;
use crate::base::pipeline::lock;
use crate::base::time::Moment;
use crate::format::dsse::encode;
use crate::format::session::Announcement;
use crate::repo::error::WriteError;
use crate::repo::open::Unlocked;
use crate::repo::writer::setup::StoredPack;

/// Packs that wait for an announcement at most.
const PACKS_PER_ANNOUNCEMENT: usize = 8;
/// Time after an announcement in which packs wait for the next, in microseconds of any clock.
const PAUSE_US: u64 = 3_000_000;

/// Writes session announcements.
pub struct Announcer<'a> {
    unlocked: &'a Unlocked,
    context: FrameContext,
    session: SessionId,
    wrap: &'a SessionWrap,
    state: Mutex<AnnouncerState>,
}

#[derive(Default)]
struct AnnouncerState {
    number: u64,
    waiting: Vec<StoredPack>,
    /// When the newest announcement was written.
    announced: Option<Moment>,
}

impl AnnouncerState {
    fn is_due(&self, now: Moment) -> bool {
        // A clock that was set back must not keep packs waiting.
        let paused = self.announced.is_none_or(|then| now.0.abs_diff(then.0) >= PAUSE_US);
        paused || self.waiting.len() >= PACKS_PER_ANNOUNCEMENT
    }
}

impl<'a> Announcer<'a> {
    /// Nothing is announced yet.
    #[must_use]
    pub fn new(unlocked: &'a Unlocked, context: FrameContext, session: SessionId, wrap: &'a SessionWrap) -> Self {
        Self { unlocked, context, session, wrap, state: Mutex::default() }
    }

    /// A pack is in the store.
    pub fn uploaded(&self, pack: StoredPack) -> Result<(), WriteError> {
        let mut state = lock(&self.state);
        state.waiting.push(pack);
        if state.is_due(self.unlocked.repository().env().now()) {
            self.announce(&mut state)?;
        }
        Ok(())
    }

    /// Announces what is not announced yet: for a run that ends without a commit.
    pub fn flush(&self) -> Result<(), WriteError> {
        let mut state = lock(&self.state);
        if state.waiting.is_empty() { Ok(()) } else { self.announce(&mut state) }
    }

    fn announce(&self, state: &mut AnnouncerState) -> Result<(), WriteError> {
        let announcement = self.announcement(state);
        let bytes = self.sign(&announcement)?;
        let objects = self.unlocked.repository().objects();
        // An announced pack is believed by the run that adopts it, so it must not be lost by a power cut.
        objects.barrier()?;
        objects.create(&announcement.name(), bytes.into())?;
        state.number = announcement.number;
        state.announced = Some(announcement.written);
        state.waiting.clear();
        Ok(())
    }

    fn sign(&self, announcement: &Announcement) -> Result<Vec<u8>, WriteError> {
        let identity = self.unlocked.identity();
        let encoded = encode(announcement, identity.key_id(), |message| identity.sign(message));
        encoded.map_err(|source| WriteError::Statement { source })
    }

    /// The next announcement, of the packs that wait for one.
    fn announcement(&self, state: &AnnouncerState) -> Announcement {
        let number = state.number + 1;
        Announcement {
            repository: self.context.repository,
            source: self.context.source,
            session: self.session,
            number,
            epoch: self.context.epoch,
            written: self.unlocked.repository().env().now(),
            wrap: (number == 1).then(|| self.wrap.clone()),
            packs: state.waiting.iter().map(StoredPack::object).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AnnouncerState, PACKS_PER_ANNOUNCEMENT, PAUSE_US};
    use crate::base::id::Digest;
    use crate::base::time::Moment;
    use crate::repo::writer::setup::StoredPack;

    /// Announcements of packs that are stored at these moments.
    fn announced_at(moments: impl Iterator<Item = i64>) -> Vec<i64> {
        let mut state = AnnouncerState::default();
        let mut announced = Vec::new();
        for moment in moments {
            state.waiting.push(StoredPack { digest: Digest::of(b""), size: 1 });
            if state.is_due(Moment(moment)) {
                state.announced = Some(Moment(moment));
                state.waiting.clear();
                announced.push(moment);
            }
        }
        announced
    }

    #[test]
    fn the_first_pack_at_once_then_by_time_or_number() {
        let pause = i64::try_from(PAUSE_US).expect("short");
        let slow: Vec<i64> = (0..5).map(|n| n * pause).collect();
        assert_eq!(announced_at(slow.iter().copied()), slow);
        let step = PACKS_PER_ANNOUNCEMENT;
        assert_eq!(announced_at(0..100), (0..100).step_by(step).collect::<Vec<_>>());
        assert_eq!(announced_at([0, 1, pause - 1, pause, pause + 1].into_iter()), [0, pause]);
        // A clock that was set back.
        assert_eq!(announced_at([pause * 9, pause, pause + 1].into_iter()), [pause * 9, pause]);
    }
}
