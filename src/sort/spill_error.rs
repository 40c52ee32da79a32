//! Failures of spilling, and the check for free space before it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A failure to spill records or to read them back.
#[derive(Debug, Error)]
pub enum SpillError {
    #[error("cannot create a temporary file in {}", dir.display())]
    Create {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The disk is full or the quota is used up. Another directory may have space.
    #[error("no space is left for temporary files in {}", dir.display())]
    Full { dir: PathBuf },
    /// Detected before anything was written. Another directory may have space.
    #[error("temporary files need about {needed_bytes} bytes, but {} has {free_bytes} bytes free", dir.display())]
    TooSmall { dir: PathBuf, needed_bytes: u64, free_bytes: u64 },
    #[error("cannot write to a temporary file in {}", dir.display())]
    Write {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read back a temporary file in {}", dir.display())]
    Read {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The bytes differ from what was written.
    #[error("a temporary file in {} has changed on the disk", dir.display())]
    Damaged { dir: PathBuf },
    #[error("cannot start a thread that writes temporary files")]
    Thread {
        #[source]
        source: io::Error,
    },
    #[error("a record of {bytes} bytes is too long to sort")]
    TooLong { bytes: usize },
}

/// Checks the free space that the file system reports for `dir`.
/// Fails if fewer than `needed_bytes` are free, or if the file system cannot be asked.
pub fn check_space(dir: &Path, needed_bytes: u64) -> Result<(), SpillError> {
    let free_bytes =
        free_bytes(dir).map_err(|error| SpillError::Create { dir: dir.to_owned(), source: error.into() })?;
    if free_bytes < needed_bytes {
        return Err(SpillError::TooSmall { dir: dir.to_owned(), needed_bytes, free_bytes });
    }
    Ok(())
}

fn free_bytes(dir: &Path) -> rustix::io::Result<u64> {
    let space = rustix::fs::statvfs(dir)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}
