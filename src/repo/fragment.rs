//! Index fragments in the store. The session that stored the packs writes them. They are used only if signed by a key
//! whose packs would be trusted (`docs/format.md` section 8). They are a cache: if a fragment is missing, damaged or
//! not trusted, only the packs' own tables have to be read.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::finding::Finding;
use crate::base::frame::{FrameContext, FrameCounter, FrameType};
use crate::base::id::{ChunkId, Digest, KeyId, SessionId, SourceId};
use crate::base::limit::{BLOCK_ENTRIES_MAX, FRAME_CONTENT_BYTES_MAX, INDEX_BYTES_MAX, Limit, REPORT};
use crate::base::role::Role;
use crate::crypto::ids::StructureKeys;
use crate::crypto::role::Identity;
use crate::crypto::seal::Sealer;
use crate::crypto::session::SessionKeys;
use crate::crypto::sign::VerifyingKey;
use crate::format::codec::{self, Codec, Encoder};
use crate::format::fragment::{
    Fragment, FragmentBlock, FragmentDirectory, FragmentEntry, FragmentPack, SealedFragment, read_block, write_block,
};
use crate::format::name::Name;
use crate::format::node::FrameLocation;
use crate::format::pack::ordinal_id;
use crate::format::wire::Take;
use crate::repo::error::{InObject, RepoError, WriteError};
use crate::repo::finding::store_note;
use crate::repo::index::IndexedPack;
use crate::repo::ledger::Ledger;
use crate::repo::objects::{ObjectRead, Objects};
use crate::store::StoreError;

const FRAGMENT: Limit = Limit::bytes(INDEX_BYTES_MAX, REPORT);
const CONTENT: Limit = Limit::bytes(FRAME_CONTENT_BYTES_MAX, REPORT);

/// The keys whose fragments are trusted: operators of the source that its ledger trusts. A false fragment has the same
/// effect as a pack full of garbage, and the remedy is the same: revoke the key.
#[derive(Clone, Debug)]
pub struct Signers(BTreeMap<KeyId, Option<VerifyingKey>>);

impl Signers {
    /// The signers as of the head of this ledger.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let mut signers = BTreeMap::new();
        for (id, key) in &ledger.roster().keys {
            if key.role == Role::Operator && key.serves(ledger.source, ledger.roster().head().number) {
                signers.insert(*id, ledger.trusts(id).then_some(key.signing));
            }
        }
        Self(signers)
    }
}

/// Packs that were written, and the locations of their chunks.
#[derive(Debug, Default)]
pub struct FragmentDraft {
    packs: Vec<FragmentPack>,
    entries: Vec<FragmentEntry>,
    sequence: u32,
}

impl FragmentDraft {
    /// Adds a pack and the locations in it. Their `pack` is replaced.
    pub fn add(&mut self, pack: IndexedPack, locations: impl Iterator<Item = (ChunkId, FrameLocation)>) {
        let ordinal = self.packs.len() as u32;
        self.packs.push(FragmentPack { pack: pack.pack, size: pack.size, content: pack.content });
        for (id, location) in locations {
            self.entries.push((id, FrameLocation { pack: ordinal, ..location }));
        }
    }

    /// Number of entries so far.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Takes what was added since the last fragment, as a sealed and signed fragment. `None` if nothing was added.
    /// Fails if the session cannot seal more, or the fragment would exceed a limit of the format.
    pub fn take(
        &mut self,
        session: &SessionKeys,
        sealer: &mut Sealer,
        identity: &Identity,
    ) -> Result<Option<Vec<u8>>, WriteError> {
        if self.packs.is_empty() {
            return Ok(None);
        }
        let id = ordinal_id(session.session(), self.sequence);
        let packs = std::mem::take(&mut self.packs);
        let SealedBlocks { blocks, stored } = SealedBlocks::seal(&self.take_entries(), &id, sealer)?;
        let directory = FragmentDirectory { packs, blocks };
        let fragment = self.seal_directory(session, sealer, identity.key_id(), &directory)?;
        let mut bytes = fragment.to_bytes(|message| identity.sign(message));
        bytes.extend_from_slice(&stored);
        FRAGMENT.check("an index fragment", bytes.len() as u64)?;
        Ok(Some(bytes))
    }

    /// Takes the entries in the order of their ids, which are then distinct.
    fn take_entries(&mut self) -> Vec<FragmentEntry> {
        let mut entries = std::mem::take(&mut self.entries);
        // Stable: of entries with equal ids, the first one that was added remains.
        entries.sort_by_key(|entry| entry.0);
        entries.dedup_by_key(|entry| entry.0);
        entries
    }

    fn seal_directory(
        &mut self,
        session: &SessionKeys,
        sealer: &mut Sealer,
        signer: KeyId,
        directory: &FragmentDirectory,
    ) -> Result<SealedFragment, WriteError> {
        let content = directory.content();
        CONTENT.check("the directory of an index fragment", content.len() as u64)?;
        let mut sealed = codec::compress(&content)?;
        let sequence = self.sequence;
        self.sequence += 1;
        let id = ordinal_id(session.session(), sequence);
        let frame_counter = sealer.seal(FrameType::Index, &id, &mut sealed)?;
        let FrameContext { repository, source, epoch } = session.context();
        let session = session.session();
        Ok(SealedFragment { repository, source, epoch, session, sequence, signer, frame_counter, sealed })
    }
}

