//! Records in memory, sorted in place. Their bytes are in chunks of fixed size. Only entries of 24 bytes are sorted,
//! which contain the first bytes in which keys can differ. The order is by key, then payload. Records equal in both
//! are identical, so the order is total and deterministic.

use std::cmp::Ordering;

use crate::sort::spill::{RECORD_HEADER_BYTES, Record, record_header, record_lengths};
use crate::sort::spill_error::SpillError;

const CHUNK_BYTES_MAX: usize = 1 << 20;
const CHUNK_BYTES_MIN: usize = 1 << 10;
const ENTRY_BYTES: usize = size_of::<BufferEntry>();

/// The bytes that all keys added so far start with. No comparison needs to look at them.
#[derive(Clone, Default)]
pub(super) struct SharedPrefix {
    /// `None` before the first key.
    prefix: Option<Vec<u8>>,
}

impl SharedPrefix {
    /// Shortens the prefix to what it shares with `key`. The first key is the prefix.
    pub(super) fn add_key(&mut self, key: &[u8]) {
        match &mut self.prefix {
            None => self.prefix = Some(key.to_vec()),
            Some(prefix) if key.starts_with(prefix) => {}
            Some(prefix) => prefix.truncate(common_prefix_len(prefix, key)),
        }
    }

    /// Adds all keys of another prefix.
    pub(super) fn add_prefix(&mut self, other: &Self) {
        if let Some(prefix) = &other.prefix {
            self.add_key(prefix);
        }
    }

    /// Bytes of the prefix.
    pub(super) fn len(&self) -> usize {
        self.prefix.as_ref().map_or(0, Vec::len)
    }
}

fn common_prefix_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The 16 bytes of `key` from `skip` on, as a number. Missing bytes are zero.
pub(super) fn key_head(key: &[u8], skip: usize) -> u128 {
    let rest = key.get(skip..).unwrap_or_default();
    if let Some(head) = rest.first_chunk() {
        return u128::from_be_bytes(*head);
    }
    let mut head = [0; 16];
    head[..rest.len()].copy_from_slice(rest);
    u128::from_be_bytes(head)
}

/// The position of a record, and the [`key_head`] of its key.
#[derive(Clone, Copy)]
struct BufferEntry {
    /// Two u64 instead of one u128, which would increase the size to 32 bytes.
    head: [u64; 2],
    chunk: u32,
    offset: u32,
}

impl BufferEntry {
    fn head(&self) -> u128 {
        u128::from(self.head[0]) << 64 | u128::from(self.head[1])
    }

    fn set_head(&mut self, head: u128) {
        self.head = [(head >> 64) as u64, head as u64];
    }
}

/// Records, up to a limit in bytes.
pub(super) struct Buffer {
    limit_bytes: usize,
    chunk_bytes: usize,
    /// Chunks in use, then empty ones to be reused.
    chunks: Vec<Vec<u8>>,
    chunks_used: usize,
    chunks_allocated_bytes: usize,
    entries: Vec<BufferEntry>,
}

/// Whether a buffer accepted a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BufferPush {
    Stored,
    /// The record would exceed the limit and was not stored.
    Full,
}

