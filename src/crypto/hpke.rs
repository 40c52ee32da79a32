//! Sealing to a public key: single-shot HPKE (RFC 9180) in base mode with the X-Wing hybrid KEM, HKDF-SHA-256 and
//! AES-256-GCM, as specified in `docs/format.md` section 3.
//!
//! Base mode does not authenticate the sender. Opened bytes are trusted only because a signed object names their
//! digest, or because a keyed id is recomputed afterwards.

use std::convert::Infallible;

use ::hpke::aead::AesGcm256;
use ::hpke::kdf::HkdfSha256;
use ::hpke::kem::XWing;
use ::hpke::rand_core::{TryCryptoRng, TryRng};
use ::hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::base::env::Env;
use crate::base::frame::{FrameContext, SessionWrap};
use crate::base::id::{Epoch, KeyId, RepositoryId, SessionId};
use crate::crypto::secret::{Secret, SecretBytes};

/// Bytes of an encapsulated key.
const ENCAPSULATED_BYTES: usize = 1120;

/// A public key that cannot be sealed to, or sealed bytes that this key cannot open.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum HpkeError {
    /// The bytes are not an X-Wing public key.
    #[error("is not a usable X-Wing public key")]
    PublicKey,
    /// Sealed to another key or in another context, or altered.
    #[error("cannot be opened with this key")]
    Sealed,
}

/// The public half of a key. Anyone who has it can seal.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey(Box<<XWing as Kem>::PublicKey>);

impl SealingKey {
    /// Length in bytes.
    pub const LEN: usize = 1216;

    /// Reads a key from its stored bytes, of which there are [`Self::LEN`].
    /// Fails if the bytes are not an X-Wing public key, for example if there are too few or too many.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let key = <XWing as Kem>::PublicKey::from_bytes(bytes).map_err(|_| HpkeError::PublicKey)?;
        Ok(Self(Box::new(key)))
    }

    /// Returns the bytes as stored.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        self.0.to_bytes().into()
    }

    fn seal(&self, env: &dyn Env, info: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, HpkeError> {
        let (enc, sealed) = ::hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, XWing>(
            &OpModeS::Base,
            &self.0,
            info,
            plaintext,
            b"",
            &mut EnvRng(env),
        )
        .map_err(|_| HpkeError::PublicKey)?;
        let mut out = enc.to_bytes().to_vec();
        out.extend_from_slice(&sealed);
        Ok(out)
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealingKey").finish_non_exhaustive()
    }
}

/// The secret half of a key, a 32-byte seed.
pub struct OpeningKey(Box<<XWing as Kem>::PrivateKey>);

impl OpeningKey {
    /// Derives the key from a seed (the X-Wing decapsulation key is its seed).
    #[must_use]
    pub fn from_seed(seed: &Secret) -> Self {
        let key = <XWing as Kem>::PrivateKey::from_bytes(seed.expose()).expect("an X-Wing secret key is any 32 bytes");
        Self(Box::new(key))
    }

    /// Returns the public half.
    #[must_use]
    pub fn sealing(&self) -> SealingKey {
        SealingKey(Box::new(XWing::sk_to_pk(&self.0)))
    }

    /// The seed that [`Self::from_seed`] takes.
    pub(super) fn seed(&self) -> Secret {
        let mut bytes: [u8; Secret::LEN] = self.0.to_bytes().into();
        let seed = Secret::from_slice(&bytes).expect("an X-Wing secret key is 32 bytes");
        bytes.zeroize();
        seed
    }

    fn open(&self, info: &[u8], bytes: &[u8]) -> Result<SecretBytes, HpkeError> {
        let (enc, sealed) = bytes.split_at_checked(ENCAPSULATED_BYTES).ok_or(HpkeError::Sealed)?;
        let enc = <XWing as Kem>::EncappedKey::from_bytes(enc).map_err(|_| HpkeError::Sealed)?;
        ::hpke::single_shot_open::<AesGcm256, HkdfSha256, XWing>(&OpModeR::Base, &self.0, &enc, info, sealed, b"")
            .map(Zeroizing::new)
            .map_err(|_| HpkeError::Sealed)
    }
}

/// Seals the data key of `session` to the restore key of an epoch.
/// Fails if `restore` cannot be sealed to.
pub(super) fn wrap_session(
    env: &dyn Env,
    restore: &SealingKey,
    context: &FrameContext,
    session: SessionId,
    key: &Secret,
) -> Result<SessionWrap, HpkeError> {
    let sealed = restore.seal(env, &session_info(context, session), key.expose())?;
    let bytes = [session.as_bytes().as_slice(), &sealed].concat();
    Ok(SessionWrap::from_slice(&bytes).expect("16 + 1120 + 48 bytes are a wrap"))
}

/// Opens `wrap` and returns the data key.
/// Fails if the wrap was sealed to another key or in another context, or was altered.
pub(super) fn unwrap_session(
    restore: &OpeningKey,
    context: &FrameContext,
    wrap: &SessionWrap,
) -> Result<Secret, HpkeError> {
    let session = wrap.session();
    let sealed = &wrap.as_bytes()[SessionId::LEN..];
    let key = restore.open(&session_info(context, session), sealed)?;
    Secret::from_slice(&key).ok_or(HpkeError::Sealed)
}

/// Identifies a grant. Every byte of it is authenticated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GrantId {
    /// The repository.
    pub repository: RepositoryId,
    /// The epoch whose keys are granted.
    pub epoch: Epoch,
    /// The key that the grant is sealed to.
    pub key: KeyId,
}

