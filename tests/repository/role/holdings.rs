//! Everything that a thief of a key file has: all that its grant contains, and all that can be derived from it in any
//! way. Written only from `docs/format.md`. It uses the program's layout of objects, but none of its cryptography.

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use data_encoding::BASE64;
use hkdf::Hkdf;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR};
use sha2::Sha256;
use sidekeep::base::frame::{FrameContext, FrameCounter, FrameType, SessionWrap};
use sidekeep::base::id::{ChunkId, Epoch, KeyId, RepositoryId, SessionId};
use sidekeep::format::grant::Grant;

use crate::support::world::World;

const ENCAPSULATED: usize = 1120;

/// The members of a grant, and the secrets in each.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub struct Holdings {
    pub members: BTreeMap<String, Vec<Vec<u8>>>,
}

/// Opens bytes that are sealed to the sealing half of a key.
fn open_sealed(seed: &[u8], info: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let key = <XWing as Kem>::PrivateKey::from_bytes(seed).ok()?;
    let (enc, sealed) = bytes.split_at_checked(ENCAPSULATED)?;
    let enc = <XWing as Kem>::EncappedKey::from_bytes(enc).ok()?;
    hpke::single_shot_open::<AesGcm256, HkdfSha256, XWing>(&OpModeR::Base, &key, &enc, info, sealed, b"").ok()
}

fn hkdf(key: &[u8], salt: &[u8], info: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 32];
    Hkdf::<Sha256>::new(Some(salt), key).expand(info, &mut out).expect("32 bytes");
    out
}

/// The seed of the sealing half in a key file without a passphrase.
pub fn sealing_seed(file: &str) -> Vec<u8> {
    let secret = file.lines().find_map(|line| line.strip_prefix("secret: ")).expect("a secret");
    BASE64.decode(secret.as_bytes()).expect("base64")[32..].to_vec()
}

/// The key id in a key file.
pub fn key_id(file: &str) -> KeyId {
    file.lines().find_map(|line| line.strip_prefix("key: ")).expect("an id").parse().expect("an id")
}

/// The members of the grant of `key`, if the key in `file` can open it.
pub fn open_grant(world: &World, file: &str, key: KeyId) -> Option<Holdings> {
    let epoch = Epoch(1);
    let bytes = world.objects().get(&world.grant_name(epoch, key), 1 << 20).expect("a grant");
    let grant = Grant::decode(&bytes).expect("a grant");
    let repository: RepositoryId = grant.repository;
    let info = [b"sidekeep/1 grant".as_slice(), repository.as_bytes(), &epoch.0.to_le_bytes(), key.as_bytes()].concat();
    let body = open_sealed(&sealing_seed(file), &info, &grant.sealed)?;
    let body: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&body).expect("JSON");
    let secret = |value: &serde_json::Value| BASE64.decode(value.as_str().expect("text").as_bytes()).expect("base64");
    let members = body.into_iter().map(|(name, value)| match value.as_object() {
        Some(sources) => {
            let members = sources.values().filter_map(|keys| keys.as_object());
            (name, members.flat_map(|keys| keys.values().map(secret)).collect())
        }
        None => (name, vec![secret(&value)]),
    });
    Some(Holdings { members: members.collect() })
}

impl Holdings {
    /// Each secret, and each that it may be the root of, for a source.
    fn secrets(&self, source: &[u8]) -> Vec<Vec<u8>> {
        let mut secrets: Vec<Vec<u8>> = self.members.values().flatten().cloned().collect();
        for secret in self.members.values().flatten() {
            secrets.push(hkdf(secret, source, b"sidekeep/1 source ids"));
            secrets.push(hkdf(secret, source, b"sidekeep/1 source structure"));
        }
        secrets
    }

    /// Every key that may have sealed a frame of this session, as far as this holder can derive it: each secret in each
    /// derivation of the format, and the secret itself.
    pub fn session_keys(&self, context: &FrameContext, session: SessionId, wraps: &[SessionWrap]) -> Vec<Vec<u8>> {
        let source = context.source.as_bytes();
        let secrets = self.secrets(source);
        let mut keys = Vec::new();
        for secret in &secrets {
            let catalog = hkdf(secret, b"", b"sidekeep/1 catalog");
            keys.push(hkdf(secret, session.as_bytes(), b"sidekeep/1 structure session"));
            keys.push(hkdf(&catalog, session.as_bytes(), b"sidekeep/1 catalog session"));
            keys.push(hkdf(secret, session.as_bytes(), b"sidekeep/1 catalog session"));
            keys.push(secret.clone());
            keys.push(catalog);
            for wrap in wraps.iter().filter(|wrap| wrap.session() == session) {
                let info = [
                    b"sidekeep/1 session".as_slice(),
                    context.repository.as_bytes(),
                    source,
                    &context.epoch.0.to_le_bytes(),
                    session.as_bytes(),
                ];
                keys.extend(open_sealed(secret, &info.concat(), &wrap.as_bytes()[SessionId::LEN..]));
            }
        }
        keys
    }

    /// The name of a source, if a secret of this holder opens it.
    pub fn open_label(&self, context: &FrameContext, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at(12);
        let aad = [context.repository.as_bytes().as_slice(), context.source.as_bytes()].concat();
        self.secrets(context.source.as_bytes())
            .iter()
            .find_map(|secret| open_aead(&hkdf(secret, b"", b"sidekeep/1 label"), nonce, &aad, sealed))
    }
}

fn open_aead(key: &[u8], nonce: &[u8], aad: &[u8], msg: &[u8]) -> Option<Vec<u8>> {
    let nonce: [u8; 12] = nonce.try_into().expect("12 bytes");
    let cipher = Aes256Gcm::new_from_slice(key).expect("32 bytes");
    cipher.decrypt(&Nonce::from(nonce), Payload { msg, aad }).ok()
}

/// Opens a frame with a session key.
pub fn open_frame(
    key: &[u8],
    context: &FrameContext,
    (frame, id): (FrameType, &ChunkId),
    frame_counter: FrameCounter,
    sealed: &[u8],
) -> Option<Vec<u8>> {
    let thread =
        hkdf(key, b"", &[b"sidekeep/1 thread".as_slice(), &u32::from(frame_counter.thread).to_le_bytes()].concat());
    let nonce = [[0; 4].as_slice(), &u64::from(frame_counter.counter).to_be_bytes()].concat();
    let aad = [
        b"sidekeep/1 frame".as_slice(),
        context.repository.as_bytes(),
        context.source.as_bytes(),
        &context.epoch.0.to_le_bytes(),
        &[frame.byte()],
        id.as_bytes(),
    ];
    open_aead(&thread, &nonce, &aad.concat(), sealed)
}