impl Buffer {
    /// An empty buffer for records of at most `limit_bytes` with their overhead.
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            chunk_bytes: (limit_bytes / 16).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX),
            chunks: Vec::new(),
            chunks_used: 0,
            chunks_allocated_bytes: 0,
            entries: Vec::new(),
        }
    }

    /// Number of records.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the records.
    pub(super) fn bytes(&self) -> usize {
        self.chunks[..self.chunks_used].iter().map(Vec::len).sum()
    }

    /// Copies a record. An empty buffer accepts a record of any size.
    /// Fails if the key or the payload has 4 GiB or more.
    pub(super) fn push(&mut self, key: &[u8], payload: &[u8]) -> Result<BufferPush, SpillError> {
        let header = record_header(key, payload)?;
        let record_bytes = RECORD_HEADER_BYTES + key.len() + payload.len();
        if !self.reserve_entry() || !self.reserve_bytes(record_bytes) {
            return Ok(BufferPush::Full);
        }
        self.append([&header, key, payload]);
        Ok(BufferPush::Stored)
    }

    /// Appends a record, given in parts, to the last chunk in use, which must have room for it.
    fn append(&mut self, record: [&[u8]; 3]) {
        let index = self.chunks_used - 1;
        let chunk = &mut self.chunks[index];
        let offset = chunk.len() as u32;
        for part in record {
            chunk.extend_from_slice(part);
        }
        self.entries.push(BufferEntry { head: [0; 2], chunk: index as u32, offset });
    }

    /// Makes room for one more entry. Returns false if that would exceed the limit.
    fn reserve_entry(&mut self) -> bool {
        if self.entries.len() < self.entries.capacity() {
            return true;
        }
        let more = (self.entries.len() / 4).max(16);
        if !self.may_grow(more * ENTRY_BYTES) {
            return false;
        }
        self.entries.reserve_exact(more);
        true
    }

    /// Makes sure that the last chunk in use has room for a record. Returns false if that would exceed the limit.
    fn reserve_bytes(&mut self, record_bytes: usize) -> bool {
        if self.chunk_room() >= record_bytes {
            return true;
        }
        let is_chunk_missing = record_bytes > self.chunk_bytes || self.chunks_used == self.chunks.len();
        if is_chunk_missing && !self.allocate_chunk(record_bytes.max(self.chunk_bytes)) {
            return false;
        }
        self.chunks_used += 1;
        true
    }

    /// Free bytes of the last chunk in use.
    fn chunk_room(&self) -> usize {
        match self.chunks_used {
            0 => 0,
            used => self.chunks[used - 1].capacity() - self.chunks[used - 1].len(),
        }
    }

    /// Adds a chunk after those in use. Returns false if that would exceed the limit.
    fn allocate_chunk(&mut self, chunk_bytes: usize) -> bool {
        if !self.may_grow(chunk_bytes) {
            return false;
        }
        self.chunks.insert(self.chunks_used, Vec::with_capacity(chunk_bytes));
        self.chunks_allocated_bytes += chunk_bytes;
        true
    }

    /// Whether `more` bytes may be allocated. Frees empty chunks if that helps.
    fn may_grow(&mut self, more: usize) -> bool {
        while self.exceeds_limit(more) && self.chunks.len() > self.chunks_used {
            let freed = self.chunks.pop().map_or(0, |chunk| chunk.capacity());
            self.chunks_allocated_bytes -= freed;
        }
        self.entries.is_empty() || !self.exceeds_limit(more)
    }

    fn exceeds_limit(&self, more: usize) -> bool {
        let entries_bytes = self.entries.capacity() * ENTRY_BYTES;
        self.chunks_allocated_bytes + entries_bytes + more > self.limit_bytes
    }

    /// Frees memory that the records do not need.
    pub(super) fn shrink(&mut self) {
        self.chunks.truncate(self.chunks_used);
        self.chunks.iter_mut().for_each(Vec::shrink_to_fit);
        self.chunks_allocated_bytes = self.chunks.iter().map(Vec::capacity).sum();
        self.entries.shrink_to_fit();
    }

    /// Sorts the records. The first `skip` bytes of all keys are equal.
    pub(super) fn sort(&mut self, skip: usize) {
        let mut entries = std::mem::take(&mut self.entries);
        for entry in &mut entries {
            let (key, _) = self.record_at(entry);
            entry.set_head(key_head(key, skip));
        }
        entries.sort_unstable_by(|a, b| self.compare(a, b));
        self.entries = entries;
    }

    fn compare(&self, a: &BufferEntry, b: &BufferEntry) -> Ordering {
        a.head().cmp(&b.head()).then_with(|| self.record_at(a).cmp(&self.record_at(b)))
    }

    /// Key and payload of record number `index`.
    pub(super) fn record(&self, index: usize) -> Record<'_> {
        self.record_at(&self.entries[index])
    }

    fn record_at(&self, entry: &BufferEntry) -> Record<'_> {
        let bytes = &self.chunks[entry.chunk as usize][entry.offset as usize..];
        let (header, bytes) = bytes.split_first_chunk().expect("an entry points to a whole record");
        let (key_bytes, payload_bytes) = record_lengths(*header);
        bytes[..key_bytes + payload_bytes].split_at(key_bytes)
    }

    /// Removes the records. Keeps chunks of the usual size.
    pub(super) fn clear(&mut self) {
        self.entries = Vec::new();
        self.chunks.retain_mut(|chunk| {
            chunk.clear();
            chunk.capacity() == self.chunk_bytes
        });
        self.chunks_used = 0;
        self.chunks_allocated_bytes = self.chunks.len() * self.chunk_bytes;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Buffer, BufferEntry, BufferPush, SharedPrefix, key_head};

    #[test]
    fn entries_are_small() {
        assert_eq!(size_of::<BufferEntry>(), 24);
    }

    #[test]
    fn the_shared_prefix_only_shrinks() {
        let mut shared = SharedPrefix::default();
        for (key, len) in [("abcd", 4), ("abcde", 4), ("abx", 2), ("abcd", 2), ("b", 0)] {
            shared.add_key(key.as_bytes());
            assert_eq!(shared.len(), len, "{key}");
        }
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn key_heads_agree_with_the_order_of_keys(a: Vec<u8>, b: Vec<u8>) {
            let head_a = key_head(&a, 0);
            let head_b = key_head(&b, 0);
            prop_assert!(head_a == head_b || head_a.cmp(&head_b) == a.cmp(&b));
        }

        #[test]
        fn memory_stays_below_the_limit(records in prop::collection::vec((0usize..40, 0usize..3000), 1..300), limit in 0usize..200_000) {
            let mut buffer = Buffer::new(limit);
            let mut largest = 0;
            for (key, payload) in records {
                let key = vec![0; key];
                let payload = vec![0; payload];
                if buffer.push(&key, &payload).expect("pushed") == BufferPush::Full {
                    buffer.clear();
                    prop_assert_eq!(buffer.push(&key, &payload).expect("pushed"), BufferPush::Stored);
                }
                largest = largest.max(8 + key.len() + payload.len());
                let allocated: usize = buffer.chunks.iter().map(Vec::capacity).sum();
                let allocated = allocated + buffer.entries.capacity() * size_of::<BufferEntry>();
                prop_assert!(allocated <= limit.max(largest.max(1024) + 16 * size_of::<BufferEntry>()), "{} of {}", allocated, limit);
            }
        }
    }
}
