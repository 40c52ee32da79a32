//! The keys of one writing run (`docs/format.md` section 3). Each process generates the keys of its own session and
//! cannot copy them, so no other process seals with them.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::base::env::{Env, random};
use crate::base::frame::{FrameContext, SessionWrap};
use crate::base::id::SessionId;
use crate::crypto::hpke::{HpkeError, SealingKey, wrap_session};
use crate::crypto::ids::{SourceIdKeys, StructureKeys};
use crate::crypto::seal::{SealError, Sealer, TierKeys};
use crate::crypto::secret::Secret;

/// The keys of one writing run. They are never stored outside its process, except for the data key in the session wrap.
pub struct SessionKeys {
    context: FrameContext,
    session: SessionId,
    structure: Secret,
    catalog: Secret,
    data: Secret,
    threads: AtomicU32,
}

impl SessionKeys {
    /// Begins a session that writes snapshots. The wrap goes into every pack. Only the holder of the restore key can
    /// open it. Panics if `structure` and `ids` are of different sources or epochs.
    /// Fails if `restore` cannot be sealed to.
    pub fn create(
        env: &dyn Env,
        restore: &SealingKey,
        structure: &StructureKeys,
        ids: &SourceIdKeys,
    ) -> Result<(Self, SessionWrap), HpkeError> {
        assert_eq!(
            structure.context(),
            ids.context(),
            "structure and id keys of a session must have the same source and epoch"
        );
        let context = ids.context();
        let session = SessionId::new(random(env));
        let data = Secret::random(env);
        let wrap = wrap_session(env, restore, &context, session, &data)?;
        let structure = structure.session(session);
        let catalog = ids.session(session);
        Ok((Self { context, session, structure, catalog, data, threads: AtomicU32::new(0) }, wrap))
    }

    /// The public id.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The repository, source and epoch of its frames.
    #[must_use]
    pub fn context(&self) -> FrameContext {
        self.context
    }

    /// A sealer for the next thread.
    /// Fails if the session already has 256 sealers.
    pub fn sealer(&self) -> Result<Sealer, SealError> {
        let keys = TierKeys { structure: &self.structure, catalog: &self.catalog, data: &self.data };
        Ok(Sealer::new(self.context, self.take_thread()?, &keys))
    }

    fn take_thread(&self) -> Result<u8, SealError> {
        let taken = self.threads.try_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < 256).then_some(n + 1));
        taken.ok().and_then(|n| u8::try_from(n).ok()).ok_or(SealError::Threads)
    }
}

#[cfg(test)]
mod tests {
    use super::SessionKeys;
    use crate::base::env::Seeded;
    use crate::base::frame::{FrameCounter, FrameType};
    use crate::base::id::{ChunkId, Epoch, RepositoryId, SourceId};
    use crate::crypto::role::AdminKeys;
    use crate::crypto::seal::SealError;

    const SOURCE: SourceId = SourceId::new([2; 16]);
    const ID: ChunkId = ChunkId::new([7; ChunkId::LEN]);

    fn admin() -> AdminKeys {
        AdminKeys::create_epoch(&Seeded::new(1), RepositoryId::new([1; 16]), Epoch(1))
    }

    fn session(admin: &AdminKeys, seed: u64) -> (SessionKeys, crate::base::frame::SessionWrap) {
        let structure = admin.structure().source(SOURCE).expect("every source");
        let ids = admin.ids().source(&structure).expect("an admin has every id key");
        SessionKeys::create(&Seeded::new(seed), &admin.restore_public(), &structure, &ids).expect("creates")
    }

    #[test]
    fn each_tier_opens_only_with_its_own_key_and_location() {
        let admin = admin();
        let (keys, wrap) = session(&admin, 2);
        let structure = admin.structure().source(SOURCE).expect("every source");
        let ids = admin.ids().source(&structure).expect("an admin has every id key");
        let openers = [
            structure.opener(keys.session()),
            ids.opener(keys.session()),
            admin.opener(SOURCE, &wrap).expect("unwraps"),
        ];
        let mut sealer = keys.sealer().expect("a thread");
        for frame in FrameType::ALL {
            let mut sealed = b"content".to_vec();
            let frame_counter = sealer.seal(frame, &ID, &mut sealed).expect("seals");
            for opener in &openers {
                let mut opened = sealed.clone();
                match opener.open(frame, &ID, frame_counter, &mut opened) {
                    Ok(()) => assert!(opened == b"content" && opener.tier == frame.tier()),
                    Err(error) => assert_eq!(error, SealError::WrongTier { frame, tier: opener.tier }),
                }
            }
            let opener = openers.iter().find(|opener| opener.tier == frame.tier()).expect("one per tier");
            let places = [
                (ChunkId::new([8; ChunkId::LEN]), frame_counter),
                (ID, FrameCounter { thread: 1, ..frame_counter }),
                (ID, FrameCounter { counter: frame_counter.counter + 1, ..frame_counter }),
            ];
            for (id, frame_counter) in places {
                let refused = Err(SealError::Unauthentic { frame, id });
                assert_eq!(opener.open(frame, &id, frame_counter, &mut sealed.clone()), refused);
            }
            for other in FrameType::ALL.into_iter().filter(|other| *other != frame && other.tier() == frame.tier()) {
                assert!(
                    opener.open(other, &ID, frame_counter, &mut sealed.clone()).is_err(),
                    "{frame:?} opened as {other:?}"
                );
            }
        }
    }

    #[test]
    fn frames_do_not_open_in_another_source_epoch_or_session() {
        let admin = admin();
        let (keys, wrap) = session(&admin, 2);
        let mut sealed = vec![1, 2, 3];
        let frame_counter = keys.sealer().expect("a thread").seal(FrameType::Index, &ID, &mut sealed).expect("seals");
        let elsewhere = admin.structure().source(SourceId::new([3; 16])).expect("every source");
        assert!(
            elsewhere.opener(keys.session()).open(FrameType::Index, &ID, frame_counter, &mut sealed.clone()).is_err()
        );
        let (other, _) = session(&admin, 3);
        let structure = admin.structure().source(SOURCE).expect("every source");
        assert!(
            structure.opener(other.session()).open(FrameType::Index, &ID, frame_counter, &mut sealed.clone()).is_err()
        );
        assert!(admin.opener(SourceId::new([3; 16]), &wrap).is_err());
    }

    #[test]
    fn threads_run_out_instead_of_wrapping_around() {
        let (keys, _) = session(&admin(), 2);
        for _ in 0..256 {
            keys.sealer().expect("a thread");
        }
        assert_eq!(keys.sealer().err(), Some(SealError::Threads));
        assert_eq!(keys.sealer().err(), Some(SealError::Threads));
    }
}