/// Seals the body of a grant. Returns the encapsulated key (1120 bytes) followed by the sealed body.
/// Fails if `to` cannot be sealed to.
pub(super) fn seal_grant(env: &dyn Env, to: &SealingKey, grant: &GrantId, body: &[u8]) -> Result<Vec<u8>, HpkeError> {
    to.seal(env, &grant_info(grant), body)
}

/// Opens the body of a grant, given what [`seal_grant`] returned.
/// Fails if it was sealed to another key or for another grant, or was altered.
pub(super) fn open_grant(key: &OpeningKey, grant: &GrantId, sealed: &[u8]) -> Result<SecretBytes, HpkeError> {
    key.open(&grant_info(grant), sealed)
}

/// Where the body of a report belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReportId {
    pub repository: RepositoryId,
    pub epoch: Epoch,
    /// The key that signs the report.
    pub key: KeyId,
    /// Number of the report.
    pub number: u64,
}

impl SealingKey {
    /// Seals the content of a report's body to a restore key. Returns the encapsulated key followed by the sealed
    /// content. Fails if the key is not usable.
    pub fn seal_report(&self, env: &dyn Env, report: &ReportId, content: &[u8]) -> Result<Vec<u8>, HpkeError> {
        self.seal(env, &report_info(report), content)
    }
}

/// Opens the content of a report's body.
/// Fails if it was sealed to another key or for another report, or was altered.
pub(super) fn open_report(restore: &OpeningKey, report: &ReportId, sealed: &[u8]) -> Result<SecretBytes, HpkeError> {
    restore.open(&report_info(report), sealed)
}

fn report_info(report: &ReportId) -> Vec<u8> {
    [
        b"sidekeep/1 report".as_slice(),
        report.repository.as_bytes(),
        &report.epoch.0.to_le_bytes(),
        report.key.as_bytes(),
        &report.number.to_le_bytes(),
    ]
    .concat()
}

fn session_info(context: &FrameContext, session: SessionId) -> Vec<u8> {
    [
        b"sidekeep/1 session".as_slice(),
        context.repository.as_bytes(),
        context.source.as_bytes(),
        &context.epoch.0.to_le_bytes(),
        session.as_bytes(),
    ]
    .concat()
}

fn grant_info(grant: &GrantId) -> Vec<u8> {
    [b"sidekeep/1 grant".as_slice(), grant.repository.as_bytes(), &grant.epoch.0.to_le_bytes(), grant.key.as_bytes()]
        .concat()
}

/// Adapts the entropy of an [`Env`] to crates that need a random number generator.
struct EnvRng<'a>(&'a dyn Env);

impl TryRng for EnvRng<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for EnvRng<'_> {}

#[cfg(test)]
mod tests {
    use super::{GrantId, HpkeError, OpeningKey, SealingKey, open_grant, seal_grant, unwrap_session, wrap_session};
    use crate::base::env::Seeded;
    use crate::base::frame::{FrameContext, SessionWrap};
    use crate::base::id::{Epoch, KeyId, RepositoryId, SessionId, SourceId};
    use crate::crypto::secret::Secret;

    fn context() -> FrameContext {
        FrameContext { repository: RepositoryId::new([1; 16]), source: SourceId::new([2; 16]), epoch: Epoch(3) }
    }

    #[test]
    fn a_session_wrap_opens_only_in_its_own_context() {
        let env = Seeded::new(1);
        let restore = OpeningKey::from_seed(&Secret::random(&env));
        let key = Secret::random(&env);
        let session = SessionId::new([4; 16]);
        let wrap = wrap_session(&env, &restore.sealing(), &context(), session, &key).expect("wraps");
        assert_eq!(unwrap_session(&restore, &context(), &wrap).expect("opens").expose(), key.expose());

        let others = [
            FrameContext { repository: RepositoryId::new([9; 16]), ..context() },
            FrameContext { source: SourceId::new([9; 16]), ..context() },
            FrameContext { epoch: Epoch(4), ..context() },
        ];
        for other in others {
            assert_eq!(unwrap_session(&restore, &other, &wrap).err(), Some(HpkeError::Sealed));
        }
        let stranger = OpeningKey::from_seed(&Secret::random(&env));
        assert_eq!(unwrap_session(&stranger, &context(), &wrap).err(), Some(HpkeError::Sealed));
        for at in [0, 15, 16, 1000, 1120, 1136, 1183] {
            let mut bytes = *wrap.as_bytes();
            bytes[at] ^= 1;
            assert!(unwrap_session(&restore, &context(), &SessionWrap::new(bytes)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_grant_opens_only_for_its_key() {
        let env = Seeded::new(2);
        let to = OpeningKey::from_seed(&Secret::random(&env));
        let place = GrantId { repository: RepositoryId::new([1; 16]), epoch: Epoch(1), key: KeyId::new([5; 16]) };
        let sealed = seal_grant(&env, &to.sealing(), &place, b"body").expect("seals");
        assert_eq!(open_grant(&to, &place, &sealed).expect("opens").as_slice(), b"body");
        let other = GrantId { key: KeyId::new([6; 16]), ..place };
        assert_eq!(open_grant(&to, &other, &sealed).err(), Some(HpkeError::Sealed));
        assert_eq!(open_grant(&to, &place, &sealed[..1119]).err(), Some(HpkeError::Sealed));
    }

    #[test]
    fn keys_round_trip_and_wrong_lengths_are_refused() {
        let key = OpeningKey::from_seed(&Secret::from_slice(&[7; 32]).expect("32 bytes"));
        assert_eq!(key.seed().expose(), &[7; 32]);
        let public = key.sealing();
        assert!(SealingKey::from_bytes(&public.to_bytes()).is_ok_and(|same| same == public));
        assert!(SealingKey::from_bytes(&public.to_bytes()[1..]).is_err());
    }
}
