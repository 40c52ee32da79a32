//! Merges sorted runs by a tournament of losers: one comparison per level and record, whatever the
//! number of runs.

use crate::sort::buffer::{Buffer, key_head};
use crate::sort::spill::{Extent, ExtentReader, Record, SpillError};

enum Records {
    Memory { buffer: Buffer, next: usize },
    Spilled(ExtentReader),
}

struct SortedRun {
    records: Records,
    /// The current record's [`key_head`]; `None` after the last record.
    head: Option<u128>,
}

impl SortedRun {
    fn advance(&mut self, skip: usize) -> Result<(), SpillError> {
        let more = match &mut self.records {
            Records::Memory { buffer, next } => {
                *next += 1;
                *next <= buffer.len()
            }
            Records::Spilled(reader) => reader.advance()?,
        };
        self.head = more.then(|| key_head(self.record().0, skip));
        Ok(())
    }

    fn record(&self) -> Record<'_> {
        match &self.records {
            Records::Memory { buffer, next } => buffer.record(next - 1),
            Records::Spilled(reader) => reader.record(),
        }
    }
}

/// All records of a sorter, in ascending order of key, then payload.
pub struct Merge {
    runs: Vec<SortedRun>,
    /// Place 0: the run with the least record. Places from 1: the loser of each match, children of place n at 2n and 2n+1, runs behind the matches.
    tournament: Vec<usize>,
    skip: usize,
    state: MergeState,
}

enum MergeState {
    /// Each run stands at its first record, and the least was not returned yet.
    Fresh,
    /// The least record was returned.
    Returned,
}

impl Merge {
    /// Each of `buffers` is sorted; `skip` bytes at the front of all keys are alike.
    pub(super) fn new(extents: Vec<Extent>, buffers: Vec<Buffer>, skip: usize) -> Result<Self, SpillError> {
        let spilled = extents.into_iter().map(|extent| Records::Spilled(ExtentReader::new(extent)));
        let memory = buffers.into_iter().map(|buffer| Records::Memory { buffer, next: 0 });
        let mut runs: Vec<SortedRun> = spilled.chain(memory).map(|records| SortedRun { records, head: None }).collect();
        for run in &mut runs {
            run.advance(skip)?;
        }
        let mut merge = Self { tournament: vec![0; runs.len()], runs, skip, state: MergeState::Fresh };
        merge.play_all();
        Ok(merge)
    }

    /// The next key and payload.
    #[expect(clippy::should_implement_trait, reason = "lends its buffers, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, SpillError> {
        let Some(&first) = self.tournament.first() else { return Ok(None) };
        if matches!(self.state, MergeState::Returned) {
            self.runs[first].advance(self.skip)?;
            self.replay(first);
        }
        self.state = MergeState::Returned;
        let run = &self.runs[self.tournament[0]];
        Ok(run.head.map(|_| run.record()))
    }

    fn play_all(&mut self) {
        let runs = self.runs.len();
        let mut winners: Vec<usize> = (0..runs * 2).map(|place| place.saturating_sub(runs)).collect();
        for place in (1..runs).rev() {
            let (a, b) = (winners[place * 2], winners[place * 2 + 1]);
            let (winner, loser) = if self.beats(a, b) { (a, b) } else { (b, a) };
            winners[place] = winner;
            self.tournament[place] = loser;
        }
        if let (Some(first), Some(&winner)) = (self.tournament.first_mut(), winners.get(1)) {
            *first = winner;
        }
    }

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
        let (run_a, run_b) = (&self.runs[a], &self.runs[b]);
        match (run_a.head, run_b.head) {
            (Some(head_a), Some(head_b)) if head_a == head_b => run_a.record() < run_b.record(),
            (Some(head_a), Some(head_b)) => head_a < head_b,
            (head_a, _) => head_a.is_some(),
        }
    }
}
