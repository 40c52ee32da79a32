//! How the content of a frame becomes its payload (`docs/format.md` section 5): unchanged, zstd, or split into a zstd
//! part and raw spans for incompressible cells. Ids never depend on the codec.

use thiserror::Error;

use crate::base::limit::FRAME_CONTENT_BYTES_MAX;
use crate::format::wire::{Put, Take, WireError, ensure};

/// Codec byte of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Codec {
    Stored = 0,
    Zstd = 1,
    Split = 2,
}

impl Codec {
    /// The codec with this byte.
    /// Fails if this version does not know the byte.
    pub fn from_byte(byte: u8) -> Result<Self, WireError> {
        Ok(match byte {
            0 => Self::Stored,
            1 => Self::Zstd,
            2 => Self::Split,
            other => return Err(WireError::unsupported("codec", other)),
        })
    }
}

/// A payload that cannot be turned into content.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CodecError {
    /// The structure of a split payload is damaged.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// zstd rejects the bytes.
    #[error("cannot be decompressed")]
    Zstd,
    /// zstd could not compress, which happens only if memory runs out.
    #[error("cannot compress")]
    Compress,
}

/// Compression level of everything. Measured on the sync database that `scripts/bench` makes: level 3 spends a ninth
/// more time on sealing and saves 0.2 % of the stored bytes. Level 1 stores 0.3 % more and saves 3 % of the time.
const LEVEL: i32 = 2;
/// Shortest cell, in bytes, that is kept out of the compressed part.
pub const SPAN_BYTES_MIN: usize = 512;

/// Compresses frames, and reuses zstd's working memory between them.
pub struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    rest: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// An encoder with its own working memory.
    /// Fails only if memory runs out.
    pub fn new() -> Result<Self, CodecError> {
        let zstd = zstd::bulk::Compressor::new(LEVEL).map_err(|_| CodecError::Compress)?;
        Ok(Self { zstd, rest: Vec::new() })
    }

    /// The payload of `content`, with `spans` (offset and length in bytes) kept out of zstd. Spans must be ascending
    /// and disjoint.
    /// Fails only if memory runs out.
    pub fn encode(&mut self, content: &[u8], spans: &[(usize, usize)]) -> Result<(Codec, Vec<u8>), CodecError> {
        if spans.is_empty() {
            return self.encode_whole(content);
        }
        let payload = self.encode_split(content, spans)?;
        Ok((Codec::Split, payload))
    }

    fn encode_whole(&mut self, content: &[u8]) -> Result<(Codec, Vec<u8>), CodecError> {
        let packed = self.zstd.compress(content).map_err(|_| CodecError::Compress)?;
        Ok(smaller(packed, content))
    }

    fn encode_split(&mut self, content: &[u8], spans: &[(usize, usize)]) -> Result<Vec<u8>, CodecError> {
        self.rest.clear();
        write_spans(&mut self.rest, spans);
        write_gaps(&mut self.rest, content, spans);
        let packed = self.zstd.compress(&self.rest).map_err(|_| CodecError::Compress)?;
        Ok(split_payload(&packed, content, spans))
    }
}

/// The compressed form if it is smaller than `content`, otherwise `content` itself.
fn smaller(packed: Vec<u8>, content: &[u8]) -> (Codec, Vec<u8>) {
    if packed.len() < content.len() {
        return (Codec::Zstd, packed);
    }
    (Codec::Stored, content.to_vec())
}

/// The compressed part, then the raw spans.
fn split_payload(packed: &[u8], content: &[u8], spans: &[(usize, usize)]) -> Vec<u8> {
    let raw: usize = spans.iter().map(|(_, len)| len).sum();
    let mut payload = Vec::with_capacity(packed.len() + raw + 5 + 16);
    payload.put_bytes(packed);
    for &(offset, len) in spans {
        payload.extend_from_slice(&content[offset..offset + len]);
    }
    payload
}

/// Appends the number of spans and, for each, the gap before it and its length.
fn write_spans(out: &mut Vec<u8>, spans: &[(usize, usize)]) {
    out.put_uv(spans.len() as u64);
    let mut end = 0;
    for &(offset, len) in spans {
        out.put_uv((offset - end) as u64);
        out.put_uv(len as u64);
        end = offset + len;
    }
}

/// Appends the bytes between the spans.
fn write_gaps(out: &mut Vec<u8>, content: &[u8], spans: &[(usize, usize)]) {
    let mut end = 0;
    for &(offset, len) in spans {
        out.extend_from_slice(&content[end..offset]);
        end = offset + len;
    }
    out.extend_from_slice(&content[end..]);
}

/// The content of a payload.
/// Fails if zstd rejects the bytes, if they do not state a content size of at most [`FRAME_CONTENT_BYTES_MAX`], or if
/// the spans of a split payload do not fit it.
pub fn decode(codec: Codec, payload: Vec<u8>) -> Result<Vec<u8>, CodecError> {
    match codec {
        Codec::Stored => Ok(payload),
        Codec::Zstd => decompress(&payload),
        Codec::Split => decode_split(&payload),
    }
}

fn decode_split(payload: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut take = Take::new(payload);
    let rest = decompress(take.bytes("compressed part")?)?;
    join(&rest, take.rest())
}

