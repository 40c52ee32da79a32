//! Seals and joins the parts of a manifest's sections. Only one part is in memory: with 100,000 tables, the JSON of a
//! catalog has 100 MB.

use std::io::{Error, Read, Write};

use serde::Serialize;

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::limit::Limit;
use crate::crypto::seal::{SealError, Sealer};
use crate::crypto::session::SessionKeys;
use crate::format::codec::Encoder;
use crate::format::manifest::SealedSection;
use crate::repo::error::{InObject, RepoError};

const SEALED_OBJECT: &str = "a manifest";
/// In messages about limits.
pub(super) const THIS_MANIFEST: &str = "the manifest of this snapshot";

/// Seals the sections of a manifest.
pub(super) struct SectionSealer {
    id: ChunkId,
    sealer: Sealer,
    encoder: Encoder,
    /// Content of a part.
    part_bytes: usize,
    /// Content of all sections.
    content: Limit,
    /// Bytes of content so far.
    content_bytes: u64,
    parts: Vec<SealedSection>,
}

impl SectionSealer {
    /// Fails if the session has no sealer left, or if memory runs out.
    pub(super) fn new(keys: &SessionKeys, id: ChunkId, part_bytes: usize, content: Limit) -> Result<Self, RepoError> {
        let sealer = keys.sealer().map_err(unsealable)?;
        let encoder = Encoder::new().in_object(SEALED_OBJECT)?;
        Ok(Self { id, sealer, encoder, part_bytes, content, content_bytes: 0, parts: Vec::new() })
    }

    /// All sealed parts.
    pub(super) fn into_parts(self) -> Vec<SealedSection> {
        self.parts
    }

    /// Seals a section, in as many parts as it needs.
    /// Fails if the manifest has more content than allowed, if the sealer is used up, or if memory runs out.
    pub(super) fn seal(&mut self, kind: FrameType, content: &[u8]) -> Result<(), RepoError> {
        self.count(content.len())?;
        for part in content.chunks(self.part_bytes) {
            self.seal_part(kind, part)?;
        }
        Ok(())
    }

    /// Seals a section with the JSON of `value`.
    /// Fails like [`Self::seal`], and if a time is out of range.
    pub(super) fn seal_json(&mut self, kind: FrameType, value: &impl Serialize) -> Result<(), RepoError> {
        let mut section = SectionWriter { sealer: self, kind, part: Vec::new(), failed: None };
        let written = serde_json::to_writer(&mut section, value);
        if let Some(error) = section.failed.take() {
            return Err(error);
        }
        written.map_err(|error| RepoError::damaged(SEALED_OBJECT, error.to_string()))?;
        section.seal_part()
    }

    fn count(&mut self, bytes: usize) -> Result<(), RepoError> {
        self.content_bytes += bytes as u64;
        Ok(self.content.check(THIS_MANIFEST, self.content_bytes)?)
    }

    fn seal_part(&mut self, kind: FrameType, content: &[u8]) -> Result<(), RepoError> {
        let content_len = content.len() as u64;
        let encoded = self.encoder.encode(content, &[]);
        let (codec, mut sealed) = encoded.in_object(SEALED_OBJECT)?;
        // The encoder reserves room for content that does not compress.
        sealed.shrink_to_fit();
        let frame_counter = self.sealer.seal(kind, &self.id, &mut sealed).map_err(unsealable)?;
        self.parts.push(SealedSection { kind, codec, frame_counter, content_len, sealed });
        Ok(())
    }
}

fn unsealable(source: SealError) -> RepoError {
    RepoError::Seal { what: SEALED_OBJECT, source }
}

/// Takes the content of a section, and seals each part once it is full.
struct SectionWriter<'s> {
    sealer: &'s mut SectionSealer,
    kind: FrameType,
    part: Vec<u8>,
    /// Why the last write failed.
    failed: Option<RepoError>,
}

impl SectionWriter<'_> {
    /// Takes as much as the part has room for.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, RepoError> {
        let room = self.sealer.part_bytes - self.part.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.sealer.count(taken.len())?;
        self.part.extend_from_slice(taken);
        if taken.len() == room {
            self.seal_part()?;
        }
        Ok(taken.len())
    }

    /// Seals what has been taken, if there is anything.
    fn seal_part(&mut self) -> Result<(), RepoError> {
        if self.part.is_empty() {
            return Ok(());
        }
        self.sealer.seal_part(self.kind, &self.part)?;
        self.part.clear();
        Ok(())
    }
}

impl Write for SectionWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.take(bytes).map_err(|error| {
            self.failed = Some(error);
            Error::other("the section cannot be sealed")
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Opens the next part of a section. `None` after the last one.
type NextPart<'p> = dyn FnMut() -> Result<Option<Vec<u8>>, RepoError> + 'p;

/// The content of a section as a stream.
pub(super) struct JoinedParts<'p> {
    next: &'p mut NextPart<'p>,
    part: Vec<u8>,
    /// Bytes of the part that have been read.
    at: usize,
    /// Why the last read failed.
    failed: &'p mut Option<RepoError>,
}

impl<'p> JoinedParts<'p> {
    /// A stream of the parts that `next` opens. If one cannot be opened, `failed` says why.
    pub(super) fn new(next: &'p mut NextPart<'p>, failed: &'p mut Option<RepoError>) -> Self {
        Self { next, part: Vec::new(), at: 0, failed }
    }

    /// Opens parts until one has bytes that have not been read. Returns false after the last one.
    fn fill(&mut self) -> Result<bool, RepoError> {
        while self.at == self.part.len() {
            self.part = Vec::new();
            self.at = 0;
            match (self.next)()? {
                Some(part) => self.part = part,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl Read for JoinedParts<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match self.fill() {
            Ok(true) => {}
            Ok(false) => return Ok(0),
            Err(error) => {
                *self.failed = Some(error);
                return Err(Error::other("a part cannot be opened"));
            }
        }
        let rest = &self.part[self.at..];
        let len = rest.len().min(out.len());
        out[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Ok(len)
    }
}
