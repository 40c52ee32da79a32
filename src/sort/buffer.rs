//! Records in memory, sorted in place: bytes lie in chunks of fixed size, and what is sorted are
//! entries of 24 bytes that hold the first bytes in which keys differ. Order is key, then payload;
//! records that agree in both are the same, so the order is total and depends on nothing else.

use std::cmp::Ordering;

use crate::sort::spill::{RECORD_HEADER_BYTES, Record, SpillError, record_header, record_lengths};

const CHUNK_BYTES_MAX: usize = 1 << 20;
const CHUNK_BYTES_MIN: usize = 1 << 10;

/// The bytes with which all keys seen so far begin: no comparison needs to look at them.
#[derive(Clone, Default)]
pub(super) struct SharedPrefix {
    first: Option<Vec<u8>>,
}

impl SharedPrefix {
    pub(super) fn see(&mut self, key: &[u8]) {
        match &mut self.first {
            None => self.first = Some(key.to_vec()),
            Some(first) if key.starts_with(first) => {}
            Some(first) => {
                let shared = first.iter().zip(key).take_while(|(a, b)| a == b).count();
                first.truncate(shared);
            }
        }
    }

    /// All keys that another has seen.
    pub(super) fn join(&mut self, other: &Self) {
        if let Some(first) = &other.first {
            self.see(first);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.first.as_ref().map_or(0, Vec::len)
    }
}

/// The 16 bytes of `key` from `skip` on, as a number; missing bytes are zero.
pub(super) fn key_head(key: &[u8], skip: usize) -> u128 {
    let rest = key.get(skip..).unwrap_or_default();
    if let Some(head) = rest.first_chunk() {
        return u128::from_be_bytes(*head);
    }
    let mut head = [0; 16];
    head[..rest.len()].copy_from_slice(rest);
    u128::from_be_bytes(head)
}

/// Two u64 and not one u128, which would be aligned to 32 bytes.
#[derive(Clone, Copy)]
struct BufferEntry {
    head: [u64; 2],
    chunk: u32,
    offset: u32,
}

impl BufferEntry {
    fn head(&self) -> u128 {
        u128::from(self.head[0]) << 64 | u128::from(self.head[1])
    }
}

/// Records up to a limit in bytes.
pub(super) struct Buffer {
    limit_bytes: usize,
    chunk_bytes: usize,
    /// Chunks in use, then emptied ones.
    chunks: Vec<Vec<u8>>,
    chunks_used: usize,
    chunks_allocated_bytes: usize,
    entries: Vec<BufferEntry>,
}

/// Whether a record found room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    Taken,
    /// Not without going over the limit; the record was not taken.
    Full,
}

impl Buffer {
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

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the records.
    pub(super) fn bytes(&self) -> usize {
        self.chunks[..self.chunks_used].iter().map(Vec::len).sum()
    }

    /// Copies a record. A buffer that is empty takes any.
    pub(super) fn push(&mut self, key: &[u8], payload: &[u8]) -> Result<Room, SpillError> {
        let header = record_header(key, payload)?;
        let record_bytes = RECORD_HEADER_BYTES + key.len() + payload.len();
        if !self.make_room(record_bytes) {
            return Ok(Room::Full);
        }
        let chunk = &mut self.chunks[self.chunks_used - 1];
        let offset = chunk.len() as u32;
        chunk.extend_from_slice(&header);
        chunk.extend_from_slice(key);
        chunk.extend_from_slice(payload);
        self.entries.push(BufferEntry { head: [0; 2], chunk: self.chunks_used as u32 - 1, offset });
        Ok(Room::Taken)
    }