/// Decompresses a zstd frame (RFC 8878).
/// Fails if the frame is damaged or does not state its content size, or if that is more than
/// [`FRAME_CONTENT_BYTES_MAX`].
pub fn decompress(packed: &[u8]) -> Result<Vec<u8>, CodecError> {
    content_size(packed).and_then(|size| unpack(packed, size)).ok_or(CodecError::Zstd)
}

/// Decompresses `packed`. `None` unless the result has this size.
fn unpack(packed: &[u8], size: usize) -> Option<Vec<u8>> {
    let content = zstd::bulk::decompress(packed, size).ok()?;
    (content.len() == size).then_some(content)
}

fn content_size(packed: &[u8]) -> Option<usize> {
    let size = zstd::zstd_safe::get_frame_content_size(packed).ok()??;
    let size = usize::try_from(size).ok()?;
    (size <= FRAME_CONTENT_BYTES_MAX).then_some(size)
}

/// Compresses `content` into one zstd frame (RFC 8878).
/// Fails only if memory runs out.
pub fn compress(content: &[u8]) -> Result<Vec<u8>, CodecError> {
    zstd::bulk::compress(content, LEVEL).map_err(|_| CodecError::Compress)
}

fn join(rest: &[u8], raw: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut content = Vec::with_capacity(rest.len() + raw.len());
    Take::whole(raw, |raw| append_joined(&mut content, rest, raw))?;
    Ok(content)
}

/// Appends the gaps with the spans between them.
fn append_joined(content: &mut Vec<u8>, rest: &[u8], raw: &mut Take<'_>) -> Result<(), WireError> {
    let mut spans = Take::new(rest);
    let count = spans.count(2, "spans")?;
    let mut gaps = after_spans(&spans, count)?;
    for _ in 0..count {
        let (gap, len) = read_span(&mut spans)?;
        content.extend_from_slice(gaps.raw(gap, "gap")?);
        content.extend_from_slice(raw.raw(len, "span")?);
    }
    content.extend_from_slice(gaps.rest());
    ensure(content.len() <= FRAME_CONTENT_BYTES_MAX, "length of content")
}

/// What follows the spans.
fn after_spans<'r>(spans: &Take<'r>, count: usize) -> Result<Take<'r>, WireError> {
    let mut after = spans.clone();
    (0..count).try_for_each(|_| read_span(&mut after).map(drop))?;
    Ok(after)
}

/// Reads the gap before a span and the length of the span, which is not empty.
fn read_span(take: &mut Take<'_>) -> Result<(usize, usize), WireError> {
    let gap = take.uv_as("gap")?;
    let len: usize = take.uv_as("span")?;
    ensure(len > 0, "empty span").map(|()| (gap, len))
}

/// Whether bytes probably do not compress, judged by how evenly byte values are distributed in a sample. Cheap, and a
/// wrong answer costs only a few bytes.
#[must_use]
pub fn looks_incompressible(bytes: &[u8]) -> bool {
    // The sum of squares of 512 evenly distributed bytes is about 512 + 512 * 511 / 256 = 1534, with a deviation of
    // about 45. Text has ten times as much, and base64 four times.
    bytes.len() >= SPAN_BYTES_MIN && sum_of_squares(&sampled_counts(bytes)) < 2000
}

fn sum_of_squares(counts: &[u16; 256]) -> u32 {
    counts.iter().map(|&n| u32::from(n) * u32::from(n)).sum()
}

/// Counts each byte value in a sample of 512 bytes.
fn sampled_counts(bytes: &[u8]) -> [u16; 256] {
    const SAMPLE: usize = 512;
    let step = (bytes.len() / SAMPLE).max(1);
    let mut counts = [0; 256];
    for byte in bytes.iter().step_by(step).take(SAMPLE) {
        counts[usize::from(*byte)] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Codec, Encoder, decode, looks_incompressible};

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn noise_looks_incompressible_and_text_does_not() {
        assert!(looks_incompressible(&noise(4000)));
        assert!(!looks_incompressible(&"the same words again and again ".repeat(100).into_bytes()));
        assert!(!looks_incompressible(data_encoding::BASE64.encode(&noise(4000)).as_bytes()));
        assert!(!looks_incompressible(&noise(100)));
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn every_codec_round_trips(content: Vec<u8>, cuts in proptest::collection::vec((0usize..40, 1usize..40), 0..4)) {
            let mut spans = Vec::new();
            let mut at = 0;
            for (gap, len) in cuts {
                if at + gap + len <= content.len() {
                    spans.push((at + gap, len));
                    at += gap + len;
                }
            }
            let mut encoder = Encoder::new().expect("memory");
            let (codec, payload) = encoder.encode(&content, &spans).expect("memory");
            prop_assert_eq!(codec == Codec::Split, !spans.is_empty());
            prop_assert_eq!(decode(codec, payload), Ok(content));
        }

        #[test]
        fn decoding_an_arbitrary_payload_does_not_panic(payload: Vec<u8>) {
            for codec in [Codec::Stored, Codec::Zstd, Codec::Split] {
                let _ = decode(codec, payload.clone());
            }
        }
    }
}
