//! Spill files that sorters and maps share. With a file for each of them, a source with thousands of tables would use
//! up the descriptors of the process.

use std::sync::{Arc, Mutex, Weak};

use crate::base::pipeline::lock;
use crate::sort::spill::{SpillError, SpillFile, SpillOptions};

/// A file that has this many bytes is not given to further sorters, so that its disk space is freed soon.
const FILE_BYTES: u64 = 256 << 20;
/// From this many files on, files are shared whatever their size.
const FILES_MAX: usize = 128;

/// The shared files of one run that are still in use, oldest first.
#[derive(Clone, Default)]
pub struct SpillFiles(Arc<Mutex<Vec<Weak<SpillFile>>>>);

impl SpillFiles {
    /// The newest file with blocks of the right size that accepts more, or a new file.
    pub(super) fn file(&self, options: &SpillOptions) -> Result<Arc<SpillFile>, SpillError> {
        let mut files = lock(&self.0);
        files.retain(|file| file.strong_count() > 0);
        let same_blocks = files.iter().rev().filter_map(Weak::upgrade).find(|file| file.suits(options));
        if let Some(file) = same_blocks.filter(|file| file.bytes() < FILE_BYTES || files.len() >= FILES_MAX) {
            return Ok(file);
        }
        let file = SpillFile::create(options)?;
        files.push(Arc::downgrade(&file));
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::FILES_MAX;
    use crate::sort::spill::tests::options;
    use crate::sort::{SortedRuns, Sorter, SpillOptions};

    fn spilled(options: &SpillOptions, count: u32) -> SortedRuns {
        let mut sorter = Sorter::new(options.clone());
        for n in (0..count).rev() {
            sorter.push(&n.to_be_bytes(), &[7; 500]).expect("pushed");
        }
        sorter.into_spilled_runs(0).expect("spilled")
    }

    #[test]
    fn spilled_runs_of_many_sorters_need_few_files() {
        let options = options(1 << 20);
        let runs: Vec<SortedRuns> = (0..5_000).map(|n| spilled(&options, n % 50 + 1)).collect();
        let in_use = options.files.0.lock().expect("no thread panicked").len();
        assert!(in_use <= FILES_MAX, "{in_use} files");
        for (n, runs) in (0..).zip(runs) {
            let mut merge = runs.merge().expect("opens");
            for key in 0..n % 50 + 1 {
                assert_eq!(merge.next().expect("next").expect("a record").0, u32::to_be_bytes(key));
            }
            assert!(merge.next().expect("next").is_none());
        }
        spilled(&options, 1);
        assert_eq!(options.files.0.lock().expect("no thread panicked").len(), 1, "files that nobody reads are closed");
    }
}
