//! Index fragments: a cache of pack tables that maps chunks to locations (`docs/format.md` section 8). The caller
//! decides whether to trust the signer.

use crate::base::frame::{FrameContext, FrameCounter};
use crate::base::id::{ChunkId, Digest, Epoch, KeyId, RepositoryId, SessionId, SourceId};
use crate::format::header::{self, ObjectKind};
use crate::format::node::{FrameLocation, PackRef, read_session};
use crate::format::pack::{FrameSeal, PackContent, SealColumns, stored_length, write_seals};
use crate::format::wire::{Take, WireError};

/// Length in bytes of the signature at the end.
const SIGNATURE_LEN: usize = 64;

/// The object without its signature: clear header and sealed body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedFragment {
    pub repository: RepositoryId,
    pub source: SourceId,
    pub epoch: Epoch,
    pub session: SessionId,
    /// Number of the fragment within its session.
    pub sequence: u32,
    /// The key whose signature is at the end.
    pub signer: KeyId,
    pub frame_counter: FrameCounter,
    pub sealed: Vec<u8>,
}

impl SealedFragment {
    /// The repository, source and epoch of its body.
    #[must_use]
    pub fn context(&self) -> FrameContext {
        FrameContext { repository: self.repository, source: self.source, epoch: self.epoch }
    }

    /// The stored bytes. `sign` makes the Ed25519 signature (RFC 8032) over all bytes before it.
    #[must_use]
    pub fn to_bytes(&self, sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_LEN]) -> Vec<u8> {
        let mut out = Vec::with_capacity(176 + self.sealed.len());
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
        out.push(self.frame_counter.thread);
        out.extend_from_slice(&self.frame_counter.counter.to_le_bytes());
        out.extend_from_slice(&self.sealed);
    }

    /// Decodes stored bytes. Also returns what must be verified with the signer's public key.
    /// Fails if the bytes are not an index fragment of this version, or end before its signature.
    pub fn read(bytes: &[u8]) -> Result<(Self, Signed<'_>), WireError> {
        const TRUNCATED: WireError = WireError::Truncated { what: "fragment signature" };
        let mut take = Take::new(bytes);
        header::read(&mut take, ObjectKind::Index)?;
        let (body, signature) = take.rest().split_last_chunk().ok_or(TRUNCATED)?;
        let message = &bytes[..bytes.len() - SIGNATURE_LEN];
        Ok((Self::read_body(body)?, Signed { message, signature }))
    }

    fn read_body(body: &[u8]) -> Result<Self, WireError> {
        let mut take = Take::new(body);
        let FrameContext { repository, source, epoch } = header::read_context(&mut take)?;
        let session = SessionId::new(take.array("session id")?);
        let sequence = take.u32("fragment sequence")?;
        let signer = KeyId::new(take.array("fragment signer")?);
        let thread = take.u8("fragment thread")?;
        let counter = take.u32("fragment counter")?;
        let frame_counter = FrameCounter { thread, counter };
        let sealed = take.rest().to_vec();
        Ok(Self { repository, source, epoch, session, sequence, signer, frame_counter, sealed })
    }
}

/// The signature at the end of an object, and the bytes that it covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signed<'a> {
    pub message: &'a [u8],
    pub signature: &'a [u8; SIGNATURE_LEN],
}

/// A pack that contains entries of a fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FragmentPack {
    pub pack: PackRef,
    /// Size of the object in bytes.
    pub size: u64,
    pub content: PackContent,
}

/// The body of a fragment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fragment {
    pub packs: Vec<FragmentPack>,
    /// Ascending by id. The `pack` of a location is an index into `packs`.
    pub entries: Vec<(ChunkId, FrameLocation)>,
}

