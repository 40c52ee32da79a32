//! The key files of a new repository. They are created before the repository, so that no repository is left without its
//! keys. No file is ever overwritten, and other users can never read the files.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::CliError;

/// Files that are reserved for keys. Files that are still empty are removed on drop.
pub(crate) struct ReservedKeyFiles {
    dir: PathBuf,
    /// Whether this created the directory.
    is_dir_new: bool,
    files: Vec<ReservedKeyFile>,
}

struct ReservedKeyFile {
    name: String,
    path: PathBuf,
    file: File,
    is_filled: bool,
}

impl ReservedKeyFiles {
    /// Reserves a file in `dir` for each of `names`. Creates `dir` if it does not exist.
    /// Fails if the directory cannot be created, or a file exists already or cannot be created.
    pub(crate) fn reserve(dir: &Path, names: &[String]) -> Result<Self, CliError> {
        let mut keys = Self::in_directory(dir)?;
        for name in names {
            keys.files.push(ReservedKeyFile::create(&keys.dir, name)?);
        }
        Ok(keys)
    }

    /// Reserves one file, and returns its absolute path, which is also its name. Creates its directory if it does not exist.
    /// Fails if the directory cannot be created, or the file exists already or cannot be created.
    pub(crate) fn reserve_file(path: &Path) -> Result<(PathBuf, Self), CliError> {
        let path = std::path::absolute(path).map_err(CliError::unusable(format!("create {}", path.display())))?;
        let mut keys = Self::in_directory(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.to_string_lossy().into_owned();
        keys.files.push(ReservedKeyFile::create_at(path.clone(), name, "name another file with --to")?);
        Ok((path, keys))
    }

    fn in_directory(dir: &Path) -> Result<Self, CliError> {
        let failed = |source| CliError::Setting { doing: format!("create the directory {}", dir.display()), source };
        let dir = std::path::absolute(dir).map_err(failed)?;
        let is_dir_new = !dir.exists();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        Ok(Self { dir, is_dir_new, files: Vec::new() })
    }

    /// Writes a key to the file of this name and syncs the file.
    /// Fails if the file cannot be written or synced.
    pub(crate) fn fill(&mut self, name: &str, text: &str) -> Result<&Path, CliError> {
        let reserved = self.files.iter_mut().find(|reserved| reserved.name == name);
        reserved.expect("a file was reserved for the key").fill(text)
    }

    /// Syncs the directory, which makes the file names durable.
    /// Fails if the directory cannot be synced.
    pub(crate) fn finish(self) -> Result<(), CliError> {
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(CliError::cannot(format!("sync the directory {}", self.dir.display())))
    }
}

impl ReservedKeyFile {
    fn create(dir: &Path, name: &str) -> Result<Self, CliError> {
        Self::create_at(dir.join(format!("{name}.key")), name.to_owned(), "name another directory with --keys-dir")
    }

    fn create_at(path: PathBuf, name: String, hint: &'static str) -> Result<Self, CliError> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Self { name, path, file, is_filled: false }),
            Err(error) => Err(not_created(&path, error, hint)),
        }
    }

    fn fill(&mut self, text: &str) -> Result<&Path, CliError> {
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(CliError::cannot(format!("write {}", self.path.display())))?;
        self.is_filled = true;
        Ok(&self.path)
    }
}

impl Drop for ReservedKeyFiles {
    fn drop(&mut self) {
        for reserved in &self.files {
            if !reserved.is_filled {
                // If this fails, the next attempt is refused and names the empty file.
                let _ = std::fs::remove_file(&reserved.path);
            }
        }
        if self.is_dir_new {
            // Fails, as it should, if the directory contains keys.
            let _ = std::fs::remove_dir(&self.dir);
        }
    }
}

fn not_created(path: &Path, error: io::Error, hint: &'static str) -> CliError {
    if error.kind() != io::ErrorKind::AlreadyExists {
        return CliError::unusable(format!("create {}", path.display()))(error);
    }
    CliError::usage(format!("{} already exists, and keys are never overwritten", path.display()), hint)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::ReservedKeyFiles;

    #[test]
    fn key_files_are_private_and_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let keys_dir = dir.path().join("a/b");
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut keys = ReservedKeyFiles::reserve(&keys_dir, &names(&["admin", "operator"])).expect("room");
        keys.fill("admin", "secret").expect("writes");
        keys.finish().expect("syncs");
        let mode = |path: &std::path::Path| path.metadata().expect("is there").permissions().mode() & 0o777;
        assert_eq!((mode(&keys_dir), mode(&keys_dir.join("admin.key"))), (0o700, 0o600));
        assert!(!keys_dir.join("operator.key").exists());
        assert!(ReservedKeyFiles::reserve(&keys_dir, &names(&["operator", "admin"])).is_err());
        assert!(!keys_dir.join("operator.key").exists());
        let unused = dir.path().join("unused");
        drop(ReservedKeyFiles::reserve(&unused, &names(&["admin"])).expect("room"));
        assert!(!unused.exists() && keys_dir.exists());
        assert_eq!(std::fs::read_to_string(keys_dir.join("admin.key")).expect("reads"), "secret");
    }
}
