//! Index fragments: a cache of pack tables that maps chunks to locations (`docs/format.md` section 8). A chunk is found
//! with two reads of ranges: the directory, and the block that can contain the id. The caller decides whether to trust
//! the signer.

use crate::base::frame::{FrameContext, FrameCounter};
use crate::base::id::{ChunkId, Digest, Epoch, KeyId, RepositoryId, SessionId, SourceId};
use crate::base::limit::{BLOCK_ENTRIES_MAX, INDEX_ENTRIES_MAX};
use crate::format::codec::Codec;
use crate::format::header::{self, ObjectKind};
use crate::format::node::{FrameLocation, PackRef, read_session};
use crate::format::pack::{FrameSeal, PackContent, SealColumns, stored_length, write_seals};
use crate::format::wire::{Take, WireError, ensure};

/// Length in bytes of the signature.
const SIGNATURE_LEN: usize = 64;
/// Bytes before the sealed directory.
const FIXED_LEN: usize = 93;

/// A fragment without its blocks: the clear header and the sealed directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedFragment {
    pub repository: RepositoryId,
    pub source: SourceId,
    pub epoch: Epoch,
    pub session: SessionId,
    /// Number of the fragment within its session.
    pub sequence: u32,
    /// The key that signed it.
    pub signer: KeyId,
    pub frame_counter: FrameCounter,
    /// The sealed directory.
    pub sealed: Vec<u8>,
}

impl SealedFragment {
    /// The repository, source and epoch of its directory and blocks.
    #[must_use]
    pub fn context(&self) -> FrameContext {
        FrameContext { repository: self.repository, source: self.source, epoch: self.epoch }
    }

    /// The stored bytes before the blocks. `sign` makes the Ed25519 signature (RFC 8032) over all bytes before it.
    #[must_use]
    pub fn to_bytes(&self, sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_LEN]) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_LEN + self.sealed.len() + SIGNATURE_LEN);
        header::write(&mut out, ObjectKind::Index);
        self.write_body(&mut out);
        let signature = sign(&out);
        out.extend_from_slice(&signature);
        out
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        header::write_context(out, &self.context());
        out.extend_from_slice(self.session.as_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(self.signer.as_bytes());
        write_frame_counter(out, self.frame_counter);
        write_count(out, self.sealed.len());
        out.extend_from_slice(&self.sealed);
    }

    /// Bytes before the blocks, from the first bytes of a fragment.
    /// Fails if these are not the first bytes of a fragment.
    pub fn head_len(bytes: &[u8]) -> Result<usize, WireError> {
        let mut take = Take::new(bytes);
        header::read(&mut take, ObjectKind::Index)?;
        take.raw(FIXED_LEN - 4 - header::LEN, "fragment")?;
        Ok(FIXED_LEN + take.u32("length of a directory")? as usize + SIGNATURE_LEN)
    }

    /// Decodes what precedes the blocks. Also returns what must be verified with the signer's public key, and the
    /// blocks.
    ///
    /// Fails if the bytes are not a fragment, or end before the blocks.
    pub fn read(bytes: &[u8]) -> Result<(Self, Signed<'_>, &[u8]), WireError> {
        let mut take = Take::new(bytes);
        header::read(&mut take, ObjectKind::Index)?;
        let fragment = Self::read_body(&mut take)?;
        let message = &bytes[..bytes.len() - take.remaining()];
        let (signature, blocks) = take.rest().split_first_chunk().ok_or(NO_SIGNATURE)?;
        Ok((fragment, Signed { message, signature }, blocks))
    }

    fn read_body(take: &mut Take<'_>) -> Result<Self, WireError> {
        let FrameContext { repository, source, epoch } = header::read_context(take)?;
        let session = SessionId::new(take.array("session id")?);
        let sequence = take.u32("fragment sequence")?;
        let signer = KeyId::new(take.array("fragment signer")?);
        let frame_counter = read_frame_counter(take)?;
        let len = take.u32("length of a directory")? as usize;
        let sealed = take.raw(len, "directory of a fragment")?.to_vec();
        Ok(Self { repository, source, epoch, session, sequence, signer, frame_counter, sealed })
    }
}

const NO_SIGNATURE: WireError = WireError::Truncated { what: "fragment signature" };

/// The signature of an object, and the bytes that it covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signed<'a> {
    pub message: &'a [u8],
    pub signature: &'a [u8; SIGNATURE_LEN],
}

fn write_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

