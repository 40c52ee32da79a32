//! Sealing and opening of frames (`docs/format.md` section 3): AES-256-GCM under a key per session,
//! tier and thread, nonces by counter.
//!
//! No (key, nonce) pair is ever used twice: a session's keys are drawn anew by each process and
//! cannot be copied, each call of [`SessionKeys::sealer`] takes the next thread number, and a
//! sealer's counters only rise. Who may open what is decided by who can get an [`Opener`]:
//! structure from `StructureKeys`, catalog from `SourceIdKeys`, data from `AdminKeys` alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use thiserror::Error;

use crate::base::env::{Env, random};
use crate::base::frame::{FrameContext, FrameCounter, FrameType, SessionWrap, Tier};
use crate::base::id::{ChunkId, SessionId, SourceId};
use crate::crypto::aead::{Cipher, NONCE_BYTES};
use crate::crypto::hpke::{HpkeError, SealingKey, wrap_session};
use crate::crypto::ids::{SourceIdKeys, StructureKeys};
use crate::crypto::secret::Secret;

/// A frame that cannot be sealed or opened.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum SealError {
    /// All thread numbers of the session are taken.
    #[error("a session has no more than 256 threads")]
    Threads,
    /// All counters of a thread are taken; go on with another sealer.
    #[error("thread {thread} has sealed 2^32 frames of the {tier} tier")]
    Exhausted { thread: u8, tier: Tier },
    /// The session was opened for another purpose.
    #[error("session {session} has no key of the {tier} tier")]
    NoKey { session: SessionId, tier: Tier },
    /// A frame of another tier than the opener's.
    #[error("a frame of type {frame:?} does not belong to the {tier} tier")]
    WrongTier { frame: FrameType, tier: Tier },
    /// Sealed elsewhere, as something else, or altered.
    #[error("{frame:?} frame {id} does not open: altered, or of another place")]
    Unauthentic { frame: FrameType, id: ChunkId },
    /// The sealed name of a source in the roster.
    #[error("the sealed label of source {source_id} does not open")]
    Label { source_id: SourceId },
}

/// What a session seals: fixed when it begins.
enum Powers {
    /// Everything: a backup, an erase.
    Full { data: Secret, catalog: Secret },
    /// Tables and indexes alone: a repack, a compaction.
    StructureOnly,
}

/// The keys of one writing run. Lives and dies with its process.
pub struct SessionKeys {
    context: FrameContext,
    session: SessionId,
    structure: Secret,
    powers: Powers,
    threads: AtomicU32,
}

impl SessionKeys {
    /// Begins a session that writes snapshots. The wrap goes into every pack; nobody but the holder
    /// of the restore key opens it.
    pub fn create(
        env: &dyn Env,
        restore: &SealingKey,
        structure: &StructureKeys,
        ids: &SourceIdKeys,
    ) -> Result<(Self, SessionWrap), HpkeError> {
        assert_eq!(structure.context(), ids.context(), "both halves of a session's keys are of one source and epoch");
        let context = ids.context();
        let session = SessionId::new(random(env));
        let data = Secret::random(env);
        let wrap = wrap_session(env, restore, &context, session, &data)?;
        let powers = Powers::Full { data, catalog: ids.session(session) };
        Ok((Self::new(structure, session, powers), wrap))
    }

    /// Begins a session that writes tables and indexes alone, for which the structure key suffices.
    #[must_use]
    pub fn create_structure_only(env: &dyn Env, structure: &StructureKeys) -> Self {
        Self::new(structure, SessionId::new(random(env)), Powers::StructureOnly)
    }

    fn new(structure: &StructureKeys, session: SessionId, powers: Powers) -> Self {
        Self {
            context: structure.context(),
            session,
            structure: structure.session(session),
            powers,
            threads: AtomicU32::new(0),
        }
    }

    /// The public id.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Where its frames belong.
    #[must_use]
    pub fn context(&self) -> FrameContext {
        self.context
    }