/// The sealed blocks of a fragment.
#[derive(Default)]
struct SealedBlocks {
    blocks: Vec<FragmentBlock>,
    /// Their stored bytes, back to back.
    stored: Vec<u8>,
}

impl SealedBlocks {
    fn seal(entries: &[FragmentEntry], id: &ChunkId, sealer: &mut Sealer) -> Result<Self, WriteError> {
        let mut sealed = Self::default();
        let mut encoder = Encoder::new()?;
        for entries in entries.chunks(BLOCK_ENTRIES_MAX) {
            let (codec, mut content) = encoder.encode(&write_block(entries), &[])?;
            let frame_counter = sealer.seal(FrameType::IndexBlock, id, &mut content)?;
            sealed.blocks.push(describe_block(entries, codec, frame_counter, &content));
            sealed.stored.append(&mut content);
        }
        Ok(sealed)
    }
}

fn describe_block(
    entries: &[FragmentEntry],
    codec: Codec,
    frame_counter: FrameCounter,
    stored: &[u8],
) -> FragmentBlock {
    FragmentBlock {
        first: entries[0].0,
        entries: entries.len() as u32,
        stored: stored.len() as u32,
        codec,
        frame_counter,
        digest: Digest::of(stored),
    }
}

/// Passes on all fragments that can be opened, one after the other. Adds a note to `notes` for each of the others.
/// Fails if the store cannot list the fragments or read one that exists.
pub fn read_all(
    objects: &Objects,
    keys: &StructureKeys,
    signers: &Signers,
    notes: &mut Vec<Finding>,
    each: &mut dyn FnMut(Fragment),
) -> Result<(), RepoError> {
    let source = keys.context().source;
    let names = list(objects, source)?;
    let mut reader = FragmentReader { objects, keys, signers, notes, each };
    let missing = reader.read_cached(&names)?;
    reader.read_stored(missing)?;
    drop_unlisted_copies(objects, source, &names);
    Ok(())
}

fn drop_unlisted_copies(objects: &Objects, source: SourceId, listed: &[Name]) {
    if let Some(cache) = objects.cache() {
        cache.retain(source, listed);
    }
}

fn list(objects: &Objects, source: SourceId) -> Result<Vec<Name>, RepoError> {
    let listed = objects.list(&format!("{source}/index"))?;
    Ok(listed.iter().filter_map(|listed| Name::parse(&listed.name)).collect())
}

struct FragmentReader<'a> {
    objects: &'a Objects,
    keys: &'a StructureKeys,
    signers: &'a Signers,
    notes: &'a mut Vec<Finding>,
    each: &'a mut dyn FnMut(Fragment),
}

impl FragmentReader<'_> {
    /// Reads the fragments that the cache has. Returns the names of the others.
    fn read_cached(&mut self, names: &[Name]) -> Result<Vec<Name>, RepoError> {
        let mut missing = Vec::new();
        for &name in names {
            match self.cached(&name) {
                Some(bytes) => self.add(name, Ok(bytes))?,
                None => missing.push(name),
            }
        }
        Ok(missing)
    }

    fn cached(&self, name: &Name) -> Option<Bytes> {
        self.objects.cache()?.get(name)
    }

    fn read_stored(&mut self, names: Vec<Name>) -> Result<(), RepoError> {
        let reads: Vec<ObjectRead> = names.into_iter().map(whole_fragment).collect();
        self.objects.get_many(&reads, |at, bytes| {
            let name = reads[at].name;
            self.keep(&name, &bytes);
            self.add(name, bytes)
        })
    }

    /// Keeps a copy of a fragment that was read from the store.
    fn keep(&self, name: &Name, bytes: &Result<Bytes, StoreError>) {
        let Some(cache) = self.objects.cache() else { return };
        if let Ok(bytes) = bytes {
            cache.keep(name, bytes);
        }
    }

    fn add(&mut self, name: Name, bytes: Result<Bytes, StoreError>) -> Result<(), RepoError> {
        match self.open(name, bytes) {
            Ok(fragment) => fragment.into_iter().for_each(&mut self.each),
            Err(RepoError::Store(error)) if !matches!(error, StoreError::NotFound { .. }) => return Err(error.into()),
            Err(error) => self.notes.push(store_note(format!("index fragment skipped: {error}"))),
        }
        Ok(())
    }

    fn open(&self, name: Name, bytes: Result<Bytes, StoreError>) -> Result<Option<Fragment>, RepoError> {
        open(name, &bytes?, self.keys, self.signers)
    }
}

fn whole_fragment(name: Name) -> ObjectRead {
    ObjectRead { name, range: None, bytes_max: INDEX_BYTES_MAX as u64 }
}

