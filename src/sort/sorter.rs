//! External sort: records are collected in one half of the budget while the other half, sorted, goes
//! to disk on a thread of its own. What fits into one half never touches the disk. Merging takes at
//! most the budget too; too many runs are merged in several passes.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::sort::buffer::{Buffer, Room, SharedPrefix};
use crate::sort::merge::Merge;
use crate::sort::spill::{Extent, ExtentWriter, SpillError, SpillFile, SpillOptions, block_bytes, reader_bytes};

/// Bytes of records that stay in memory when everything else is laid aside.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Sorted records that wait to be merged.
#[derive(Default)]
pub struct SortedRuns {
    runs: Vec<Extent>,
    buffers: Vec<Buffer>,
    shared: SharedPrefix,
}

impl SortedRuns {
    /// Adds what another sorter has.
    pub fn join(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.buffers.extend(other.buffers);
        self.shared.join(&other.shared);
    }

    /// Begins to read them, in ascending order of key, then payload.
    pub fn merge(self) -> Result<Merge, SpillError> {
        Merge::new(self.runs, self.buffers, self.shared.len())
    }
}

/// Takes records in any order; [`Sorter::finish`] gives them back in order.
pub struct Sorter {
    options: SpillOptions,
    buffer: Buffer,
    shared: SharedPrefix,
    record_bytes_max: usize,
    file: Option<Arc<SpillFile>>,
    runs: VecDeque<Extent>,
    spilling: Option<JoinHandle<Result<(Extent, Buffer), SpillError>>>,
}

impl Sorter {
    /// Allocates nothing yet.
    #[must_use]
    pub fn new(options: SpillOptions) -> Self {
        Self {
            buffer: Buffer::new(options.memory_bytes / 2),
            options,
            shared: SharedPrefix::default(),
            record_bytes_max: 0,
            file: None,
            runs: VecDeque::new(),
            spilling: None,
        }
    }

    /// Copies a record.
    pub fn push(&mut self, key: &[u8], payload: &[u8]) -> Result<(), SpillError> {
        if self.buffer.push(key, payload)? == Room::Full {
            self.spill()?;
            let room = self.buffer.push(key, payload)?;
            debug_assert_eq!(room, Room::Taken, "an empty buffer takes any record");
        }
        self.shared.see(key);
        self.record_bytes_max = self.record_bytes_max.max(key.len() + payload.len());
        Ok(())
    }

    /// All records, in ascending order of key, then payload.
    pub fn finish(self) -> Result<Merge, SpillError> {
        self.sorted()?.merge()
    }

    /// All records, to be merged soon: the last of them stay in memory.
    pub fn sorted(mut self) -> Result<SortedRuns, SpillError> {
        drop(self.await_spill()?);
        self.reduce_runs()?;
        self.buffer.sort(self.shared.len());
        let buffers = if self.buffer.len() == 0 { Vec::new() } else { vec![self.buffer] };
        Ok(SortedRuns { runs: self.runs.into(), buffers, shared: self.shared })
    }

    /// All records, to be merged some day: more than a few do not stay in memory.
    pub fn lay_aside(mut self) -> Result<SortedRuns, SpillError> {
        if self.buffer.bytes() > KEPT_BYTES_MAX {
            self.spill()?;
            drop(self.await_spill()?);
        }
        self.sorted()
    }

