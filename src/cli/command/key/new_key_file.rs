//! The file of a new key: where it goes, and the passphrase that protects it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use crate::base::id::Digest;
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::keys::{self, KeySource, PassphraseSource};
use crate::cli::new_keys::ReservedKeyFiles;
use crate::crypto::keyfile::{KdfCost, KeyFile, Protection};
use crate::crypto::role::Identity;

/// The passphrase of a new key file.
#[derive(Args)]
pub(super) struct NewPassphraseArgs {
    /// Shell command that prints the passphrase of the new key file
    #[arg(long, value_name = "COMMAND", conflicts_with = "ask_passphrase")]
    new_passphrase_command: Option<OsString>,
    /// Ask for the passphrase of the new key file. Without both options, it has none
    #[arg(long)]
    ask_passphrase: bool,
}

/// The new passphrase, if the file gets one.
pub(super) type NewPassphrase = Option<Zeroizing<String>>;

impl NewPassphraseArgs {
    /// The passphrase, if the user wants one.
    /// Fails if the command fails, or there is no terminal to ask on.
    pub(super) fn passphrase(&self) -> Result<NewPassphrase, CliError> {
        if let Some(command) = &self.new_passphrase_command {
            return Ok(PassphraseSource::Command(command.clone()).given()?);
        }
        if self.ask_passphrase {
            return Ok(Some(keys::ask_new_passphrase("Passphrase for the new key file: ")?));
        }
        Ok(None)
    }

    /// Whether an option names a passphrase.
    pub(super) fn is_named(&self) -> bool {
        self.new_passphrase_command.is_some() || self.ask_passphrase
    }
}

/// How a new key file is protected.
pub(super) fn protection<'a>(passphrase: &'a NewPassphrase, identity: &Identity) -> Protection<'a> {
    match passphrase {
        Some(text) => Protection::Passphrase { passphrase: text.as_bytes(), cost: KdfCost::for_role(identity.role()) },
        None => Protection::None,
    }
}

/// A file that is reserved for a new key. It is removed unless it is written.
pub(super) struct NewKeyFile {
    pub(super) path: PathBuf,
    reserved: ReservedKeyFiles,
    passphrase: NewPassphrase,
}

impl NewKeyFile {
    /// Reserves the file.
    /// Fails if it exists or cannot be created.
    pub(super) fn reserve(path: &std::path::Path, passphrase: NewPassphrase) -> Result<Self, CliError> {
        let (path, reserved) = ReservedKeyFiles::reserve_file(path)?;
        Ok(Self { path, reserved, passphrase })
    }

    /// Writes the key, and reads it back.
    /// Fails if the file cannot be written, or does not open again.
    pub(super) fn write(
        mut self,
        context: &CommandContext,
        identity: &Identity,
        label: &str,
        fingerprint: Digest,
    ) -> Result<WrittenKey, CliError> {
        let protection = protection(&self.passphrase, identity);
        let text = KeyFile::write(&*context.env, identity, label, fingerprint, protection)?;
        self.reserved.fill(&self.path.to_string_lossy(), &text)?;
        self.reserved.finish()?;
        let passphrase = self.passphrase.map_or(PassphraseSource::Terminal, PassphraseSource::Given);
        let opened = keys::open(&KeySource::File(self.path.clone()), &passphrase)?;
        Ok(WrittenKey { identity: opened.identity, file: self.path })
    }
}

/// A new key, read back from its file.
pub(super) struct WrittenKey {
    pub(super) identity: Identity,
    pub(super) file: PathBuf,
}

impl WrittenKey {
    /// The result of enrolling the key.
    /// Fails if enrolling it did, and then says what to do with the file.
    pub(super) fn enrolled<T, E: Into<CliError>>(
        file: &std::path::Path,
        result: Result<T, E>,
        context: &CommandContext,
    ) -> Result<T, CliError> {
        result.map_err(|error| {
            context.ui.warn(&format!(
                "{} was written, but its key may not be enrolled: look for it with `sidekeep key list`, and remove the file \
                 if it is not there",
                file.display()
            ));
            error.into()
        })
    }
}
