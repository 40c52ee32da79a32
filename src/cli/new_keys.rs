//! The key files of a new repository. They are created before the repository is made, so that no repository is
//! left without its keys; nothing is ever overwritten, and no file is readable by others at any moment.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::CliError;
use crate::base::role::Role;

/// Reserved files for the keys of some roles, still empty; removed when dropped before they are filled.
pub(crate) struct ReservedKeyFiles {
    dir: PathBuf,
    /// Whether the directory was made for them.
    is_dir_new: bool,
    files: Vec<ReservedKeyFile>,
}

struct ReservedKeyFile {
    role: Role,
    path: PathBuf,
    file: File,
    is_filled: bool,
}

impl ReservedKeyFiles {
    /// Reserves a file for each of `roles` in `dir`, which is made if it is not there.
    pub(crate) fn reserve(dir: &Path, roles: &[Role]) -> Result<Self, CliError> {
        let mut keys = Self::in_directory(dir)?;
        for &role in roles {
            keys.files.push(ReservedKeyFile::create(&keys.dir, role)?);
        }
        Ok(keys)
    }

    fn in_directory(dir: &Path) -> Result<Self, CliError> {
        let failed = |source| CliError::Setting { doing: format!("make the directory {}", dir.display()), source };
        let dir = std::path::absolute(dir).map_err(failed)?;
        let is_dir_new = !dir.exists();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        Ok(Self { dir, is_dir_new, files: Vec::new() })
    }

    /// Writes the key of `role` to its file and makes it durable.
    pub(crate) fn fill(&mut self, role: Role, text: &str) -> Result<&Path, CliError> {
        let reserved = self.files.iter_mut().find(|reserved| reserved.role == role);
        reserved.expect("a file was reserved for the role").fill(text)
    }

    /// Makes the names of the files durable too.
    pub(crate) fn finish(self) -> Result<(), CliError> {
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(CliError::cannot(format!("make {} durable", self.dir.display())))
    }
}

impl ReservedKeyFile {
    fn create(dir: &Path, role: Role) -> Result<Self, CliError> {
        let path = dir.join(format!("{role}.key"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Self { role, path, file, is_filled: false }),
            Err(error) => Err(not_created(&path, error)),
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
                // An empty file that stays behind only stops the next attempt, which names it.
                let _ = std::fs::remove_file(&reserved.path);
            }
        }
        if self.is_dir_new {
            // With keys in it, it stays.
            let _ = std::fs::remove_dir(&self.dir);
        }
    }
}

fn not_created(path: &Path, error: io::Error) -> CliError {
    if error.kind() != io::ErrorKind::AlreadyExists {
        return CliError::unusable(format!("create {}", path.display()))(error);
    }
    CliError::usage(
        format!("{} is there already, and no key is ever overwritten", path.display()),
        "name another directory with --keys-dir",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::ReservedKeyFiles;
    use crate::base::role::Role;

    #[test]
    fn files_are_private_and_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let keys_dir = dir.path().join("a/b");
        let mut keys = ReservedKeyFiles::reserve(&keys_dir, &[Role::Admin, Role::Operator]).expect("room");
        keys.fill(Role::Admin, "secret").expect("writes");
        keys.finish().expect("syncs");
        let mode = |path: &std::path::Path| path.metadata().expect("is there").permissions().mode() & 0o777;
        assert_eq!((mode(&keys_dir), mode(&keys_dir.join("admin.key"))), (0o700, 0o600));
        assert!(!keys_dir.join("operator.key").exists());
        assert!(ReservedKeyFiles::reserve(&keys_dir, &[Role::Operator, Role::Admin]).is_err());
        assert!(!keys_dir.join("operator.key").exists());
        let unused = dir.path().join("unused");
        drop(ReservedKeyFiles::reserve(&unused, &[Role::Admin]).expect("room"));
        assert!(!unused.exists() && keys_dir.exists());
        assert_eq!(std::fs::read_to_string(keys_dir.join("admin.key")).expect("reads"), "secret");
    }
}
