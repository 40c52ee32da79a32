//! Sealing and opening of frames (`docs/format.md` section 3): in-place AES-256-GCM (NIST SP 800-38D) with one key per
//! session, tier and thread, and counters as nonces.
//!
//! No (key, nonce) pair is ever used twice: each call of `SessionKeys::sealer` takes the next thread number, and a
//! sealer's counters only increase. What a role can open depends on the [`Opener`]s that it can get: structure from
//! `StructureKeys`, catalog from `SourceIdKeys`, data only from `AdminKeys`.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use thiserror::Error;

use crate::base::frame::{FrameContext, FrameCounter, FrameType, Tier};
use crate::base::id::{ChunkId, SourceId};
use crate::crypto::secret::Secret;

/// Bytes that sealing adds.
pub const TAG_BYTES: usize = 16;
/// Length of a nonce in bytes.
pub(super) const NONCE_BYTES: usize = 12;

/// The bytes were not sealed with this key, nonce and associated data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unauthentic;

/// A key with its key schedule.
pub(super) struct Cipher(Aes256Gcm);

impl Cipher {
    /// A cipher with this key.
    pub(super) fn new(key: &Secret) -> Self {
        Self(Aes256Gcm::new(key.expose().into()))
    }

    /// Seals `buffer` in place and appends the tag.
    pub(super) fn seal(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], buffer: &mut Vec<u8>) {
        let tag = self
            .0
            .encrypt_inout_detached(nonce.into(), aad, buffer.as_mut_slice().into())
            .expect("GCM takes 64 GiB, more than any buffer here");
        buffer.extend_from_slice(&tag);
    }

    /// Opens `buffer` in place and removes the tag.
    /// Fails if `buffer` is shorter than a tag, or if the tag does not verify. The content of `buffer` is then
    /// meaningless.
    pub(super) fn open(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), Unauthentic> {
        let len = buffer.len().checked_sub(TAG_BYTES).ok_or(Unauthentic)?;
        let (content, tag) = buffer.split_at_mut(len);
        let tag: &[u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| Unauthentic)?;
        self.0.decrypt_inout_detached(nonce.into(), aad, content.into(), tag.into()).map_err(|_| Unauthentic)?;
        buffer.truncate(len);
        Ok(())
    }
}

/// A frame that cannot be sealed or opened.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum SealError {
    /// All thread numbers of the session are in use.
    #[error("a session cannot have more than 256 threads")]
    Threads,
    /// All counters of a thread are used up. Continue with another sealer.
    #[error("thread {thread} has sealed 2^32 frames of the {tier} tier")]
    Exhausted { thread: u8, tier: Tier },
    /// The frame's tier is not the opener's.
    #[error("a frame of type {frame:?} does not belong to the {tier} tier")]
    WrongTier { frame: FrameType, tier: Tier },
    /// Sealed in another context, as another frame, or altered.
    #[error("{frame:?} frame {id} cannot be opened: it was altered or belongs elsewhere")]
    Unauthentic { frame: FrameType, id: ChunkId },
    /// The sealed name of a source in the roster does not open.
    #[error("the sealed label of source {source_id} cannot be opened")]
    Label { source_id: SourceId },
}

/// A key that only seals, several times as fast as a [`Cipher`].
struct SealingCipher(LessSafeKey);

impl SealingCipher {
    fn new(key: &Secret) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key.expose()).expect("AES-256 takes 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Seals `buffer` in place and appends the tag.
    fn seal(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], buffer: &mut Vec<u8>) {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.0.seal_in_place_append_tag(nonce, Aad::from(aad), buffer);
        sealed.expect("GCM takes 64 GiB, more than any buffer here");
    }
}

struct TierSealer {
    cipher: SealingCipher,
    next: u64,
}

impl TierSealer {
    fn new(key: &Secret, thread: u8) -> Self {
        Self { cipher: SealingCipher::new(&thread_key(key, thread)), next: 0 }
    }

    /// Takes the next counter. `None` if all are used up.
    fn take_counter(&mut self) -> Option<u32> {
        let counter = u32::try_from(self.next).ok()?;
        self.next += 1;
        Some(counter)
    }
}

/// The keys of a session's tiers.
pub(super) struct TierKeys<'k> {
    pub(super) structure: &'k Secret,
    pub(super) catalog: &'k Secret,
    pub(super) data: &'k Secret,
}

/// Seals frames on one thread.
pub struct Sealer {
    context: FrameContext,
    thread: u8,
    structure: TierSealer,
    catalog: TierSealer,
    data: TierSealer,
}

