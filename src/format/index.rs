//! Index fragments: which chunk lies where, a cache of pack tables (`docs/format.md` section 8).
//! Whether a signature is that of somebody who may be believed is not decided here.

use crate::base::frame::FrameCounter;
use crate::base::id::{ChunkId, Digest, Epoch, KeyId, RepositoryId, SessionId, SourceId};
use crate::format::codec::Codec;
use crate::format::header::{self, ObjectKind};
use crate::format::node::{FrameLocation, PackRef};
use crate::format::pack::PackContent;
use crate::format::wire::{Take, WireError};

/// Bytes of the signature at the end.
const SIGNATURE_LEN: usize = 64;

/// The object without its signature: clear header and sealed body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedFragment {
    pub repository: RepositoryId,
    pub source: SourceId,
    pub epoch: Epoch,
    pub session: SessionId,
    /// Number of the fragment within that session.
    pub sequence: u32,
    /// Whose signature stands at the end.
    pub signer: KeyId,
    pub frame_counter: FrameCounter,
    pub sealed: Vec<u8>,
}

impl SealedFragment {
    /// The stored bytes; `sign` makes the Ed25519 signature (RFC 8032) over all that stands before it.
    #[must_use]
    pub fn to_bytes(&self, sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_LEN]) -> Vec<u8> {
        let mut out = Vec::with_capacity(176 + self.sealed.len());
        header::write(&mut out, ObjectKind::Index);
        out.extend_from_slice(self.repository.as_bytes());
        out.extend_from_slice(self.source.as_bytes());
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(self.session.as_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(self.signer.as_bytes());
        out.push(self.frame_counter.thread);
        out.extend_from_slice(&self.frame_counter.counter.to_le_bytes());
        out.extend_from_slice(&self.sealed);
        let signature = sign(&out);
        out.extend_from_slice(&signature);
        out
    }

    /// Reads stored bytes, and what is to be verified against the signer's public key.
    pub fn read(bytes: &[u8]) -> Result<(Self, Signed<'_>), WireError> {
        let mut take = Take::new(bytes);
        header::read(&mut take, ObjectKind::Index)?;
        let (body, signature) =
            take.rest().split_last_chunk().ok_or(WireError::Truncated { what: "fragment signature" })?;
        let message = &bytes[..bytes.len() - SIGNATURE_LEN];
        let mut take = Take::new(body);
        let fragment = Self {
            repository: RepositoryId::new(take.array("repository id")?),
            source: SourceId::new(take.array("source id")?),
            epoch: Epoch(take.u32("epoch")?),
            session: SessionId::new(take.array("session id")?),
            sequence: take.u32("fragment sequence")?,
            signer: KeyId::new(take.array("fragment signer")?),
            frame_counter: FrameCounter { thread: take.u8("fragment thread")?, counter: take.u32("fragment counter")? },
            sealed: take.rest().to_vec(),
        };
        Ok((fragment, Signed { message, signature }))
    }
}

/// The signature at the end of an object, and the bytes before it that it is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signed<'a> {
    pub message: &'a [u8],
    pub signature: &'a [u8; SIGNATURE_LEN],
}

/// A pack that a fragment's entries lie in.
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
    /// Ascending by id; locations count in `packs`.
    pub entries: Vec<(ChunkId, FrameLocation)>,
}

impl Fragment {
    /// The plaintext before zstd.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.packs.len() * 64 + self.entries.len() * 40);
        out.extend_from_slice(&(self.packs.len() as u32).to_le_bytes());
        for pack in &self.packs {
            out.extend_from_slice(pack.pack.digest.as_bytes());
            out.extend_from_slice(&pack.size.to_le_bytes());
            out.extend_from_slice(&[pack.content as u8, pack.pack.sessions.len() as u8]);
            pack.pack.sessions.iter().for_each(|session| out.extend_from_slice(session.as_bytes()));
        }
        out.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        let locations = || self.entries.iter().map(|entry| entry.1);
        self.entries.iter().for_each(|entry| out.extend_from_slice(entry.0.as_bytes()));
        for word in [|s: FrameLocation| s.pack, |s: FrameLocation| s.offset, |s: FrameLocation| s.stored] {
            locations().for_each(|location| out.extend_from_slice(&word(location).to_le_bytes()));
        }
        for byte in
            [|s: FrameLocation| s.codec as u8, |s: FrameLocation| s.session, |s: FrameLocation| s.frame_counter.thread]
        {
            out.extend(locations().map(byte));
        }
        locations().for_each(|location| out.extend_from_slice(&location.frame_counter.counter.to_le_bytes()));
        out
    }

    /// Reads the plaintext.
    pub fn read(content: &[u8]) -> Result<Self, WireError> {
        let mut take = Take::new(content);
        let pack_count = take.u32("packs of a fragment")?;
        let mut packs = Vec::new();
        for _ in 0..pack_count {
            packs.push(read_pack(&mut take)?);
        }
        let n = take.u32("entries of a fragment")? as usize;
        let mut ids = Take::new(take.raw(n.saturating_mul(ChunkId::LEN), "chunk ids")?);
        let mut columns = [Take::new(&[]), Take::new(&[]), Take::new(&[])];
        for column in &mut columns {
            *column = Take::new(take.raw(n.saturating_mul(4), "locations")?);
        }
        let [mut pack, mut offset, mut stored] = columns;
        let (codecs, sessions, threads) = (take.raw(n, "codecs")?, take.raw(n, "sessions")?, take.raw(n, "threads")?);
        let mut counters = Take::new(take.raw(n.saturating_mul(4), "counters")?);
        take.finish()?;
        let mut entries: Vec<(ChunkId, FrameLocation)> = Vec::with_capacity(n);
        for i in 0..n {
            let id = ChunkId::new(ids.array("chunk id")?);
            let location = FrameLocation {
                pack: pack.u32("pack")?,
                offset: offset.u32("offset")?,
                stored: stored.u32("stored length")?,
                codec: Codec::from_byte(codecs[i])?,
                session: sessions[i],
                frame_counter: FrameCounter { thread: threads[i], counter: counters.u32("counter")? },
            };
            if location.pack as usize >= packs.len() || entries.last().is_some_and(|last| last.0 > id) {
                return Err(WireError::Invalid { what: "entry of a fragment" });
            }
            entries.push((id, location));
        }
        Ok(Self { packs, entries })
    }
}

fn read_pack(take: &mut Take<'_>) -> Result<FragmentPack, WireError> {
    let digest = Digest::new(take.array("pack digest")?);
    let size = take.u64("pack size")?;
    let content = PackContent::from_byte(take.u8("pack content")?)?;
    let count = take.u8("sessions of a pack")?;
    let sessions =
        (0..count).map(|_| Ok(SessionId::new(take.array("session id")?))).collect::<Result<_, WireError>>()?;
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
                let (pack, offset, stored) = (0, 100 * u32::from(n), 90);
                let location = FrameLocation {
                    pack,
                    offset,
                    stored,
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
        let (message, signature) = (&bytes[..bytes.len() - 64], &[b'S'; 64]);
        assert_eq!(SealedFragment::read(&bytes), Ok((sealed, Signed { message, signature })));
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn no_content_panics(content: Vec<u8>) {
            let _ = Fragment::read(&content);
            let _ = SealedFragment::read(&content);
        }
    }
}