fn write_frame_counter(out: &mut Vec<u8>, frame_counter: FrameCounter) {
    out.push(frame_counter.thread);
    out.extend_from_slice(&frame_counter.counter.to_le_bytes());
}

fn read_frame_counter(take: &mut Take<'_>) -> Result<FrameCounter, WireError> {
    Ok(FrameCounter { thread: take.u8("thread")?, counter: take.u32("counter")? })
}

/// The directory of a fragment: its packs, and where each block of entries is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FragmentDirectory {
    pub packs: Vec<FragmentPack>,
    /// Ascending by first id. They are stored back to back, in this order.
    pub blocks: Vec<FragmentBlock>,
}

/// A block of entries, as the directory describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentBlock {
    /// Id of its first entry.
    pub first: ChunkId,
    pub entries: u32,
    /// Stored length in bytes, with the tag.
    pub stored: u32,
    pub codec: Codec,
    pub frame_counter: FrameCounter,
    /// Digest of the stored bytes.
    pub digest: Digest,
}

impl FragmentDirectory {
    /// The plaintext, before zstd.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.packs.len() * 64 + self.blocks.len() * 72);
        write_count(&mut out, self.packs.len());
        self.packs.iter().for_each(|pack| write_pack(&mut out, pack));
        write_count(&mut out, self.blocks.len());
        self.blocks.iter().for_each(|block| block.write(&mut out));
        out
    }

    /// Decodes the plaintext.
    ///
    /// Fails if blocks are not in order, or if they have too many entries, one by one or together, or one has none.
    pub fn read(content: &[u8]) -> Result<Self, WireError> {
        let directory = Take::whole(content, |take| {
            let packs = read_packs(take)?;
            let count = take.u32("blocks of a fragment")? as usize;
            Ok(Self { packs, blocks: take.items(count, FragmentBlock::read)? })
        })?;
        ensure(directory.blocks.is_sorted_by(|one, other| one.first < other.first), "order of blocks")?;
        directory.check_entries().map(|()| directory)
    }

    /// Fails if there are more entries than a fragment may have.
    fn check_entries(&self) -> Result<(), WireError> {
        let entries: u64 = self.blocks.iter().map(|block| u64::from(block.entries)).sum();
        ensure(entries <= INDEX_ENTRIES_MAX as u64, "number of entries")
    }

    /// The only block that can contain this id, and its offset from the first block.
    #[must_use]
    pub fn block_of(&self, id: &ChunkId) -> Option<(&FragmentBlock, u64)> {
        let after = self.blocks.partition_point(|block| block.first <= *id);
        let (block, before) = self.blocks[..after].split_last()?;
        Some((block, before.iter().map(|block| u64::from(block.stored)).sum()))
    }
}

impl FragmentBlock {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.first.as_bytes());
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(&self.stored.to_le_bytes());
        out.push(self.codec as u8);
        write_frame_counter(out, self.frame_counter);
        out.extend_from_slice(self.digest.as_bytes());
    }

    fn read(take: &mut Take<'_>) -> Result<Self, WireError> {
        let first = ChunkId::new(take.array("first id of a block")?);
        let entries = read_entry_count(take)?;
        let stored = stored_length(take.array("stored length of a block")?)?;
        let codec = Codec::from_byte(take.u8("codec of a block")?)?;
        let frame_counter = read_frame_counter(take)?;
        Ok(Self { first, entries, stored, codec, frame_counter, digest: Digest::new(take.array("digest of a block")?) })
    }

    /// Whether these entries are in order and begin with the block's first id.
    fn is_of_entries(&self, entries: &[FragmentEntry]) -> bool {
        let begins = entries.first().is_some_and(|first| first.0 == self.first);
        begins && entries.is_sorted_by(|one, other| one.0 < other.0)
    }
}

fn read_entry_count(take: &mut Take<'_>) -> Result<u32, WireError> {
    let entries = take.u32("entries of a block")?;
    if entries == 0 || entries as usize > BLOCK_ENTRIES_MAX {
        return Err(WireError::Invalid { what: "entries of a block" });
    }
    Ok(entries)
}

/// A pack that contains entries of a fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FragmentPack {
    pub pack: PackRef,
    /// Size of the object in bytes.
    pub size: u64,
    pub content: PackContent,
}

/// An entry: a chunk and its location. The `pack` of the location is an index into the fragment's packs.
pub type FragmentEntry = (ChunkId, FrameLocation);

/// What a fragment contains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// The key that signed it.
    pub signer: KeyId,
    pub packs: Vec<FragmentPack>,
    /// Ascending by id. No two are alike.
    pub entries: Vec<FragmentEntry>,
}

