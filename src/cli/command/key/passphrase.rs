//! `sidekeep key passphrase`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::base::id::KeyId;
use crate::cli::command::key::new_key_file::{NewPassphraseArgs, protection};
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::keys::{self, KeySource, PassphraseSource};
use crate::cli::new_file::new_file_next_to;
use crate::crypto::keyfile::KeyFile;

/// Change the passphrase of a key file
///
/// Replaces the file at once: a crash leaves the old or the new one. Copies of the file keep the old passphrase, so anyone who
/// has a copy and the old passphrase can still open it: if that is a thief, revoke the key. Needs no repository.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep key passphrase --key-file admin.key --ask-passphrase
    sidekeep key passphrase --key-file admin.key --passphrase-command 'pass old' \\
        --new-passphrase-command 'pass new'
    sidekeep key passphrase --key-file admin.key --remove")]
pub(super) struct KeyPassphraseArgs {
    #[command(flatten)]
    passphrase: NewPassphraseArgs,
    /// Store the key without a passphrase
    #[arg(long, conflicts_with_all = ["new_passphrase_command", "ask_passphrase"])]
    remove: bool,
}

#[derive(Serialize)]
struct KeyPassphraseDocument {
    key: KeyId,
    file: PathBuf,
    /// Whether the file has a passphrase now.
    has_passphrase: bool,
}

/// Changes the passphrase of the user's key file.
/// Fails if no key file is named, it does not open, or it cannot be replaced.
pub(super) fn run(args: &KeyPassphraseArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    if !args.remove && !args.passphrase.is_named() {
        return Err(CliError::usage(
            "no new passphrase is given",
            "use --ask-passphrase, --new-passphrase-command, or --remove to store the key without one",
        ));
    }
    let path = context.key_path()?;
    let opened = context.key()?;
    let passphrase = args.passphrase.passphrase()?;
    let header = opened.file.header();
    let protection = protection(&passphrase, &opened.identity);
    let text = KeyFile::write(&*context.env, &opened.identity, &header.label, header.fingerprint, protection)?;
    let has_passphrase = passphrase.is_some();
    replace(&path, &text, passphrase.map_or(PassphraseSource::Terminal, PassphraseSource::Given))?;
    let document = KeyPassphraseDocument { key: header.key, file: path, has_passphrase };
    context.ui.result("key-passphrase", &document, human)?;
    Ok(Outcome::Done)
}

/// Writes a new file, reads it back, and then puts it in the place of the old one.
fn replace(path: &Path, text: &str, passphrase: PassphraseSource) -> Result<(), CliError> {
    let failed = || CliError::unusable(format!("replace {}", path.display()));
    // A link stays a link: what it leads to is replaced.
    let target = path.canonicalize().map_err(failed())?;
    let mut new = new_file_next_to(&target).map_err(failed())?;
    new.write_all(text.as_bytes()).and_then(|()| new.as_file().sync_all()).map_err(failed())?;
    keys::open(&KeySource::File(new.path().to_owned()), &passphrase)?;
    new.persist(&target).map_err(|error| failed()(error.error))?;
    let dir = target.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed())
}

fn human(document: &KeyPassphraseDocument) -> String {
    let with = if document.has_passphrase { "has a new passphrase" } else { "has no passphrase" };
    format!("{} {with}\n", document.file.display())
}
