//! Dictionaries, with which leaves of one table are compressed (`docs/format.md` section 6). A dictionary has the format
//! of RFC 8878 section 6: magic number, number, entropy tables, content.

use crate::base::limit::DICTIONARY_BYTES_MAX;
use crate::format::wire::WireError;

const MAGIC: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];
/// The three repeat offsets, which every dictionary has at the end of its tables.
const REPEAT_OFFSETS: [u8; 12] = [1, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0];
/// Numbers that RFC 8878 leaves to private use.
const NUMBERS: std::ops::Range<u32> = 1 << 15..1 << 31;
const DICTIONARY: &str = "dictionary";

/// A dictionary that is ready to decompress.
pub struct Dictionary {
    number: u32,
    content: Vec<u8>,
    decoder: zstd::dict::DecoderDictionary<'static>,
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dictionary").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Dictionary {
    /// Reads the content of a frame.
    /// Fails if it is too long, has a number that no dictionary may have, or is not one that zstd accepts.
    pub fn read(content: Vec<u8>) -> Result<Self, WireError> {
        let invalid = WireError::Invalid { what: DICTIONARY };
        let number = number_of(&content).filter(|number| NUMBERS.contains(number)).ok_or(invalid.clone())?;
        if content.len() > DICTIONARY_BYTES_MAX {
            return Err(invalid);
        }
        let decoder = zstd::dict::DecoderDictionary::try_copy(&content).map_err(|_| invalid)?;
        Ok(Self { number, content, decoder })
    }

    /// Its number, by which frames name it.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The content of its frame.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Decompresses a zstd frame. `None` unless the frame needs this dictionary and has this many bytes.
    #[must_use]
    pub fn decompress(&self, packed: &[u8], bytes: usize) -> Option<Vec<u8>> {
        let mut zstd = zstd::bulk::Decompressor::with_prepared_dictionary(&self.decoder).ok()?;
        let content = zstd.decompress(packed, bytes).ok()?;
        (content.len() == bytes).then_some(content)
    }
}

fn number_of(content: &[u8]) -> Option<u32> {
    let rest = content.strip_prefix(&MAGIC[..])?;
    rest.first_chunk().map(|number| u32::from_le_bytes(*number))
}

/// A number for a dictionary, made from random bytes.
#[must_use]
pub fn dictionary_number(random: u32) -> u32 {
    NUMBERS.start + random % (NUMBERS.end - NUMBERS.start)
}

/// The dictionary with this number and these strings, and the entropy tables of another one. `None` if that has none.
#[must_use]
pub fn dictionary_of(number: u32, tables_of: &[u8], strings: &[u8]) -> Option<Vec<u8>> {
    let after_number = tables_of.get(8..)?;
    let at = after_number.windows(REPEAT_OFFSETS.len()).position(|bytes| bytes == REPEAT_OFFSETS)?;
    let tables = &after_number[..at + REPEAT_OFFSETS.len()];
    Some([&MAGIC[..], &number.to_le_bytes(), tables, strings].concat())
}