/// The plaintext of a block, before it is encoded.
#[must_use]
pub fn write_block(entries: &[FragmentEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * 40);
    for (id, _) in entries {
        out.extend_from_slice(id.as_bytes());
    }
    write_words(&mut out, entries, |location| location.pack);
    write_words(&mut out, entries, |location| location.offset);
    write_words(&mut out, entries, |location| location.stored);
    write_seals(&mut out, entries.iter().map(|(_, location)| seal_of(location)));
    out
}

fn write_words(out: &mut Vec<u8>, entries: &[FragmentEntry], word: impl Fn(&FrameLocation) -> u32) {
    for (_, location) in entries {
        out.extend_from_slice(&word(location).to_le_bytes());
    }
}

/// Decodes the plaintext of a block, in a fragment of this many packs.
///
/// Fails unless its entries are as many as the directory says, begin with the id that it names, are in order, and refer
/// to packs of the fragment.
pub fn read_block(block: &FragmentBlock, content: &[u8], packs: usize) -> Result<Vec<FragmentEntry>, WireError> {
    let count = block.entries as usize;
    let columns = Take::whole(content, |take| EntryColumns::read(take, count))?;
    let entries: Vec<FragmentEntry> = (0..count).map(|at| columns.entry(at)).collect::<Result<_, _>>()?;
    if block.is_of_entries(&entries) && are_in_packs(&entries, packs) {
        return Ok(entries);
    }
    Err(WireError::Invalid { what: "entry of a fragment" })
}

/// Whether all entries refer to one of this many packs.
fn are_in_packs(entries: &[FragmentEntry], packs: usize) -> bool {
    entries.iter().all(|(_, location)| (location.pack as usize) < packs)
}

/// The entries of a block as stored: one column per field.
struct EntryColumns<'a> {
    ids: &'a [[u8; ChunkId::LEN]],
    packs: &'a [[u8; 4]],
    offsets: &'a [[u8; 4]],
    stored: &'a [[u8; 4]],
    seals: SealColumns<'a>,
}

impl<'a> EntryColumns<'a> {
    fn read(take: &mut Take<'a>, count: usize) -> Result<Self, WireError> {
        Ok(Self {
            ids: take.arrays(count, "chunk ids")?,
            packs: take.arrays(count, "locations")?,
            offsets: take.arrays(count, "locations")?,
            stored: take.arrays(count, "locations")?,
            seals: SealColumns::read(take, count)?,
        })
    }

    fn entry(&self, at: usize) -> Result<FragmentEntry, WireError> {
        let seal = self.seals.seal(at)?;
        let location = FrameLocation {
            pack: u32::from_le_bytes(self.packs[at]),
            offset: u32::from_le_bytes(self.offsets[at]),
            stored: stored_length(self.stored[at])?,
            codec: seal.codec,
            session: seal.session,
            frame_counter: seal.frame_counter,
        };
        Ok((ChunkId::new(self.ids[at]), location))
    }
}

fn seal_of(location: &FrameLocation) -> FrameSeal {
    FrameSeal { codec: location.codec, session: location.session, frame_counter: location.frame_counter }
}

fn write_pack(out: &mut Vec<u8>, pack: &FragmentPack) {
    out.extend_from_slice(pack.pack.digest.as_bytes());
    out.extend_from_slice(&pack.size.to_le_bytes());
    out.push(pack.content as u8);
    out.push(pack.pack.sessions.len() as u8);
    for session in &pack.pack.sessions {
        out.extend_from_slice(session.as_bytes());
    }
}

fn read_packs(take: &mut Take<'_>) -> Result<Vec<FragmentPack>, WireError> {
    let count = take.u32("packs of a fragment")? as usize;
    take.items(count, read_pack)
}

