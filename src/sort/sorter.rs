//! External sort. One half of the budget collects records while the other half is sorted and written to disk by
//! another thread. Records that fit into one half never touch the disk. Merging stays within the budget too: too many
//! runs are merged in several passes.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::sort::buffer::{Buffer, BufferPush, SharedPrefix, key_head};
use crate::sort::spill::{
    Extent, ExtentReader, ExtentWriter, Record, SpillFile, SpillOptions, block_bytes, reader_bytes,
};
use crate::sort::spill_error::SpillError;

/// Sorted records, ready to be merged.
#[derive(Default)]
pub struct SortedRuns {
    runs: Vec<Extent>,
    buffers: Vec<Buffer>,
    shared_prefix: SharedPrefix,
}

impl SortedRuns {
    /// Adds the runs of another sorter.
    pub fn append(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.buffers.extend(other.buffers);
        self.shared_prefix.add_prefix(&other.shared_prefix);
    }

    /// Bytes of the records that are in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.buffers.iter().map(Buffer::bytes).sum()
    }

    /// Starts to read the records, in ascending order of key, then payload.
    /// Fails if a run cannot be read back.
    pub fn merge(self) -> Result<Merge, SpillError> {
        Merge::new(self.runs, self.buffers, self.shared_prefix.len())
    }
}

/// Accepts records in any order. [`Sorter::finish`] returns them in order.
pub struct Sorter {
    options: SpillOptions,
    buffer: Buffer,
    shared_prefix: SharedPrefix,
    record_bytes_max: usize,
    file: Option<Arc<SpillFile>>,
    runs: VecDeque<Extent>,
    spilling: Option<JoinHandle<Result<SpilledRun, SpillError>>>,
}

/// A run that a thread wrote to disk.
struct SpilledRun {
    run: Extent,
    /// Empty, to be filled again.
    buffer: Buffer,
}

impl Sorter {
    /// Allocates nothing yet.
    #[must_use]
    pub fn new(options: SpillOptions) -> Self {
        Self {
            buffer: Buffer::new(options.memory_bytes / 2),
            options,
            shared_prefix: SharedPrefix::default(),
            record_bytes_max: 0,
            file: None,
            runs: VecDeque::new(),
            spilling: None,
        }
    }

    /// Copies a record.
    /// Fails if the key or payload has 4 GiB or more, if a thread or spill file cannot be created, or if records of
    /// earlier calls could not be spilled.
    pub fn push(&mut self, key: &[u8], payload: &[u8]) -> Result<(), SpillError> {
        if self.buffer.push(key, payload)? == BufferPush::Full {
            self.spill()?;
            let pushed = self.buffer.push(key, payload)?;
            debug_assert_eq!(pushed, BufferPush::Stored, "an empty buffer accepts any record");
        }
        self.shared_prefix.add_key(key);
        self.record_bytes_max = self.record_bytes_max.max(key.len() + payload.len());
        Ok(())
    }

    /// All records, in ascending order of key, then payload.
    /// Fails if records could not be spilled or cannot be read back.
    pub fn finish(self) -> Result<Merge, SpillError> {
        self.into_runs()?.merge()
    }

    /// All records, to be merged soon: the last ones stay in memory.
    /// Fails if records could not be spilled, or if runs cannot be merged on disk.
    pub fn into_runs(mut self) -> Result<SortedRuns, SpillError> {
        drop(self.await_spill()?);
        self.reduce_runs()?;
        self.buffer.sort(self.shared_prefix.len());
        let buffers = if self.buffer.len() == 0 { Vec::new() } else { vec![self.buffer] };
        Ok(SortedRuns { runs: self.runs.into(), buffers, shared_prefix: self.shared_prefix })
    }

