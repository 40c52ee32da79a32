//! Keyed ids and boundary hashes (`docs/format.md` sections 3, 4 and 6): keyed BLAKE3, and SipHash-2-4 for
//! the boundaries of leaves and nodes, which are computed for almost every row.
//!
//! Every role has the [`StructureKeys`] of its sources. [`SourceIdKeys`] are for roles that compare rows without reading
//! them (operators) and for admins. Neither opens a row.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::base::env::{Env, random};
use crate::base::frame::{FrameContext, FrameType, Tier};
use crate::base::id::{ChunkId, FactDigest, SessionId, SourceId};
use crate::crypto::seal::{Cipher, NONCE_BYTES, Opener, SealError};
use crate::crypto::secret::Secret;

/// Keys of one source in one epoch that every role of the source has.
pub struct StructureKeys {
    context: FrameContext,
    key: Secret,
    chunk_id: Secret,
    label: Secret,
    fact: Secret,
}

impl StructureKeys {
    /// Derives the keys from the structure key of the source.
    pub(super) fn derive(key: Secret, context: FrameContext) -> Self {
        let derived = |info: &str| key.derive(b"", &[info.as_bytes()]);
        Self {
            context,
            chunk_id: derived("sidekeep/1 structure id"),
            label: derived("sidekeep/1 label"),
            fact: derived("sidekeep/1 fact"),
            key,
        }
    }

    /// The repository, source and epoch of these keys.
    #[must_use]
    pub fn context(&self) -> FrameContext {
        self.context
    }

    /// The id of a chunk of the structure tier. `None` for any other tier.
    #[must_use]
    pub fn chunk_id(&self, frame: FrameType, content: &[u8]) -> Option<ChunkId> {
        (frame.tier() == Tier::Structure).then(|| chunk_id(&self.chunk_id, frame, content))
    }

    /// The digest of a fact of this kind. Every role can compare digests.
    #[must_use]
    pub fn fact_digest(&self, kind: u8, text: &[u8]) -> FactDigest {
        let hash = keyed(&self.fact, &[kind], text);
        FactDigest::new(*hash.first_chunk().expect("32 bytes hold 16"))
    }

    /// An opener for frames of the structure tier of a session.
    #[must_use]
    pub fn opener(&self, session: SessionId) -> Opener {
        Opener::new(self.context, Tier::Structure, self.session(session))
    }

    /// The key of the structure tier of a session.
    pub(super) fn session(&self, session: SessionId) -> Secret {
        self.key.derive(session.as_bytes(), &[b"sidekeep/1 structure session"])
    }

    /// Seals the name of the source for the roster.
    #[must_use]
    pub fn seal_label(&self, env: &dyn Env, name: &str) -> Vec<u8> {
        self.seal_name(env, &self.label_aad(), name)
    }

    /// Opens the sealed name of the source, given what [`Self::seal_label`] returned.
    /// Fails if the name was sealed for another source, repository or epoch, was altered, or is not UTF-8.
    pub fn open_label(&self, sealed: &[u8]) -> Result<String, SealError> {
        self.open_name(&self.label_aad(), sealed)
    }

    /// Seals the name of a table for the roster.
    #[must_use]
    pub fn seal_table_name(&self, env: &dyn Env, name: &str) -> Vec<u8> {
        self.seal_name(env, &self.table_aad(), name)
    }

    fn seal_name(&self, env: &dyn Env, aad: &[u8], name: &str) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = random(env);
        let mut sealed = name.as_bytes().to_vec();
        Cipher::new(&self.label).seal(&nonce, aad, &mut sealed);
        [nonce.as_slice(), &sealed].concat()
    }

    fn open_name(&self, aad: &[u8], sealed: &[u8]) -> Result<String, SealError> {
        let unauthentic = SealError::Label { source_id: self.context.source };
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(unauthentic)?;
        let mut name = sealed.to_vec();
        Cipher::new(&self.label).open(nonce, aad, &mut name).map_err(|_| unauthentic)?;
        String::from_utf8(name).map_err(|_| unauthentic)
    }

    fn label_aad(&self) -> Vec<u8> {
        [self.context.repository.as_bytes().as_slice(), self.context.source.as_bytes()].concat()
    }

    fn table_aad(&self) -> Vec<u8> {
        [self.label_aad().as_slice(), b"table"].concat()
    }
}

/// Keys of one source in one epoch that turn content into ids and boundaries.
pub struct SourceIdKeys {
    context: FrameContext,
    structure_chunk_id: Secret,
    chunk_id: Secret,
    boundary: Secret,
    stream_boundary: Secret,
    row_hash: Secret,
    catalog: Secret,
}

impl SourceIdKeys {
    /// Derives the keys from the source id key.
    pub(super) fn derive(key: &Secret, structure: &StructureKeys) -> Self {
        let derived = |info: &str| key.derive(b"", &[info.as_bytes()]);
        Self {
            context: structure.context,
            structure_chunk_id: structure.chunk_id.duplicate(),
            chunk_id: derived("sidekeep/1 chunk id"),
            boundary: derived("sidekeep/1 boundary"),
            stream_boundary: derived("sidekeep/1 stream boundary"),
            row_hash: derived("sidekeep/1 row hash"),
            catalog: derived("sidekeep/1 catalog"),
        }
    }

    /// The repository, source and epoch of these keys.
    #[must_use]
    pub fn context(&self) -> FrameContext {
        self.context
    }

    /// The id of a chunk of any tier.
    #[must_use]
    pub fn chunk_id(&self, frame: FrameType, content: &[u8]) -> ChunkId {
        let key = if frame.tier() == Tier::Structure { &self.structure_chunk_id } else { &self.chunk_id };
        chunk_id(key, frame, content)
    }