    /// A sealer for the next thread.
    pub fn sealer(&self) -> Result<Sealer, SealError> {
        let taken = self.threads.try_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < 256).then_some(n + 1));
        let thread = taken.ok().and_then(|n| u8::try_from(n).ok()).ok_or(SealError::Threads)?;
        let tier = |key: &Secret| TierSealer { cipher: thread_cipher(key, thread), next: 0 };
        let (data, catalog) = match &self.powers {
            Powers::Full { data, catalog } => (Some(tier(data)), Some(tier(catalog))),
            Powers::StructureOnly => (None, None),
        };
        let structure = tier(&self.structure);
        Ok(Sealer { context: self.context, session: self.session, thread, structure, catalog, data })
    }
}

struct TierSealer {
    cipher: Cipher,
    next: u64,
}

/// Seals frames on one thread.
pub struct Sealer {
    context: FrameContext,
    session: SessionId,
    thread: u8,
    structure: TierSealer,
    catalog: Option<TierSealer>,
    data: Option<TierSealer>,
}

impl Sealer {
    /// Seals `buffer` in place, appends the tag, and says where the frame sits in the key schedule.
    pub fn seal(&mut self, frame: FrameType, id: &ChunkId, buffer: &mut Vec<u8>) -> Result<FrameCounter, SealError> {
        let (tier, thread) = (frame.tier(), self.thread);
        let sealer = match tier {
            Tier::Structure => Some(&mut self.structure),
            Tier::Catalog => self.catalog.as_mut(),
            Tier::Data => self.data.as_mut(),
        };
        let sealer = sealer.ok_or(SealError::NoKey { session: self.session, tier })?;
        let counter = u32::try_from(sealer.next).map_err(|_| SealError::Exhausted { thread, tier })?;
        sealer.next += 1;
        sealer.cipher.seal(&nonce(counter), &aad(&self.context, frame, id), buffer);
        Ok(FrameCounter { thread, counter })
    }
}

/// Opens frames of one session and tier, on any thread.
pub struct Opener {
    context: FrameContext,
    tier: Tier,
    key: Secret,
    ciphers: RwLock<HashMap<u8, Arc<Cipher>>>,
}

impl Opener {
    pub(super) fn new(context: FrameContext, tier: Tier, key: Secret) -> Self {
        Self { context, tier, key, ciphers: RwLock::default() }
    }

    /// Opens `buffer` in place and cuts the tag off. After a failure its content means nothing.
    /// The caller recomputes the keyed id of what it gets.
    pub fn open(
        &self,
        frame: FrameType,
        id: &ChunkId,
        frame_counter: FrameCounter,
        buffer: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        if frame.tier() != self.tier {
            return Err(SealError::WrongTier { frame, tier: self.tier });
        }
        self.cipher(frame_counter.thread)
            .open(&nonce(frame_counter.counter), &aad(&self.context, frame, id), buffer)
            .map_err(|_| SealError::Unauthentic { frame, id: *id })
    }

    fn cipher(&self, thread: u8) -> Arc<Cipher> {
        if let Some(cipher) = self.ciphers.read().unwrap_or_else(PoisonError::into_inner).get(&thread) {
            return Arc::clone(cipher);
        }
        let cipher = Arc::new(thread_cipher(&self.key, thread));
        let mut ciphers = self.ciphers.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(ciphers.entry(thread).or_insert(cipher))
    }
}

fn thread_cipher(key: &Secret, thread: u8) -> Cipher {
    Cipher::new(&key.derive(b"", &[b"sidekeep/1 thread", &u32::from(thread).to_le_bytes()]))
}

fn nonce(counter: u32) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[4..].copy_from_slice(&u64::from(counter).to_be_bytes());
    nonce
}

const AAD_BYTES: usize = 16 + 16 + 16 + 4 + 1 + ChunkId::LEN;

