//! Announces the packs that this session has stored, so that a later run can adopt them if this one is interrupted
//! (`docs/format.md` section 12). An announcement is written with the first pack, then with the next pack that is
//! stored after a few seconds or a few packs, and when a run ends early. So a killed run has to upload only a few
//! seconds' work again: few packs over a slow line, where each is expensive, and more over a fast one. The cost of
//! announcing is low on any line.

use std::sync::Mutex;

use crate::base::frame::{FrameContext, SessionWrap};
use crate::base::id::SessionId;
use crate::base::pipeline::lock;
use crate::base::time::Moment;
use crate::format::announcement::Announcement;
use crate::format::dsse::encode;
use crate::repo::error::WriteError;
use crate::repo::open::Unlocked;
use crate::repo::writer::setup::StoredPack;

/// Most packs that wait for an announcement.
const PACKS_PER_ANNOUNCEMENT: usize = 8;
/// Minimum time between announcements in microseconds, unless enough packs are waiting.
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
        // The absolute difference, so that a clock that was set back does not keep packs waiting.
        let paused = self.announced.is_none_or(|then| now.0.abs_diff(then.0) >= PAUSE_US);
        paused || self.waiting.len() >= PACKS_PER_ANNOUNCEMENT
    }
}

impl<'a> Announcer<'a> {
    /// An announcer that has not announced anything yet.
    #[must_use]
    pub fn new(unlocked: &'a Unlocked, context: FrameContext, session: SessionId, wrap: &'a SessionWrap) -> Self {
        Self { unlocked, context, session, wrap, state: Mutex::default() }
    }

    /// Records that a pack is in the store, and announces if it is time to.
    /// Fails if the announcement cannot be signed or stored, or if the barrier before it fails.
    pub fn uploaded(&self, pack: StoredPack) -> Result<(), WriteError> {
        let mut state = lock(&self.state);
        state.waiting.push(pack);
        if state.is_due(self.unlocked.repository().env().now()) {
            self.announce(&mut state)?;
        }
        Ok(())
    }

    /// Announces the packs that are still waiting. For a run that ends without a commit.
    /// Fails like [`Self::uploaded`].
    pub fn flush(&self) -> Result<(), WriteError> {
        let mut state = lock(&self.state);
        if state.waiting.is_empty() { Ok(()) } else { self.announce(&mut state) }
    }

    fn announce(&self, state: &mut AnnouncerState) -> Result<(), WriteError> {
        let announcement = self.announcement(state);
        let bytes = self.sign(&announcement)?;
        let objects = self.unlocked.repository().objects();
        // A run that adopts an announced pack relies on it, so a power failure must not lose the pack.
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

    /// The next announcement, with the waiting packs.
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

    /// The times of announcements when packs are stored at these times.
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
    fn the_first_pack_is_announced_at_once_and_later_ones_by_time_or_number() {
        let pause = i64::try_from(PAUSE_US).expect("short");
        let slow: Vec<i64> = (0..5).map(|n| n * pause).collect();
        assert_eq!(announced_at(slow.iter().copied()), slow);
        let step = PACKS_PER_ANNOUNCEMENT;
        assert_eq!(announced_at(0..100), (0..100).step_by(step).collect::<Vec<_>>());
        assert_eq!(announced_at([0, 1, pause - 1, pause, pause + 1].into_iter()), [0, pause]);
        // The clock was set back.
        assert_eq!(announced_at([pause * 9, pause, pause + 1].into_iter()), [pause * 9, pause]);
    }
}