    /// All records, to be merged later: at most `unspilled_bytes` stay in memory.
    /// Fails if records cannot be spilled, or if runs cannot be merged on disk.
    pub fn into_spilled_runs(mut self, unspilled_bytes: usize) -> Result<SortedRuns, SpillError> {
        if self.buffer.bytes() > unspilled_bytes {
            self.spill()?;
            drop(self.await_spill()?);
        }
        self.buffer.shrink();
        self.into_runs()
    }

    /// Hands the full buffer to a thread that writes it to disk. Continues with the buffer of the previous spill.
    fn spill(&mut self) -> Result<(), SpillError> {
        let empty = self.empty_buffer()?;
        let file = self.spill_file()?;
        let full = std::mem::replace(&mut self.buffer, empty);
        let skip = self.shared_prefix.len();
        let thread = Builder::new().name("sort".to_owned()).spawn(move || write_run(full, file, skip));
        self.spilling = Some(thread.map_err(|source| SpillError::Thread { source })?);
        Ok(())
    }

    fn empty_buffer(&mut self) -> Result<Buffer, SpillError> {
        let spilled = self.await_spill()?;
        Ok(spilled.unwrap_or_else(|| Buffer::new(self.options.memory_bytes / 2)))
    }

    fn spill_file(&mut self) -> Result<Arc<SpillFile>, SpillError> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = self.options.files.file(&self.options)?;
        self.file = Some(file.clone());
        Ok(file)
    }

    /// Waits for the run that is being written. Returns its buffer, empty.
    fn await_spill(&mut self) -> Result<Option<Buffer>, SpillError> {
        let Some(spilling) = self.spilling.take() else { return Ok(None) };
        let spilled = spilling.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        self.runs.push_back(spilled.run);
        Ok(Some(spilled.buffer))
    }

    /// Merges runs until the rest can be merged in half the budget. Starts with the oldest, so that all runs grow
    /// alike.
    fn reduce_runs(&mut self) -> Result<(), SpillError> {
        let runs_max = self.runs_max();
        while self.runs.len() > runs_max {
            let surplus = self.runs.len() - runs_max + 1;
            let oldest = self.runs.drain(..surplus.min(runs_max)).collect();
            let merged = self.merge_runs(oldest)?;
            self.runs.push_back(merged);
        }
        self.file = None;
        Ok(())
    }

    /// How many runs can be merged at once.
    fn runs_max(&self) -> usize {
        let run_bytes = reader_bytes(block_bytes(self.options.memory_bytes), self.record_bytes_max);
        (self.options.memory_bytes / 2 / run_bytes).max(2)
    }

    fn merge_runs(&self, runs: Vec<Extent>) -> Result<Extent, SpillError> {
        let mut merge = Merge::new(runs, Vec::new(), self.shared_prefix.len())?;
        let mut writer = ExtentWriter::new(self.options.files.file(&self.options)?);
        while let Some((key, payload)) = merge.next()? {
            writer.write(key, payload)?;
        }
        writer.finish()
    }
}

/// Sorts a buffer and writes it to `file`.
fn write_run(mut buffer: Buffer, file: Arc<SpillFile>, skip: usize) -> Result<SpilledRun, SpillError> {
    buffer.sort(skip);
    let mut writer = ExtentWriter::new(file);
    for index in 0..buffer.len() {
        let (key, payload) = buffer.record(index);
        writer.write(key, payload)?;
    }
    buffer.clear();
    Ok(SpilledRun { run: writer.finish()?, buffer })
}

/// A sorted run with a current record.
struct SortedRun {
    records: RunRecords,
    /// The current record's [`key_head`], or `None` after the last record.
    head: Option<u128>,
}

enum RunRecords {
    /// The current record is number `next - 1`.
    Memory {
        buffer: Buffer,
        next: usize,
    },
    Spilled(ExtentReader),
}

impl SortedRun {
    fn in_memory(buffer: Buffer) -> Self {
        Self { records: RunRecords::Memory { buffer, next: 0 }, head: None }
    }

    fn spilled(extent: Extent) -> Self {
        Self { records: RunRecords::Spilled(ExtentReader::new(extent)), head: None }
    }