    /// Hands the full buffer to a thread; the next one is that of the thread before.
    fn spill(&mut self) -> Result<(), SpillError> {
        let empty = self.await_spill()?.unwrap_or_else(|| Buffer::new(self.options.memory_bytes / 2));
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.file.insert(SpillFile::create(&self.options)?).clone(),
        };
        let mut full = std::mem::replace(&mut self.buffer, empty);
        let skip = self.shared.len();
        let write_run = move || {
            full.sort(skip);
            let mut writer = ExtentWriter::new(file);
            for index in 0..full.len() {
                let (key, payload) = full.record(index);
                writer.write(key, payload)?;
            }
            full.clear();
            Ok((writer.finish()?, full))
        };
        let thread = Builder::new().name("sort".to_owned()).spawn(write_run);
        self.spilling = Some(thread.map_err(|source| SpillError::Thread { source })?);
        Ok(())
    }

    /// Waits for the run that is being written; returns its buffer, empty.
    fn await_spill(&mut self) -> Result<Option<Buffer>, SpillError> {
        let Some(spilling) = self.spilling.take() else { return Ok(None) };
        let (run, buffer) = spilling.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        self.runs.push_back(run);
        Ok(Some(buffer))
    }

    /// Merges runs until the rest can be merged in half the budget. Oldest first, so that all grow alike.
    fn reduce_runs(&mut self) -> Result<(), SpillError> {
        let run_bytes = reader_bytes(block_bytes(self.options.memory_bytes), self.record_bytes_max);
        let runs_max = (self.options.memory_bytes / 2 / run_bytes).max(2);
        while self.runs.len() > runs_max {
            let surplus = self.runs.len() - runs_max + 1;
            let group = self.runs.drain(..surplus.min(runs_max)).collect();
            let mut merge = Merge::new(group, Vec::new(), self.shared.len())?;
            let mut writer = ExtentWriter::new(SpillFile::create(&self.options)?);
            while let Some((key, payload)) = merge.next()? {
                writer.write(key, payload)?;
            }
            self.runs.push_back(writer.finish()?);
        }
        self.file = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Sorter;
    use crate::sort::spill::tests::options;

    type Records = Vec<(Vec<u8>, Vec<u8>)>;

    fn sort(records: &Records, memory_bytes: usize) -> Records {
        let mut sorter = Sorter::new(options(memory_bytes));
        for (key, payload) in records {
            sorter.push(key, payload).expect("pushed");
        }
        let mut merge = sorter.finish().expect("finished");
        let mut sorted = Vec::new();
        while let Some((key, payload)) = merge.next().expect("next") {
            sorted.push((key.to_vec(), payload.to_vec()));
        }
        assert!(merge.next().expect("the end stays the end").is_none());
        sorted
    }

    fn records() -> impl Strategy<Value = Records> {
        let key = prop_oneof![
            prop::collection::vec(0u8..3, 0..5),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|rest| [&[7; 20][..], &rest].concat()),
        ];
        let payload = (0usize..600, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]);
        prop::collection::vec((key, payload), 0..400)
    }

    proptest! {
        #![proptest_config(crate::base::property::with_cases(100))]

        #[test]
        fn equals_a_sort_in_memory(records in records(), memory_bytes in prop_oneof![0usize..20_000, Just(1 << 24)]) {
            let mut expected = records.clone();
            expected.sort();
            prop_assert!(sort(&records, memory_bytes) == expected);
        }
    }

    #[test]
    fn what_is_laid_aside_comes_back_and_takes_no_memory() {
        for count in [0u32, 3, 5000] {
            let mut sorter = Sorter::new(options(1 << 24));
            for n in (0..count).rev() {
                sorter.push(&n.to_be_bytes(), &[7; 50]).expect("pushed");
            }
            let sorted = sorter.lay_aside().expect("laid aside");
            assert!(sorted.buffers.iter().map(|buffer| buffer.bytes()).sum::<usize>() <= super::KEPT_BYTES_MAX);
            let mut merge = sorted.merge().expect("opens");
            for n in 0..count {
                assert_eq!(merge.next().expect("next").expect("a record").0, n.to_be_bytes());
            }
            assert!(merge.next().expect("next").is_none());
        }
    }

    #[test]
    fn what_several_sorters_have_comes_in_one_order() {
        let mut all = super::SortedRuns::default();
        let mut expected = Vec::new();
        // Prefixes of their keys that agree within one sorter and not among them.
        for (part, keys) in [("abc", 0..500u32), ("abd", 200..900), ("", 0..0), ("b", 5..6)] {
            let mut sorter = Sorter::new(options(8000));
            for n in keys {
                let key = [part.as_bytes(), &n.wrapping_mul(0x9e37_79b1).to_be_bytes()].concat();
                sorter.push(&key, &[9; 30]).expect("pushed");
                expected.push(key);
            }
            all.join(if part == "abd" { sorter.lay_aside() } else { sorter.sorted() }.expect("sorted"));
        }
        expected.sort();
        let mut merge = all.merge().expect("opens");
        for key in expected {
            assert_eq!(merge.next().expect("next").expect("a record").0, key);
        }
        assert!(merge.next().expect("next").is_none());
    }

    #[test]
    fn many_passes() {
        let records: Records =
            (0..20_000u32).map(|n| (n.wrapping_mul(0x9e37_79b1).to_be_bytes().to_vec(), vec![n as u8])).collect();
        let mut expected = records.clone();
        expected.sort();
        assert!(sort(&records, 4096) == expected);
    }

    #[test]
    fn a_record_larger_than_the_budget() {
        let records =
            vec![(vec![2], vec![1; 100_000]), (vec![1], vec![2; 300_000]), (vec![3], vec![]), (vec![], vec![])];
        let mut expected = records.clone();
        expected.sort();
        assert!(sort(&records, 2000) == expected);
    }
}