    /// Sees to it that the last chunk in use and the entries have room for one more record.
    fn make_room(&mut self, record_bytes: usize) -> bool {
        if self.entries.len() == self.entries.capacity() {
            let more = (self.entries.len() / 4).max(16);
            if !self.may_grow(more * size_of::<BufferEntry>()) {
                return false;
            }
            self.entries.reserve_exact(more);
        }
        let current = self.chunks_used.checked_sub(1).map(|last| &self.chunks[last]);
        if current.is_some_and(|chunk| chunk.capacity() - chunk.len() >= record_bytes) {
            return true;
        }
        if record_bytes > self.chunk_bytes || self.chunks_used == self.chunks.len() {
            let chunk_bytes = record_bytes.max(self.chunk_bytes);
            if !self.may_grow(chunk_bytes) {
                return false;
            }
            self.chunks.insert(self.chunks_used, Vec::with_capacity(chunk_bytes));
            self.chunks_allocated_bytes += chunk_bytes;
        }
        self.chunks_used += 1;
        true
    }

    /// Whether `more` bytes may be allocated; gives emptied chunks back if that helps.
    fn may_grow(&mut self, more: usize) -> bool {
        let over = |buffer: &Self| {
            buffer.chunks_allocated_bytes + buffer.entries.capacity() * size_of::<BufferEntry>() + more
                > buffer.limit_bytes
        };
        while over(self) && self.chunks.len() > self.chunks_used {
            self.chunks_allocated_bytes -= self.chunks.pop().map_or(0, |chunk| chunk.capacity());
        }
        self.entries.is_empty() || !over(self)
    }

    /// Brings the records into order. `skip` bytes at the front of all keys are alike.
    pub(super) fn sort(&mut self, skip: usize) {
        let mut entries = std::mem::take(&mut self.entries);
        for entry in &mut entries {
            let head = key_head(self.record_at(entry).0, skip);
            entry.head = [(head >> 64) as u64, head as u64];
        }
        entries.sort_unstable_by(|a, b| match a.head().cmp(&b.head()) {
            Ordering::Equal => self.record_at(a).cmp(&self.record_at(b)),
            unequal => unequal,
        });
        self.entries = entries;
    }

    /// Key and payload of the record in place `index`.
    pub(super) fn record(&self, index: usize) -> Record<'_> {
        self.record_at(&self.entries[index])
    }

    fn record_at(&self, entry: &BufferEntry) -> Record<'_> {
        let bytes = &self.chunks[entry.chunk as usize][entry.offset as usize..];
        let (header, bytes) = bytes.split_first_chunk().expect("an entry points to a whole record");
        let (key_bytes, payload_bytes) = record_lengths(*header);
        bytes[..key_bytes + payload_bytes].split_at(key_bytes)
    }

    /// Forgets the records and keeps chunks of the usual size.
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

    use super::{Buffer, BufferEntry, Room, SharedPrefix, key_head};

    #[test]
    fn entries_are_small() {
        assert_eq!(size_of::<BufferEntry>(), 24);
    }

    #[test]
    fn the_shared_prefix_only_shrinks() {
        let mut shared = SharedPrefix::default();
        for (key, len) in [("abcd", 4), ("abcde", 4), ("abx", 2), ("abcd", 2), ("b", 0)] {
            shared.see(key.as_bytes());
            assert_eq!(shared.len(), len, "{key}");
        }
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn heads_never_contradict_the_order(a: Vec<u8>, b: Vec<u8>) {
            let (head_a, head_b) = (key_head(&a, 0), key_head(&b, 0));
            prop_assert!(head_a == head_b || head_a.cmp(&head_b) == a.cmp(&b));
        }

        #[test]
        fn memory_stays_below_the_limit(records in prop::collection::vec((0usize..40, 0usize..3000), 1..300), limit in 0usize..200_000) {
            let mut buffer = Buffer::new(limit);
            let mut largest = 0;
            for (key, payload) in records {
                let (key, payload) = (vec![0; key], vec![0; payload]);
                if buffer.push(&key, &payload).expect("pushed") == Room::Full {
                    buffer.clear();
                    prop_assert_eq!(buffer.push(&key, &payload).expect("pushed"), Room::Taken);
                }
                largest = largest.max(8 + key.len() + payload.len());
                let allocated: usize = buffer.chunks.iter().map(Vec::capacity).sum();
                let allocated = allocated + buffer.entries.capacity() * size_of::<BufferEntry>();
                prop_assert!(allocated <= limit.max(largest.max(1024) + 16 * size_of::<BufferEntry>()), "{} of {}", allocated, limit);
            }
        }
    }
}