    /// Moves to the next record. The first call moves to the first record.
    fn advance(&mut self, skip: usize) -> Result<(), SpillError> {
        let has_record = match &mut self.records {
            RunRecords::Memory { buffer, next } => {
                *next += 1;
                *next <= buffer.len()
            }
            RunRecords::Spilled(reader) => reader.advance()?,
        };
        self.head = has_record.then(|| key_head(self.record().0, skip));
        Ok(())
    }

    fn record(&self) -> Record<'_> {
        match &self.records {
            RunRecords::Memory { buffer, next } => buffer.record(next - 1),
            RunRecords::Spilled(reader) => reader.record(),
        }
    }
}

/// All records of a sorter, in ascending order of key, then payload. Merges sorted runs with a loser tree: one
/// comparison per level and record, whatever the number of runs.
pub struct Merge {
    runs: Vec<SortedRun>,
    /// Index 0: the run with the smallest record. From 1 on: the loser of each match. The children of match n are at
    /// 2n and 2n+1. The runs come after the matches.
    tournament: Vec<usize>,
    skip: usize,
    state: MergeState,
}

enum MergeState {
    /// Each run is at its first record, and the smallest record was not returned yet.
    Fresh,
    /// The smallest record was returned.
    Returned,
}

impl Merge {
    /// Each of `buffers` is sorted. The first `skip` bytes of all keys are equal.
    fn new(extents: Vec<Extent>, buffers: Vec<Buffer>, skip: usize) -> Result<Self, SpillError> {
        let mut runs = Vec::with_capacity(extents.len() + buffers.len());
        runs.extend(extents.into_iter().map(SortedRun::spilled));
        runs.extend(buffers.into_iter().map(SortedRun::in_memory));
        for run in &mut runs {
            run.advance(skip)?;
        }
        let mut merge = Self { tournament: vec![0; runs.len()], runs, skip, state: MergeState::Fresh };
        merge.play_all();
        Ok(merge)
    }