fn read_pack(take: &mut Take<'_>) -> Result<FragmentPack, WireError> {
    let digest = Digest::new(take.array("pack digest")?);
    let size = take.u64("pack size")?;
    let content = PackContent::from_byte(take.u8("pack content")?)?;
    let count = take.u8("sessions of a pack")?;
    let sessions = take.items(usize::from(count), read_session)?;
    Ok(FragmentPack { pack: PackRef { digest, sessions }, size, content })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        FragmentBlock, FragmentDirectory, FragmentEntry, FragmentPack, SealedFragment, Signed, read_block, write_block,
    };
    use crate::base::frame::FrameCounter;
    use crate::base::id::{ChunkId, Digest, Epoch, KeyId, RepositoryId, SessionId, SourceId};
    use crate::format::codec::Codec;
    use crate::format::node::{FrameLocation, PackRef};
    use crate::format::pack::PackContent;

    const COUNTER: FrameCounter = FrameCounter { thread: 3, counter: 5 };

    fn entry(n: u8) -> FragmentEntry {
        let location = FrameLocation {
            pack: 0,
            offset: 100 * u32::from(n),
            stored: 90,
            codec: Codec::Zstd,
            session: 0,
            frame_counter: COUNTER,
        };
        (ChunkId::new([n; 20]), location)
    }

    fn block(first: u8, entries: u32, stored: u32) -> FragmentBlock {
        let (first, digest) = (ChunkId::new([first; 20]), Digest::new([first; 32]));
        FragmentBlock { first, entries, stored, codec: Codec::Zstd, frame_counter: COUNTER, digest }
    }

    fn directory(blocks: &[FragmentBlock]) -> FragmentDirectory {
        let pack = PackRef { digest: Digest::new([1; 32]), sessions: vec![SessionId::new([2; 16])] };
        let packs = vec![FragmentPack { pack, size: 5000, content: PackContent::Leaves }];
        FragmentDirectory { packs, blocks: blocks.to_vec() }
    }

    #[test]
    fn fragments_round_trip() {
        let directory = directory(&[block(2, 9, 100), block(20, 4096, 200)]);
        let content = directory.content();
        assert_eq!(FragmentDirectory::read(&content).as_ref(), Ok(&directory));
        for cut in 0..content.len() {
            assert!(FragmentDirectory::read(&content[..cut]).is_err());
        }
        let sealed = SealedFragment {
            repository: RepositoryId::new([1; 16]),
            source: SourceId::new([2; 16]),
            epoch: Epoch(1),
            session: SessionId::new([3; 16]),
            sequence: 0,
            signer: KeyId::new([4; 16]),
            frame_counter: COUNTER,
            sealed: content,
        };
        let head = sealed.to_bytes(|message| [message[0]; 64]);
        assert_eq!(SealedFragment::head_len(&head[..93]), Ok(head.len()));
        assert!(SealedFragment::head_len(&head[..92]).is_err());
        let bytes = [&head[..], b"blocks"].concat();
        let (message, signature) = (&head[..head.len() - 64], &[b'S'; 64]);
        assert_eq!(SealedFragment::read(&bytes), Ok((sealed, Signed { message, signature }, &b"blocks"[..])));
    }

    #[test]
    fn an_id_is_found_in_one_block() {
        let directory = directory(&[block(2, 9, 100), block(20, 7, 200), block(30, 1, 300)]);
        let found = |n| directory.block_of(&ChunkId::new([n; 20])).map(|(block, offset)| (block.stored, offset));
        assert_eq!(
            [1, 2, 19, 20, 29, 30, 255].map(found),
            [
                None,
                Some((100, 0)),
                Some((100, 0)),
                Some((200, 100)),
                Some((200, 100)),
                Some((300, 300)),
                Some((300, 300)),
            ]
        );
    }

    #[test]
    fn blocks_that_contradict_their_directory_are_refused() {
        let entries = [entry(2), entry(4), entry(6)];
        let content = write_block(&entries);
        assert_eq!(read_block(&block(2, 3, 0), &content, 1).as_deref(), Ok(&entries[..]));
        assert!(read_block(&block(1, 3, 0), &content, 1).is_err());
        assert!(read_block(&block(2, 2, 0), &content, 1).is_err());
        assert!(read_block(&block(2, 4, 0), &content, 1).is_err());
        assert!(read_block(&block(2, 3, 0), &content, 0).is_err());
        for wrong in [[entry(2), entry(2), entry(6)], [entry(2), entry(6), entry(4)]] {
            assert!(read_block(&block(2, 3, 0), &write_block(&wrong), 1).is_err());
        }
        for wrong in [[block(2, 9, 1), block(2, 9, 1)], [block(2, 0, 1), block(3, 9, 1)], [block(2, 4097, 1); 2]] {
            assert!(FragmentDirectory::read(&directory(&wrong).content()).is_err());
        }
        assert!(FragmentDirectory::read(&directory(&[block(2, 9, 1 << 24)]).content()).is_err());
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn reading_arbitrary_content_does_not_panic(content: Vec<u8>) {
            let _ = FragmentDirectory::read(&content);
            let _ = SealedFragment::read(&content);
            let _ = SealedFragment::head_len(&content);
            let _ = read_block(&block(0, 1, 1), &content, 1);
        }
    }
}
