//! Byte strings that wait until they are needed: in memory up to a limit, and beyond it on disk.

use std::borrow::Cow;
use std::sync::Arc;

use crate::sort::spill::{Extent, ExtentReader, ExtentWriter, SpillFile, SpillOptions};
use crate::sort::spill_error::SpillError;

/// Keeps byte strings within a memory budget.
pub struct SpillShelf {
    options: SpillOptions,
    /// Bytes of the strings in memory.
    memory_bytes: usize,
    /// Created when the first string does not fit in memory.
    file: Option<Arc<SpillFile>>,
}

/// A byte string on a [`SpillShelf`].
pub struct Shelved(ShelfPlace);

enum ShelfPlace {
    Memory(Vec<u8>),
    Spilled(Extent),
}

impl SpillShelf {
    /// An empty shelf, with `options.memory_bytes` of memory.
    #[must_use]
    pub fn new(options: SpillOptions) -> Self {
        Self { options, memory_bytes: 0, file: None }
    }

    /// Keeps a byte string.
    /// Fails if it does not fit in memory and cannot be spilled.
    pub fn put(&mut self, bytes: Vec<u8>) -> Result<Shelved, SpillError> {
        if self.memory_bytes + bytes.len() > self.options.memory_bytes {
            return self.spill(&bytes);
        }
        self.memory_bytes += bytes.len();
        Ok(Shelved(ShelfPlace::Memory(bytes)))
    }

    fn spill(&mut self, bytes: &[u8]) -> Result<Shelved, SpillError> {
        let mut writer = ExtentWriter::new(self.spill_file()?);
        writer.write(&[], bytes)?;
        Ok(Shelved(ShelfPlace::Spilled(writer.finish()?)))
    }

    fn spill_file(&mut self) -> Result<Arc<SpillFile>, SpillError> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = SpillFile::create(&self.options)?;
        self.file = Some(file.clone());
        Ok(file)
    }

    /// Forgets a byte string.
    pub fn remove(&mut self, shelved: Shelved) {
        if let Shelved(ShelfPlace::Memory(bytes)) = shelved {
            self.memory_bytes -= bytes.len();
        }
    }
}

impl Shelved {
    /// The bytes.
    /// Fails if they were spilled and cannot be read back.
    pub fn read(&self) -> Result<Cow<'_, [u8]>, SpillError> {
        match &self.0 {
            ShelfPlace::Memory(bytes) => Ok(Cow::Borrowed(bytes)),
            ShelfPlace::Spilled(extent) => {
                let mut reader = ExtentReader::new(extent.clone());
                reader.advance()?;
                Ok(Cow::Owned(reader.record().1.to_vec()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SpillShelf;
    use crate::sort::spill::tests::options;

    #[test]
    fn byte_strings_are_kept_within_the_budget() {
        let mut shelf = SpillShelf::new(options(10_000));
        let strings: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; usize::from(n) * 50]).collect();
        let shelved: Vec<_> = strings.iter().map(|bytes| shelf.put(bytes.clone()).expect("kept")).collect();
        assert!((5000..=10_000).contains(&shelf.memory_bytes));
        for (bytes, shelved) in strings.iter().zip(&shelved) {
            assert_eq!(&*shelved.read().expect("read"), bytes);
        }
        shelved.into_iter().for_each(|shelved| shelf.remove(shelved));
        assert_eq!(shelf.memory_bytes, 0);
    }
}
