//! The key files of a new repository. Their places are taken before the repository is made, so that no repository is
//! left without its keys; nothing is ever overwritten, and no file is readable by others at any moment.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::exit::CliError;
use crate::base::role::Role;

/// Places for the keys of some roles, taken but still empty; given back when dropped before they are filled.
pub(crate) struct NewKeys {
    dir: PathBuf,
    /// The same if it was not there before.
    made: Option<PathBuf>,
    places: Vec<KeyPlace>,
}

struct KeyPlace {
    role: Role,
    path: PathBuf,
    file: File,
    is_filled: bool,
}

impl NewKeys {
    /// Takes the places in `dir`, which is made if it is not there.
    pub(crate) fn reserve(dir: &Path, roles: &[Role]) -> Result<Self, CliError> {
        let failed = |source| CliError::Io { doing: format!("make the directory {}", dir.display()), source };
        let dir = std::path::absolute(dir).map_err(failed)?;
        let made = (!dir.exists()).then(|| dir.clone());
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        let mut keys = Self { dir, made, places: Vec::new() };
        for &role in roles {
            let path = keys.dir.join(format!("{role}.key"));
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(|source| {
                if source.kind() == io::ErrorKind::AlreadyExists {
                    return CliError::Usage {
                        message: format!("{} is there already, and no key is ever overwritten", path.display()),
                        hint: "name another directory with --keys-dir",
                    };
                }
                CliError::Io { doing: format!("create {}", path.display()), source }
            })?;
            keys.places.push(KeyPlace { role, path, file, is_filled: false });
        }
        Ok(keys)
    }

    /// Writes the key of `role` to its place and makes it durable.
    pub(crate) fn fill(&mut self, role: Role, text: &str) -> Result<&Path, CliError> {
        let place = self.places.iter_mut().find(|place| place.role == role).expect("a place was taken for the role");
        let written = place.file.write_all(text.as_bytes()).and_then(|()| place.file.sync_all());
        written.map_err(|source| CliError::Io { doing: format!("write {}", place.path.display()), source })?;
        place.is_filled = true;
        Ok(&place.path)
    }

    /// Makes the names of the files durable too.
    pub(crate) fn finish(self) -> Result<(), CliError> {
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(|source| CliError::Io { doing: format!("make {} durable", self.dir.display()), source })
    }
}

impl Drop for NewKeys {
    fn drop(&mut self) {
        for place in self.places.iter().filter(|place| !place.is_filled) {
            // An empty file that stays behind is in nobody's way but the next try's, which names it.
            let _ = std::fs::remove_file(&place.path);
        }
        if let Some(dir) = &self.made {
            // With keys in it, it stays.
            let _ = std::fs::remove_dir(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::NewKeys;
    use crate::base::role::Role;

    #[test]
    fn files_are_private_and_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let keys_dir = dir.path().join("a/b");
        let mut keys = NewKeys::reserve(&keys_dir, &[Role::Admin, Role::Operator]).expect("room");
        keys.fill(Role::Admin, "secret").expect("writes");
        keys.finish().expect("syncs");
        let mode = |path: &std::path::Path| path.metadata().expect("is there").permissions().mode() & 0o777;
        assert_eq!((mode(&keys_dir), mode(&keys_dir.join("admin.key"))), (0o700, 0o600));
        assert!(!keys_dir.join("operator.key").exists());
        assert!(NewKeys::reserve(&keys_dir, &[Role::Operator, Role::Admin]).is_err());
        assert!(!keys_dir.join("operator.key").exists());
        let unused = dir.path().join("unused");
        drop(NewKeys::reserve(&unused, &[Role::Admin]).expect("room"));
        assert!(!unused.exists() && keys_dir.exists());
        assert_eq!(std::fs::read_to_string(keys_dir.join("admin.key")).expect("reads"), "secret");
    }
}