fn aad(context: &FrameContext, frame: FrameType, id: &ChunkId) -> [u8; AAD_BYTES] {
    let mut aad = [0; AAD_BYTES];
    aad[..16].copy_from_slice(b"sidekeep/1 frame");
    aad[16..32].copy_from_slice(context.repository.as_bytes());
    aad[32..48].copy_from_slice(context.source.as_bytes());
    aad[48..52].copy_from_slice(&context.epoch.0.to_le_bytes());
    aad[52] = frame.byte();
    aad[53..].copy_from_slice(id.as_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::{SealError, SessionKeys};
    use crate::base::env::Seeded;
    use crate::base::frame::{FrameCounter, FrameType, Tier};
    use crate::base::id::{ChunkId, Epoch, RepositoryId, SourceId};
    use crate::crypto::role::AdminKeys;

    const SOURCE: SourceId = SourceId::new([2; 16]);
    const ID: ChunkId = ChunkId::new([7; ChunkId::LEN]);

    fn admin() -> AdminKeys {
        AdminKeys::create_epoch(&Seeded::new(1), RepositoryId::new([1; 16]), Epoch(1))
    }

    fn session(admin: &AdminKeys, seed: u64) -> (SessionKeys, crate::base::frame::SessionWrap) {
        let structure = admin.structure().source(SOURCE);
        let ids = admin.ids().source(&structure).expect("an admin has every id key");
        SessionKeys::create(&Seeded::new(seed), &admin.restore_public(), &structure, &ids).expect("creates")
    }

    #[test]
    fn every_tier_opens_with_its_own_key_and_place_only() {
        let admin = admin();
        let (keys, wrap) = session(&admin, 2);
        let structure = admin.structure().source(SOURCE);
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
                    "{frame:?} passed for {other:?}"
                );
            }
        }
    }

    #[test]
    fn other_sources_epochs_and_sessions_do_not_open() {
        let admin = admin();
        let (keys, wrap) = session(&admin, 2);
        let mut sealed = vec![1, 2, 3];
        let frame_counter = keys.sealer().expect("a thread").seal(FrameType::Index, &ID, &mut sealed).expect("seals");
        let elsewhere = admin.structure().source(SourceId::new([3; 16]));
        assert!(
            elsewhere.opener(keys.session()).open(FrameType::Index, &ID, frame_counter, &mut sealed.clone()).is_err()
        );
        let (other, _) = session(&admin, 3);
        let structure = admin.structure().source(SOURCE);
        assert!(
            structure.opener(other.session()).open(FrameType::Index, &ID, frame_counter, &mut sealed.clone()).is_err()
        );
        assert!(admin.opener(SourceId::new([3; 16]), &wrap).is_err());
    }

    #[test]
    fn threads_and_counters_run_out_instead_of_round() {
        let (keys, _) = session(&admin(), 2);
        let mut sealer = keys.sealer().expect("a thread");
        sealer.structure.next = u64::from(u32::MAX);
        assert!(sealer.seal(FrameType::Node, &ID, &mut vec![]).is_ok());
        let exhausted = SealError::Exhausted { thread: 0, tier: Tier::Structure };
        assert_eq!(sealer.seal(FrameType::Node, &ID, &mut vec![]), Err(exhausted));
        assert!(sealer.seal(FrameType::Leaf, &ID, &mut vec![]).is_ok());
        for _ in 1..256 {
            keys.sealer().expect("a thread");
        }
        assert_eq!(keys.sealer().err(), Some(SealError::Threads));
        assert_eq!(keys.sealer().err(), Some(SealError::Threads));
    }

    #[test]
    fn a_structure_session_seals_no_rows() {
        let admin = admin();
        let keys = SessionKeys::create_structure_only(&Seeded::new(9), &admin.structure().source(SOURCE));
        let mut sealer = keys.sealer().expect("a thread");
        assert!(sealer.seal(FrameType::FrontTable, &ID, &mut vec![]).is_ok());
        let refused = SealError::NoKey { session: keys.session(), tier: Tier::Data };
        assert_eq!(sealer.seal(FrameType::Leaf, &ID, &mut vec![]), Err(refused));
    }
}
