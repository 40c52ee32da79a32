//! A queue whose writers never wait for its reader: records that do not fit in memory are spilled to disk until they
//! are read. First in, first out.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::base::pipeline::{lock, wait};
use crate::sort::spill::{Extent, ExtentReader, ExtentWriter, Record, SpillFile, SpillOptions};
use crate::sort::spill_error::SpillError;

/// Bytes of records in one spill file. Its disk space is freed once all of it has been read.
const FILE_BYTES: u64 = 256 << 20;
/// After each of these, files become twice as large, so that a queue of any size needs few descriptors.
const FILES_PER_SIZE: usize = 64;

/// Passes records from some threads to another.
pub struct SpillQueue {
    options: SpillOptions,
    state: Mutex<QueueState>,
    /// Notified when a record is pushed or the queue is closed.
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// Older than everything on disk.
    memory: VecDeque<OwnedRecord>,
    memory_bytes: usize,
    /// Complete files, oldest first. All are older than the one being written.
    files: VecDeque<Extent>,
    writing: Option<QueueFile>,
    end: QueueEnd,
}

#[derive(Default)]
struct OwnedRecord {
    key: Vec<u8>,
    payload: Vec<u8>,
}

/// A spill file that is being written.
struct QueueFile {
    writer: ExtentWriter,
    bytes: u64,
}

impl QueueFile {
    fn create(options: &SpillOptions) -> Result<Self, SpillError> {
        let file = SpillFile::create(options)?;
        Ok(Self { writer: ExtentWriter::new(file), bytes: 0 })
    }

    fn write(&mut self, key: &[u8], payload: &[u8]) -> Result<(), SpillError> {
        self.writer.write(key, payload)?;
        self.bytes += (key.len() + payload.len()) as u64;
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum QueueEnd {
    /// More records may be pushed.
    #[default]
    Open,
    /// No more records will be pushed.
    Closed,
    /// The reader was dropped.
    Abandoned,
}

/// The outcome of a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueuePush {
    Queued,
    /// The reader was dropped, so nothing will read the record.
    Abandoned,
}

/// Reads records from a [`SpillQueue`].
pub struct SpillQueueReader<'q> {
    queue: &'q SpillQueue,
    /// The file that is being read, if records currently come from disk.
    file: Option<ExtentReader>,
    /// The last record read from memory.
    record: OwnedRecord,
}

/// The source of the next record.
enum NextRecord {
    Memory(OwnedRecord),
    File(Extent),
    End,
}