    /// Decides whether a leaf (level 0) or a node ends after this placement key.
    #[must_use]
    pub fn boundary_hash(&self, level: u8, placement_key: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(self.boundary.expose().first_chunk().expect("32 bytes hold 16"));
        hasher.write(&[level]);
        hasher.write(placement_key);
        hasher.finish()
    }

    /// Decides whether a piece of a stream ends after this window.
    #[must_use]
    pub fn stream_boundary_hash(&self, window: &[u8]) -> u64 {
        first_u64(&keyed(&self.stream_boundary, &[], window))
    }

    /// Hash of the cells of a row, or of a key that is too long to store.
    #[must_use]
    pub fn row_hash(&self, bytes: &[u8]) -> [u8; 32] {
        keyed(&self.row_hash, &[], bytes)
    }

    /// An opener for frames of the catalog tier of a session.
    #[must_use]
    pub fn opener(&self, session: SessionId) -> Opener {
        Opener::new(self.context, Tier::Catalog, self.session(session))
    }

    /// The key of the catalog tier of a session.
    pub(super) fn session(&self, session: SessionId) -> Secret {
        self.catalog.derive(session.as_bytes(), &[b"sidekeep/1 catalog session"])
    }
}

/// Derives the structure key `S` of a source from the structure root of the epoch.
pub(super) fn source_structure_key(structure_root: &Secret, source: SourceId) -> Secret {
    structure_root.derive(source.as_bytes(), &[b"sidekeep/1 source structure"])
}

/// Derives the id key `I` of a source from the id root of the epoch.
pub(super) fn source_id_key(id_root: &Secret, source: SourceId) -> Secret {
    id_root.derive(source.as_bytes(), &[b"sidekeep/1 source ids"])
}

fn chunk_id(key: &Secret, frame: FrameType, content: &[u8]) -> ChunkId {
    let hash = keyed(key, &[frame.byte()], content);
    ChunkId::new(*hash.first_chunk().expect("32 bytes hold 20"))
}

fn first_u64(hash: &[u8; 32]) -> u64 {
    u64::from_le_bytes(*hash.first_chunk().expect("32 bytes hold 8"))
}

/// Longest input that is concatenated on the stack: one BLAKE3 chunk, hashed in one call.
const SHORT_BYTES: usize = 1024;

fn keyed(key: &Secret, prefix: &[u8], content: &[u8]) -> [u8; 32] {
    if prefix.is_empty() {
        return blake3::keyed_hash(key.expose(), content).into();
    }
    if prefix.len() + content.len() <= SHORT_BYTES {
        return keyed_short(key, prefix, content);
    }
    // Concatenated, because a separate prefix would shift the BLAKE3 chunks and prevent hashing them in parallel.
    blake3::keyed_hash(key.expose(), &[prefix, content].concat()).into()
}

fn keyed_short(key: &Secret, prefix: &[u8], content: &[u8]) -> [u8; 32] {
    let len = prefix.len() + content.len();
    let mut input = [0; SHORT_BYTES];
    input[..prefix.len()].copy_from_slice(prefix);
    input[prefix.len()..len].copy_from_slice(content);
    blake3::keyed_hash(key.expose(), &input[..len]).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{SourceIdKeys, StructureKeys, keyed, source_id_key, source_structure_key};
    use crate::base::env::Seeded;
    use crate::base::frame::{FrameContext, FrameType};
    use crate::base::id::{Epoch, RepositoryId, SourceId};
    use crate::crypto::secret::Secret;

    fn keys(source: u8) -> (StructureKeys, SourceIdKeys) {
        let context = FrameContext {
            repository: RepositoryId::new([1; 16]),
            source: SourceId::new([source; 16]),
            epoch: Epoch(1),
        };
        let structure_root = Secret::from_slice(&[3; 32]).expect("32 bytes");
        let structure = StructureKeys::derive(source_structure_key(&structure_root, context.source), context);
        let root = Secret::from_slice(&[4; 32]).expect("32 bytes");
        let ids = SourceIdKeys::derive(&source_id_key(&root, context.source), &structure);
        (structure, ids)
    }

    #[test]
    fn ids_differ_by_type_source_and_purpose() {
        let (structure, ids) = keys(1);
        let (_, others) = keys(2);
        assert_ne!(ids.chunk_id(FrameType::Leaf, b"x"), ids.chunk_id(FrameType::Piece, b"x"));
        assert_ne!(ids.chunk_id(FrameType::Leaf, b"x"), others.chunk_id(FrameType::Leaf, b"x"));
        assert_ne!(ids.chunk_id(FrameType::Node, b"x"), others.chunk_id(FrameType::Node, b"x"));
        assert_eq!(structure.chunk_id(FrameType::Node, b"x"), Some(ids.chunk_id(FrameType::Node, b"x")));
        assert_eq!(structure.chunk_id(FrameType::Leaf, b"x"), None);
        assert_ne!(ids.boundary_hash(0, b"x"), ids.boundary_hash(1, b"x"));
        assert_ne!(ids.boundary_hash(0, b""), ids.stream_boundary_hash(&[0]));
    }

    #[test]
    fn a_label_opens_only_in_its_own_source() {
        let (structure, _) = keys(1);
        let (other, _) = keys(2);
        let sealed = structure.seal_label(&Seeded::new(1), "contacts");
        assert_eq!(structure.open_label(&sealed).expect("opens"), "contacts");
        assert!(other.open_label(&sealed).is_err());
        assert!(structure.open_label(&sealed[..11]).is_err());
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn short_and_long_inputs_use_the_same_hash(content in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let key = Secret::from_slice(&[5; 32]).expect("32 bytes");
            let whole = [&[7], content.as_slice()].concat();
            prop_assert_eq!(keyed(&key, &[7], &content), keyed(&key, &[], &whole));
        }
    }
}