/// Opens a fragment. `None` if it belongs to another epoch or its operator has been revoked.
/// Fails if its content does not match its name, it is not signed by an operator of the source, or a part of it cannot be
/// opened.
pub fn open(name: Name, bytes: &[u8], keys: &StructureKeys, signers: &Signers) -> Result<Option<Fragment>, RepoError> {
    if name.digest() != Some(Digest::of(bytes)) {
        return Err(RepoError::damaged(name, "its content does not match the digest in its name"));
    }
    let Some(head) = open_head(name, bytes, keys, signers)? else { return Ok(None) };
    head.open_blocks(bytes, keys).map(Some)
}

/// A fragment whose signature was verified and whose directory is open. Its blocks need not have been read.
#[derive(Debug)]
pub(super) struct FragmentHead {
    name: Name,
    /// The id under which directory and blocks are sealed.
    id: ChunkId,
    session: SessionId,
    pub(super) signer: KeyId,
    pub(super) directory: FragmentDirectory,
    /// Offset of the first block.
    pub(super) blocks_at: u64,
}

/// Opens the part of a fragment before its blocks. `None` if it belongs to another epoch or its operator has been
/// revoked.
///
/// Fails if the bytes end before the blocks, it is not signed by an operator of the source, or the directory cannot be
/// opened.
pub(super) fn open_head(
    name: Name,
    bytes: &[u8],
    keys: &StructureKeys,
    signers: &Signers,
) -> Result<Option<FragmentHead>, RepoError> {
    let (fragment, signed, blocks) = SealedFragment::read(bytes).in_object(name)?;
    if fragment.epoch != keys.context().epoch {
        return Ok(None);
    }
    let Some(signer) = trusted_signer(name, fragment.signer, signers)? else { return Ok(None) };
    signer.verify(signed.message, signed.signature).map_err(|_| not_signed(name, fragment.signer))?;
    let blocks_at = (bytes.len() - blocks.len()) as u64;
    let SealedFragment { session, signer, .. } = fragment;
    let id = ordinal_id(session, fragment.sequence);
    let directory = open_directory(name, &id, fragment, keys)?;
    Ok(Some(FragmentHead { name, id, session, signer, directory, blocks_at }))
}

fn open_directory(
    name: Name,
    id: &ChunkId,
    fragment: SealedFragment,
    keys: &StructureKeys,
) -> Result<FragmentDirectory, RepoError> {
    let mut content = fragment.sealed;
    let opener = keys.opener(fragment.session);
    opener.open(FrameType::Index, id, fragment.frame_counter, &mut content).in_object(name)?;
    let content = codec::decompress(&content).in_object(name)?;
    FragmentDirectory::read(&content).in_object(name)
}

impl FragmentHead {
    /// Opens all blocks of a fragment, whose bytes are `bytes`.
    fn open_blocks(self, bytes: &[u8], keys: &StructureKeys) -> Result<Fragment, RepoError> {
        let entries = self.entries(bytes, keys)?;
        if !entries.is_sorted_by(|one, other| one.0 < other.0) {
            return Err(RepoError::damaged(self.name, "its blocks overlap"));
        }
        Ok(Fragment { signer: self.signer, packs: self.directory.packs, entries })
    }

    /// The entries of all blocks.
    fn entries(&self, bytes: &[u8], keys: &StructureKeys) -> Result<Vec<FragmentEntry>, RepoError> {
        let mut take = Take::new(&bytes[self.blocks_at as usize..]);
        let mut entries = Vec::new();
        for block in &self.directory.blocks {
            let sealed = take.raw(block.stored as usize, "block of a fragment").in_object(self.name)?;
            entries.extend(self.open_block(block, sealed, keys)?);
        }
        take.finish().in_object(self.name)?;
        Ok(entries)
    }

    /// The entries of one block, from its stored bytes.
    ///
    /// Fails if they do not match their digest or cannot be opened.
    pub(super) fn open_block(
        &self,
        block: &FragmentBlock,
        sealed: &[u8],
        keys: &StructureKeys,
    ) -> Result<Vec<FragmentEntry>, RepoError> {
        if Digest::of(sealed) != block.digest {
            return Err(RepoError::damaged(self.name, "a block does not match its digest"));
        }
        let mut content = sealed.to_vec();
        let opener = keys.opener(self.session);
        opener.open(FrameType::IndexBlock, &self.id, block.frame_counter, &mut content).in_object(self.name)?;
        let content = codec::decode(block.codec, content).in_object(self.name)?;
        read_block(block, &content, self.directory.packs.len()).in_object(self.name)
    }
}

fn not_signed(name: Name, signer: KeyId) -> RepoError {
    RepoError::damaged(name, format!("it was not signed by key {signer}, which it names as its signer"))
}

/// The public key of a signer. `None` if it has been revoked.
fn trusted_signer(name: Name, id: KeyId, signers: &Signers) -> Result<Option<&VerifyingKey>, RepoError> {
    let signer = signers.0.get(&id).ok_or_else(|| RepoError::damaged(name, unknown_signer(id)))?;
    Ok(signer.as_ref())
}

fn unknown_signer(key: KeyId) -> String {
    format!("key {key}, which it names as its signer, is not an operator of this source")
}
