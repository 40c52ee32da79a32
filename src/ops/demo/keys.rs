//! The demo's keys, in files as for a real repository.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::env::Env;
use crate::base::role::Role;
use crate::crypto::keyfile::{KeyFile, Protection};
use crate::crypto::role::Identity;
use crate::ops::error::OpError;
use crate::ops::init::Init;

/// A directory of key files.
pub(super) struct DemoKeys(PathBuf);

impl DemoKeys {
    /// Writes the keys of a new repository.
    /// Fails if the directory exists, or a file cannot be written.
    pub(super) fn write(dir: PathBuf, init: &Init, env: &dyn Env) -> Result<Self, OpError> {
        let keys = Self(dir);
        let made = DirBuilder::new().mode(0o700).create(&keys.0);
        made.map_err(|error| broken(&keys.0, &error))?;
        for identity in init.identities() {
            let path = keys.path(identity.role());
            let text = KeyFile::write(env, identity, "demo", init.fingerprint(), Protection::None)
                .map_err(|error| broken(&path, &error))?;
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| broken(&path, &error))?;
        }
        Ok(keys)
    }

    /// The directory of the files.
    pub(super) fn dir(&self) -> &Path {
        &self.0
    }

    fn path(&self, role: Role) -> PathBuf {
        self.0.join(format!("{role}.key"))
    }

    /// Reads a key back from its file.
    /// Fails if the file cannot be read or opened.
    pub(super) fn read(&self, role: Role) -> Result<Identity, OpError> {
        let path = self.path(role);
        let text =
            std::fs::read_to_string(&path).map(zeroize::Zeroizing::new).map_err(|error| broken(&path, &error))?;
        KeyFile::parse(&text).and_then(|file| file.open(None)).map_err(|error| broken(&path, &error))
    }
}

fn broken(path: &Path, error: &dyn std::error::Error) -> OpError {
    OpError::Damaged { what: path.display().to_string(), reason: error.to_string() }
}