    /// The next key and payload. `None` at the end.
    /// Fails if a run cannot be read back.
    #[expect(clippy::should_implement_trait, reason = "lends its buffers, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, SpillError> {
        let Some(&least) = self.tournament.first() else { return Ok(None) };
        if matches!(self.state, MergeState::Returned) {
            self.runs[least].advance(self.skip)?;
            self.replay(least);
        }
        self.state = MergeState::Returned;
        let run = &self.runs[self.tournament[0]];
        Ok(run.head.map(|_| run.record()))
    }

    /// Plays every match once, from the last to the first.
    fn play_all(&mut self) {
        let runs = self.runs.len();
        let mut winners: Vec<usize> = (0..runs * 2).map(|place| place.saturating_sub(runs)).collect();
        for place in (1..runs).rev() {
            let a = winners[place * 2];
            let b = winners[place * 2 + 1];
            let is_won_by_a = self.beats(a, b);
            winners[place] = if is_won_by_a { a } else { b };
            self.tournament[place] = if is_won_by_a { b } else { a };
        }
        if runs > 0 {
            self.tournament[0] = winners[1];
        }
    }

    /// Replays the matches of one run, whose record has changed.
    fn replay(&mut self, run: usize) {
        let mut winner = run;
        let mut place = (run + self.runs.len()) / 2;
        while place > 0 {
            let loser = self.tournament[place];
            if self.beats(loser, winner) {
                self.tournament[place] = winner;
                winner = loser;
            }
            place /= 2;
        }
        self.tournament[0] = winner;
    }

    fn beats(&self, a: usize, b: usize) -> bool {
        let run_a = &self.runs[a];
        let run_b = &self.runs[b];
        match (run_a.head, run_b.head) {
            (Some(head_a), Some(head_b)) if head_a == head_b => run_a.record() < run_b.record(),
            (Some(head_a), Some(head_b)) => head_a < head_b,
            (head_a, _) => head_a.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Sorter;
    use crate::sort::spill::tests::options;

    const UNSPILLED_BYTES: usize = 64 << 10;

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
        assert!(merge.next().expect("still at the end").is_none());
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
        fn the_result_equals_a_sort_in_memory(records in records(), memory_bytes in prop_oneof![0usize..20_000, Just(1 << 24)]) {
            let mut expected = records.clone();
            expected.sort();
            prop_assert!(sort(&records, memory_bytes) == expected);
        }
    }

    #[test]
    fn spilled_runs_are_complete_and_take_little_memory() {
        for count in [0u32, 3, 5000] {
            let mut sorter = Sorter::new(options(1 << 24));
            for n in (0..count).rev() {
                sorter.push(&n.to_be_bytes(), &[7; 50]).expect("pushed");
            }
            let sorted = sorter.into_spilled_runs(UNSPILLED_BYTES).expect("spilled");
            assert!(sorted.memory_bytes() <= UNSPILLED_BYTES);
            let mut merge = sorted.merge().expect("opens");
            for n in 0..count {
                assert_eq!(merge.next().expect("next").expect("a record").0, n.to_be_bytes());
            }
            assert!(merge.next().expect("next").is_none());
        }
    }

    #[test]
    fn runs_of_several_sorters_are_merged_in_order() {
        let mut all = super::SortedRuns::default();
        let mut expected = Vec::new();
        // Keys share a prefix within a sorter, but not across sorters.
        for (part, keys) in [("abc", 0..500u32), ("abd", 200..900), ("", 0..0), ("b", 5..6)] {
            let mut sorter = Sorter::new(options(8000));
            for n in keys {
                let key = [part.as_bytes(), &n.wrapping_mul(0x9e37_79b1).to_be_bytes()].concat();
                sorter.push(&key, &[9; 30]).expect("pushed");
                expected.push(key);
            }
            all.append(
                if part == "abd" { sorter.into_spilled_runs(UNSPILLED_BYTES) } else { sorter.into_runs() }
                    .expect("sorted"),
            );
        }
        expected.sort();
        let mut merge = all.merge().expect("opens");
        for key in expected {
            assert_eq!(merge.next().expect("next").expect("a record").0, key);
        }
        assert!(merge.next().expect("next").is_none());
    }

    #[test]
    fn many_runs_are_merged_in_several_passes() {
        let records: Records =
            (0..20_000u32).map(|n| (n.wrapping_mul(0x9e37_79b1).to_be_bytes().to_vec(), vec![n as u8])).collect();
        let mut expected = records.clone();
        expected.sort();
        assert!(sort(&records, 4096) == expected);
    }

    #[test]
    fn records_larger_than_the_budget_are_sorted() {
        let records =
            vec![(vec![2], vec![1; 100_000]), (vec![1], vec![2; 300_000]), (vec![3], vec![]), (vec![], vec![])];
        let mut expected = records.clone();
        expected.sort();
        assert!(sort(&records, 2000) == expected);
    }

    #[test]
    fn spilled_runs_of_many_sorters_need_few_files() {
        let options = options(1 << 20);
        let spilled = |count: u32| {
            let mut sorter = Sorter::new(options.clone());
            for n in (0..count).rev() {
                sorter.push(&n.to_be_bytes(), &[7; 500]).expect("pushed");
            }
            sorter.into_spilled_runs(0).expect("spilled")
        };
        let runs: Vec<super::SortedRuns> = (0..5000).map(|n| spilled(n % 50 + 1)).collect();
        assert!(options.files.count() <= 128, "{} files", options.files.count());
        for (n, runs) in (0..).zip(runs) {
            let mut merge = runs.merge().expect("opens");
            for key in 0..n % 50 + 1 {
                assert_eq!(merge.next().expect("next").expect("a record").0, u32::to_be_bytes(key));
            }
            assert!(merge.next().expect("next").is_none());
        }
        assert_eq!(options.files.count(), 0, "files that nobody reads are closed");
    }
}
