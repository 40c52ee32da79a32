//! Local copies of index fragments, so that the amount that a backup reads does not grow with the number of backups
//! before it.
//!
//! A copy is used only if it has the digest in its name. So a lost, outdated or altered copy does no harm: the fragment
//! is read from the store again. Copies are as sealed as the originals. Chains are never cached: the ledger is read
//! from the store each time. A failure of the cache is never an error.

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::base::id::{Digest, SourceId};
use crate::format::name::Name;

/// A directory of copies.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Uses `dir`, which need not exist yet.
    #[must_use]
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The object, if there is a valid copy of it.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<Bytes> {
        let bytes = fs::read(self.dir.join(name.to_string())).ok()?;
        (name.digest() == Some(Digest::of(&bytes))).then(|| bytes.into())
    }

    /// Keeps a copy of an object that was read.
    pub fn keep(&self, name: &Name, bytes: &[u8]) {
        if name.digest() == Some(Digest::of(bytes)) {
            let _ = write(&self.dir.join(name.to_string()), bytes);
        }
    }

    /// Drops copies of fragments of `source` that the store no longer lists.
    pub fn retain(&self, source: SourceId, listed: &[Name]) {
        let listed: HashSet<String> = listed.iter().map(ToString::to_string).collect();
        let folder = format!("{source}/index");
        for file in files_in(&self.dir.join(&folder)) {
            let name = format!("{folder}/{}", file.file_name().to_string_lossy());
            if !listed.contains(&name) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

fn files_in(folder: &Path) -> Vec<DirEntry> {
    fs::read_dir(folder).map(|files| files.flatten().collect()).unwrap_or_default()
}

/// Written atomically, because another run may read at the same time.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Cache;
    use crate::base::id::{Digest, SourceId};
    use crate::format::name::Name;

    #[test]
    fn a_copy_is_returned_only_if_it_matches_its_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::at(dir.path().join("not/there/yet"));
        let source = SourceId::new([1; 16]);
        let one = Name::Index(source, Digest::of(b"one"));
        let two = Name::Index(source, Digest::of(b"two"));
        assert_eq!(cache.get(&one), None);
        cache.keep(&one, b"one");
        cache.keep(&two, b"something else");
        assert_eq!(cache.get(&one).as_deref(), Some(&b"one"[..]));
        assert_eq!(cache.get(&two), None);
        std::fs::write(dir.path().join("not/there/yet").join(one.to_string()), b"altered").expect("writes");
        assert_eq!(cache.get(&one), None);
        cache.keep(&one, b"one");
        cache.keep(&two, b"two");
        cache.retain(source, &[two]);
        assert_eq!((cache.get(&one), cache.get(&two).as_deref()), (None, Some(&b"two"[..])));
    }
}
