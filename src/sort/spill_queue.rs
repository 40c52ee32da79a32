//! A queue that never keeps who puts something in waiting: what does not fit into memory is laid aside on disk until
//! it is taken out. Records come out in the order in which they went in.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::sort::spill::{Extent, ExtentReader, ExtentWriter, Record, SpillError, SpillFile, SpillOptions};

/// Bytes in one file of records laid aside; the disk has them back when all of it was taken out.
const FILE_BYTES: u64 = 256 << 20;

/// Takes records from some threads and gives them to others.
pub struct SpillQueue {
    options: SpillOptions,
    state: Mutex<QueueState>,
    came: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// Before everything on disk.
    memory: VecDeque<(Vec<u8>, Vec<u8>)>,
    memory_bytes: usize,
    /// Complete files, oldest first, before the one that is being written.
    files: VecDeque<Extent>,
    writing: Option<(ExtentWriter, u64)>,
    end: QueueEnd,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum QueueEnd {
    /// More may come.
    #[default]
    Open,
    /// Nothing more comes.
    Closed,
    /// Nobody takes anything out any more.
    Abandoned,
}

/// Whether a record will be taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepted {
    Yes,
    /// Nobody takes anything out any more.
    No,
}

/// Takes records out of a [`SpillQueue`].
pub struct SpillQueueReader<'b> {
    spill_queue: &'b SpillQueue,
    reading: Option<ExtentReader>,
    taken: (Vec<u8>, Vec<u8>),
}

impl SpillQueue {
    /// Empty. `options.memory_bytes` is what may wait in memory.
    #[must_use]
    pub fn new(options: SpillOptions) -> Self {
        Self { options, state: Mutex::default(), came: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies a record. Waits for the disk at most.
    pub fn push(&self, key: &[u8], payload: &[u8]) -> Result<Accepted, SpillError> {
        let mut state = self.lock();
        if state.end == QueueEnd::Abandoned {
            return Ok(Accepted::No);
        }
        let bytes = key.len() + payload.len();
        let on_disk = state.writing.is_some() || !state.files.is_empty();
        if on_disk || (state.memory_bytes + bytes > self.options.memory_bytes && !state.memory.is_empty()) {
            self.lay_aside(&mut state, key, payload)?;
        } else {
            state.memory_bytes += bytes;
            state.memory.push_back((key.to_vec(), payload.to_vec()));
        }
        drop(state);
        self.came.notify_one();
        Ok(Accepted::Yes)
    }

    fn lay_aside(&self, state: &mut QueueState, key: &[u8], payload: &[u8]) -> Result<(), SpillError> {
        let (mut writer, mut bytes) = match state.writing.take() {
            Some(writing) => writing,
            None => (ExtentWriter::new(SpillFile::create(&self.options)?), 0),
        };
        writer.write(key, payload)?;
        bytes += (key.len() + payload.len()) as u64;
        if bytes >= FILE_BYTES {
            state.files.push_back(writer.finish()?);
        } else {
            state.writing = Some((writer, bytes));
        }
        Ok(())
    }

    /// Nothing more comes: readers end when they have taken everything.
    pub fn close(&self) {
        let mut state = self.lock();
        if state.end == QueueEnd::Open {
            state.end = QueueEnd::Closed;
        }
        drop(state);
        self.came.notify_all();
    }

    /// The only reader; when it is dropped, nothing more is accepted.
    pub fn reader(&self) -> SpillQueueReader<'_> {
        SpillQueueReader { spill_queue: self, reading: None, taken: Default::default() }
    }
}

impl SpillQueueReader<'_> {
    /// The next record; waits until one comes. `None` when none ever will.
    #[expect(clippy::should_implement_trait, reason = "lends its buffers, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, SpillError> {
        loop {
            if let Some(reading) = &mut self.reading {
                if reading.advance()? {
                    break;
                }
                self.reading = None;
            }
            let mut state = self.spill_queue.lock();
            if let Some(record) = state.memory.pop_front() {
                state.memory_bytes -= record.0.len() + record.1.len();
                self.taken = record;
                return Ok(Some((&self.taken.0, &self.taken.1)));
            }
            let file = match state.files.pop_front() {
                Some(file) => Some(file),
                None => state.writing.take().map(|(writer, _)| writer.finish()).transpose()?,
            };
            if let Some(file) = file {
                self.reading = Some(ExtentReader::new(file));
            } else if state.end != QueueEnd::Open {
                return Ok(None);
            } else {
                drop(self.spill_queue.came.wait(state).unwrap_or_else(PoisonError::into_inner));
            }
        }
        Ok(self.reading.as_ref().map(ExtentReader::record))
    }
}

impl Drop for SpillQueueReader<'_> {
    fn drop(&mut self) {
        let mut state = self.spill_queue.lock();
        *state = QueueState { end: QueueEnd::Abandoned, ..QueueState::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::{Accepted, SpillQueue};
    use crate::sort::spill::tests::options;

    #[test]
    fn everything_comes_out_in_order_and_the_writer_never_waits() {
        for memory_bytes in [0, 5_000, 1 << 24] {
            let spill_queue = SpillQueue::new(options(memory_bytes));
            // Nobody reads yet.
            for n in 0..3000u32 {
                assert_eq!(spill_queue.push(&n.to_be_bytes(), &[n as u8; 70]).expect("pushed"), Accepted::Yes);
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
    fn nothing_is_kept_for_a_reader_that_went_away() {
        let spill_queue = SpillQueue::new(options(100));
        spill_queue.push(b"a", &[0; 500]).expect("pushed");
        drop(spill_queue.reader());
        assert_eq!(spill_queue.push(b"b", b"").expect("pushed"), Accepted::No);
    }
}