impl Fragment {
    /// The plaintext, before zstd.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.packs.len() * 64 + self.entries.len() * 40);
        self.write_packs(&mut out);
        self.write_ids(&mut out);
        self.write_locations(&mut out);
        out
    }

    fn write_packs(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.packs.len() as u32).to_le_bytes());
        self.packs.iter().for_each(|pack| write_pack(out, pack));
    }

    fn write_ids(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        for (id, _) in &self.entries {
            out.extend_from_slice(id.as_bytes());
        }
    }

    fn write_locations(&self, out: &mut Vec<u8>) {
        self.write_words(out, |location| location.pack);
        self.write_words(out, |location| location.offset);
        self.write_words(out, |location| location.stored);
        write_seals(out, self.entries.iter().map(|(_, location)| seal_of(location)));
    }

    fn write_words(&self, out: &mut Vec<u8>, word: impl Fn(&FrameLocation) -> u32) {
        for (_, location) in &self.entries {
            out.extend_from_slice(&word(location).to_le_bytes());
        }
    }

    /// Decodes the plaintext.
    /// Fails if it is malformed, if a codec or content is unknown, if entries are not in order, or if an entry is in
    /// none of the packs.
    pub fn read(content: &[u8]) -> Result<Self, WireError> {
        let mut take = Take::new(content);
        let packs = read_packs(&mut take)?;
        let count = take.u32("entries of a fragment")? as usize;
        let columns = EntryColumns::read(&mut take, count)?;
        take.finish()?;
        let mut fragment = Self { packs, entries: Vec::with_capacity(count) };
        for at in 0..count {
            fragment.add(ChunkId::new(columns.ids[at]), columns.location(at)?)?;
        }
        Ok(fragment)
    }

    /// Adds an entry. It must not sort before the previous one, and must be in one of the packs.
    fn add(&mut self, id: ChunkId, location: FrameLocation) -> Result<(), WireError> {
        let in_order = self.entries.last().is_none_or(|last| last.0 <= id);
        if location.pack as usize >= self.packs.len() || !in_order {
            return Err(WireError::Invalid { what: "entry of a fragment" });
        }
        self.entries.push((id, location));
        Ok(())
    }
}

/// The entries of a fragment as stored: one column per field.
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

    fn location(&self, at: usize) -> Result<FrameLocation, WireError> {
        let seal = self.seals.seal(at)?;
        Ok(FrameLocation {
            pack: u32::from_le_bytes(self.packs[at]),
            offset: u32::from_le_bytes(self.offsets[at]),
            stored: stored_length(self.stored[at])?,
            codec: seal.codec,
            session: seal.session,
            frame_counter: seal.frame_counter,
        })
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

    use super::{Fragment, FragmentPack, SealedFragment, Signed};
    use crate::base::frame::FrameCounter;
    use crate::base::id::{ChunkId, Digest, Epoch, KeyId, RepositoryId, SessionId, SourceId};
    use crate::format::codec::Codec;
    use crate::format::node::{FrameLocation, PackRef};
    use crate::format::pack::PackContent;

    #[test]
    fn fragments_round_trip() {
        let pack = PackRef { digest: Digest::new([1; 32]), sessions: vec![SessionId::new([2; 16])] };
        let entries = (0..9u8)
            .map(|n| {
                let location = FrameLocation {
                    pack: 0,
                    offset: 100 * u32::from(n),
                    stored: 90,
                    codec: Codec::Zstd,
                    session: 0,
                    frame_counter: FrameCounter { thread: 3, counter: 5 },
                };
                (ChunkId::new([n; 20]), location)
            })
            .collect();
        let packs = vec![FragmentPack { pack, size: 5000, content: PackContent::Leaves }];
        let fragment = Fragment { packs, entries };
        let content = fragment.content();
        assert_eq!(Fragment::read(&content), Ok(fragment));
        for cut in 0..content.len() {
            assert!(Fragment::read(&content[..cut]).is_err());
        }
        let sealed = SealedFragment {
            repository: RepositoryId::new([1; 16]),
            source: SourceId::new([2; 16]),
            epoch: Epoch(1),
            session: SessionId::new([3; 16]),
            sequence: 0,
            signer: KeyId::new([4; 16]),
            frame_counter: FrameCounter { thread: 1, counter: 2 },
            sealed: content,
        };
        let bytes = sealed.to_bytes(|message| [message[0]; 64]);
        let message = &bytes[..bytes.len() - 64];
        let signature = &[b'S'; 64];
        assert_eq!(SealedFragment::read(&bytes), Ok((sealed, Signed { message, signature })));
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn reading_arbitrary_content_does_not_panic(content: Vec<u8>) {
            let _ = Fragment::read(&content);
            let _ = SealedFragment::read(&content);
        }
    }
}