impl SpillQueue {
    /// An empty queue. At most `options.memory_bytes` bytes of records wait in memory.
    #[must_use]
    pub fn new(options: SpillOptions) -> Self {
        Self { options, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }

    /// Copies a record. Waits for the disk at most, never for the reader.
    /// Fails if the record cannot be spilled. Records that were spilled before it may then be lost.
    pub fn push(&self, key: &[u8], payload: &[u8]) -> Result<QueuePush, SpillError> {
        let mut state = self.lock();
        if state.end == QueueEnd::Abandoned {
            return Ok(QueuePush::Abandoned);
        }
        if state.has_memory_for(key.len() + payload.len(), self.options.memory_bytes) {
            state.push_to_memory(key, payload);
        } else {
            state.push_to_disk(key, payload, &self.options)?;
        }
        drop(state);
        self.changed.notify_one();
        Ok(QueuePush::Queued)
    }

    /// Declares that no more records will be pushed. The reader ends after the last record.
    pub fn close(&self) {
        let mut state = self.lock();
        if state.end == QueueEnd::Open {
            state.end = QueueEnd::Closed;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The only reader. Once it is dropped, nothing more is queued.
    pub fn reader(&self) -> SpillQueueReader<'_> {
        SpillQueueReader { queue: self, file: None, record: OwnedRecord::default() }
    }

    /// Waits until there is a record or the queue has ended.
    fn next(&self) -> Result<NextRecord, SpillError> {
        let mut state = self.lock();
        loop {
            if let Some(record) = state.pop_from_memory() {
                return Ok(NextRecord::Memory(record));
            }
            if let Some(file) = state.pop_file()? {
                return Ok(NextRecord::File(file));
            }
            if state.end != QueueEnd::Open {
                return Ok(NextRecord::End);
            }
            state = wait(&self.changed, state);
        }
    }
}

impl QueueState {
    /// Whether a record may be kept in memory: nothing is on disk, and the limit allows it. An empty queue accepts any
    /// record.
    fn has_memory_for(&self, bytes: usize, limit_bytes: usize) -> bool {
        let has_files = self.writing.is_some() || !self.files.is_empty();
        !has_files && (self.memory_bytes + bytes <= limit_bytes || self.memory.is_empty())
    }

    fn push_to_memory(&mut self, key: &[u8], payload: &[u8]) {
        self.memory_bytes += key.len() + payload.len();
        self.memory.push_back(OwnedRecord { key: key.to_vec(), payload: payload.to_vec() });
    }

    fn push_to_disk(&mut self, key: &[u8], payload: &[u8], options: &SpillOptions) -> Result<(), SpillError> {
        let mut file = match self.writing.take() {
            Some(file) => file,
            None => QueueFile::create(options)?,
        };
        file.write(key, payload)?;
        if file.bytes >= FILE_BYTES << (self.files.len() / FILES_PER_SIZE).min(16) {
            self.files.push_back(file.writer.finish()?);
        } else {
            self.writing = Some(file);
        }
        Ok(())
    }

    fn pop_from_memory(&mut self) -> Option<OwnedRecord> {
        let record = self.memory.pop_front()?;
        self.memory_bytes -= record.key.len() + record.payload.len();
        Some(record)
    }

    /// The oldest file, even if it is not full.
    fn pop_file(&mut self) -> Result<Option<Extent>, SpillError> {
        if let Some(file) = self.files.pop_front() {
            return Ok(Some(file));
        }
        self.writing.take().map(|file| file.writer.finish()).transpose()
    }
}

impl SpillQueueReader<'_> {
    /// The next record. Waits until there is one. `None` once the queue has ended.
    /// Fails if records cannot be read back from disk.
    #[expect(clippy::should_implement_trait, reason = "lends its buffers, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, SpillError> {
        loop {
            if self.advance_file()? {
                return Ok(self.file.as_ref().map(ExtentReader::record));
            }
            match self.queue.next()? {
                NextRecord::Memory(record) => {
                    self.record = record;
                    return Ok(Some((&self.record.key, &self.record.payload)));
                }
                NextRecord::File(file) => self.file = Some(ExtentReader::new(file)),
                NextRecord::End => return Ok(None),
            }
        }
    }

    /// Moves to the next record of the open file. Returns false if there is none.
    fn advance_file(&mut self) -> Result<bool, SpillError> {
        let Some(file) = &mut self.file else { return Ok(false) };
        if file.advance()? {
            return Ok(true);
        }
        self.file = None;
        Ok(false)
    }
}

impl Drop for SpillQueueReader<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        *state = QueueState { end: QueueEnd::Abandoned, ..QueueState::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::{QueuePush, SpillQueue};
    use crate::sort::spill::tests::options;

    #[test]
    fn records_are_read_in_order_and_the_writer_never_waits() {
        for memory_bytes in [0, 5_000, 1 << 24] {
            let spill_queue = SpillQueue::new(options(memory_bytes));
            // No reader yet.
            for n in 0..3000u32 {
                assert_eq!(spill_queue.push(&n.to_be_bytes(), &[n as u8; 70]).expect("pushed"), QueuePush::Queued);
            }
            std::thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    let mut reader = spill_queue.reader();
                    let mut next = 0u32;
                    while let Some((key, payload)) = reader.next().expect("next") {
                        assert_eq!((key, payload), (&next.to_be_bytes()[..], &[next as u8; 70][..]));
                        next += 1;
                    }
                    next
                });
                for n in 3000..9000u32 {
                    spill_queue.push(&n.to_be_bytes(), &[n as u8; 70]).expect("pushed");
                }
                spill_queue.close();
                assert_eq!(reader.join().expect("reads"), 9000);
            });
        }
    }

    #[test]
    fn nothing_is_kept_after_the_reader_is_dropped() {
        let spill_queue = SpillQueue::new(options(100));
        spill_queue.push(b"a", &[0; 500]).expect("pushed");
        drop(spill_queue.reader());
        assert_eq!(spill_queue.push(b"b", b"").expect("pushed"), QueuePush::Abandoned);
    }
}