impl Sealer {
    /// A sealer for frames of `context`. No other sealer may have these keys and this thread number.
    pub(super) fn new(context: FrameContext, thread: u8, keys: &TierKeys<'_>) -> Self {
        Self {
            context,
            thread,
            structure: TierSealer::new(keys.structure, thread),
            catalog: TierSealer::new(keys.catalog, thread),
            data: TierSealer::new(keys.data, thread),
        }
    }

    /// Seals `buffer` in place, appends the tag (16 bytes), and returns the frame's counter in the key schedule.
    /// Fails if this sealer has already sealed 2^32 frames of the frame's tier. `buffer` is then unchanged.
    pub fn seal(&mut self, frame: FrameType, id: &ChunkId, buffer: &mut Vec<u8>) -> Result<FrameCounter, SealError> {
        let aad = aad(&self.context, frame, id);
        let thread = self.thread;
        let tier = frame.tier();
        let sealer = self.tier_sealer(tier);
        let counter = sealer.take_counter().ok_or(SealError::Exhausted { thread, tier })?;
        sealer.cipher.seal(nonce(counter), &aad, buffer);
        Ok(FrameCounter { thread, counter })
    }

    fn tier_sealer(&mut self, tier: Tier) -> &mut TierSealer {
        match tier {
            Tier::Structure => &mut self.structure,
            Tier::Catalog => &mut self.catalog,
            Tier::Data => &mut self.data,
        }
    }
}

/// Opens frames of one session and tier, on any thread.
pub struct Opener {
    context: FrameContext,
    pub(super) tier: Tier,
    key: Secret,
    ciphers: RwLock<HashMap<u8, Arc<Cipher>>>,
}

impl Opener {
    /// An opener for frames of `context`, with the key of a session's `tier`.
    pub(super) fn new(context: FrameContext, tier: Tier, key: Secret) -> Self {
        Self { context, tier, key, ciphers: RwLock::default() }
    }

    /// Opens `buffer` in place and removes the tag. The caller must recompute the keyed id of the content.
    /// Fails if the frame is of another tier, or if the tag does not verify: the frame was altered, or was sealed as
    /// another frame or in another context. The content of `buffer` is then meaningless.
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
        let cipher = Arc::new(Cipher::new(&thread_key(&self.key, thread)));
        let mut ciphers = self.ciphers.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(ciphers.entry(thread).or_insert(cipher))
    }
}

fn thread_key(key: &Secret, thread: u8) -> Secret {
    key.derive(b"", &[b"sidekeep/1 thread", &u32::from(thread).to_le_bytes()])
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
    use data_encoding::HEXLOWER;

    use super::{Cipher, SealError, Sealer, TierKeys, Unauthentic};
    use crate::base::frame::{FrameContext, FrameType, Tier};
    use crate::base::id::{ChunkId, Epoch, RepositoryId, SourceId};
    use crate::crypto::secret::Secret;

    const ID: ChunkId = ChunkId::new([7; ChunkId::LEN]);

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER.decode(text.as_bytes()).expect("hex")
    }

    /// Test case 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega), as used by NIST.
    #[test]
    fn sealing_matches_the_published_vector() {
        let key = Secret::from_slice(&hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"));
        let cipher = Cipher::new(&key.expect("32 bytes"));
        let nonce: [u8; 12] = hex("cafebabefacedbaddecaf888").try_into().expect("12 bytes");
        let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let plain =
            hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
             b16aedf5aa0de657ba637b39");
        let mut buffer = plain.clone();
        cipher.seal(&nonce, &aad, &mut buffer);
        let sealed =
            hex("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
             c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b");
        assert_eq!(buffer, sealed);
        cipher.open(&nonce, &aad, &mut buffer).expect("opens");
        assert_eq!(buffer, plain);
        assert_eq!(cipher.open(&nonce, b"other", &mut sealed.clone()), Err(Unauthentic));
        assert_eq!(cipher.open(&nonce, &aad, &mut vec![0; 15]), Err(Unauthentic));
    }

    #[test]
    fn counters_run_out_instead_of_wrapping_around() {
        let key = Secret::from_slice(&[1; 32]).expect("32 bytes");
        let context =
            FrameContext { repository: RepositoryId::new([1; 16]), source: SourceId::new([2; 16]), epoch: Epoch(1) };
        let keys = TierKeys { structure: &key, catalog: &key, data: &key };
        let mut sealer = Sealer::new(context, 0, &keys);
        sealer.structure.next = u64::from(u32::MAX);
        assert!(sealer.seal(FrameType::Node, &ID, &mut vec![]).is_ok());
        let exhausted = SealError::Exhausted { thread: 0, tier: Tier::Structure };
        assert_eq!(sealer.seal(FrameType::Node, &ID, &mut vec![]), Err(exhausted));
        assert!(sealer.seal(FrameType::Leaf, &ID, &mut vec![]).is_ok());
    }
}
