//! `sidekeep init`

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::base::env::SharedEnv;
use crate::base::id::{Digest, KeyId, RepositoryId};
use crate::base::role::Role;
use crate::cli::config::{FILE_NAME, Template};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Outcome};
use crate::cli::keys::{self, KeySource, PassphraseSource};
use crate::cli::new_keys::NewKeys;
use crate::cli::source::Address;
use crate::crypto::keyfile::{KdfCost, KeyFile, Protection};
use crate::crypto::role::Identity;
use crate::repo::create::{FIRST_ROLES, create, prove_openable};
use crate::repo::error::RepoError;
use crate::repo::open::Repository;
use crate::store::{Location, OpenOptions as StoreOptions, Store};

/// Make a repository, its keys and a configuration
///
/// Writes operator.key, maintainer.key, admin.key, auditor.key and recovery.key, each readable by you alone, and a
/// commented sidekeep.toml. The store is tried first: one that lets two writers create the same object is refused.
/// What is sealed with the new keys is opened before success is reported.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep init s3://sync-backups/main --source sqlite:///srv/sync/sync.db
    sidekeep init /mnt/backup --keys-dir /mnt/usb/keys --ask-passphrase

Whoever holds admin.key or recovery.key can read everything; without one of them nothing can be
restored. Move both off this machine. A host that makes backups needs operator.key and no other.")]
pub(crate) struct InitArgs {
    /// Where: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a directory
    #[arg(value_name = "REPO", value_parser = NonEmptyStringValueParser::new())]
    location: String,
    /// The database to keep, for the configuration: sqlite:///path
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    source: Option<String>,
    /// Where the key files are written
    #[arg(long, value_name = "DIR", default_value = "keys")]
    keys_dir: PathBuf,
    /// Ask for a passphrase that seals admin.key and recovery.key; one from --passphrase-command or
    /// SIDEKEEP_PASSPHRASE is used anyway
    #[arg(long)]
    ask_passphrase: bool,
}

#[derive(Serialize)]
struct Report {
    repository: RepositoryId,
    location: String,
    fingerprint: Digest,
    keys: Vec<NewKey>,
    config: NewConfig,
}

#[derive(Serialize)]
struct NewKey {
    role: Role,
    key: KeyId,
    file: PathBuf,
}

#[derive(Serialize)]
struct NewConfig {
    file: PathBuf,
    state: ConfigState,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum ConfigState {
    Written,
    /// There was one, and it stays as it is.
    Kept,
}

pub(crate) fn run(args: &InitArgs, context: &Context) -> Result<Outcome, CliError> {
    let location = Location::parse(&args.location)?;
    let source = args.source.as_deref().map(Address::parse).transpose()?.map(|address| address.absolute());
    let passphrase = passphrase(args, context)?;
    let mut files = NewKeys::reserve(&args.keys_dir, &FIRST_ROLES)?;
    let objects = context.objects(Store::create_at(&location, &StoreOptions::default())?);
    let made = create(objects, SharedEnv::clone(&context.env), &host())?;
    let fingerprint = made.repository.roster().fingerprint();
    let mut new = Vec::new();
    for identity in &made.identities {
        let text = key_text(context, identity, fingerprint, passphrase.as_ref())?;
        let file = files.fill(identity.role(), &text)?.to_owned();
        new.push(NewKey { role: identity.role(), key: identity.key_id(), file });
    }
    files.finish()?;
    prove(&made.repository, &new, passphrase)?;
    let operator = new.iter().find(|key| key.role == Role::Operator).expect("an operator is a first role");
    let config = write_config(context, &location, &operator.file, source.as_ref())?;
    let place = absolute(&location);
    let report = Report { repository: made.repository.id(), location: place, fingerprint, keys: new, config };
    context.ui.result("init", &report, human)?;
    Ok(Outcome::Done)
}

/// The passphrase for the keys that open rows, if there is to be one.
fn passphrase(args: &InitArgs, context: &Context) -> Result<Option<Zeroizing<String>>, CliError> {
    let given = context.passphrase_source()?.given()?;
    if given.is_none() && args.ask_passphrase {
        return Ok(Some(keys::ask_new_passphrase()?));
    }
    Ok(given)
}

fn key_text(
    context: &Context,
    identity: &Identity,
    fingerprint: Digest,
    passphrase: Option<&Zeroizing<String>>,
) -> Result<Zeroizing<String>, CliError> {
    let role = identity.role();
    let protection = match passphrase {
        Some(text) if role.is_admin() => {
            Protection::Passphrase { passphrase: text.as_bytes(), cost: KdfCost::for_role(role) }
        }
        _ => Protection::None,
    };
    let label = format!("{} {role}", host());
    Ok(KeyFile::write(&*context.env, identity, &label, fingerprint, protection)?)
}

/// Reads the files back, seals as the operator and opens as those who must be able to.
fn prove(repository: &Repository, new: &[NewKey], passphrase: Option<Zeroizing<String>>) -> Result<(), CliError> {
    let passphrase = passphrase.map_or(PassphraseSource::Terminal, PassphraseSource::Given);
    let unlocked = |role: Role| {
        let key = new.iter().find(|key| key.role == role).expect("a key was made for every first role");
        let opened = keys::open(&KeySource::File(key.file.clone()), &passphrase)?;
        Ok::<_, CliError>(repository.clone().unlock(opened.identity)?)
    };
    let operator = unlocked(Role::Operator)?;
    let (epoch, _) =
        repository.roster().open_epoch().ok_or_else(|| RepoError::Missing { object: "epoch 1".to_owned() })?;
    for role in [Role::Admin, Role::Recovery] {
        prove_openable(&operator, &unlocked(role)?, epoch)?;
    }
    Ok(())
}

fn write_config(
    context: &Context,
    location: &Location,
    key_file: &Path,
    source: Option<&Address>,
) -> Result<NewConfig, CliError> {
    let file = context.named_config().cloned().unwrap_or_else(|| PathBuf::from(FILE_NAME));
    let failed = |source| CliError::Io { doing: format!("write {}", file.display()), source };
    let (repo, source) = (absolute(location), source.map(Address::url));
    let text = Template { repo: &repo, key_file, source: source.as_deref() }.render();
    let state = match OpenOptions::new().write(true).create_new(true).open(&file) {
        Ok(mut open) => open.write_all(text.as_bytes()).map(|()| ConfigState::Written).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => ConfigState::Kept,
        Err(error) => return Err(failed(error)),
    };
    Ok(NewConfig { file, state })
}

fn absolute(location: &Location) -> String {
    let path = location.directory().and_then(|path| std::path::absolute(path).ok());
    path.map_or_else(|| location.to_string(), |path| path.display().to_string())
}

/// What people call this machine, for the labels of keys.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(64).collect();
    if name.is_empty() { "sidekeep".to_owned() } else { name }
}

fn human(report: &Report) -> String {
    let mut text = format!("repository   {}\n             at {}\n", report.repository, report.location);
    text += &format!("fingerprint  {}\n", report.fingerprint);
    for (at, key) in report.keys.iter().enumerate() {
        text += &format!("{:<11}  {}\n", if at == 0 { "keys" } else { "" }, key.file.display());
    }
    let kept = if report.config.state == ConfigState::Kept { "  (was there already and is unchanged)" } else { "" };
    text += &format!("config       {}{kept}\n", report.config.file.display());
    text + "
What was sealed with these keys could be opened again with admin.key and with recovery.key.
Now move recovery.key and admin.key off this machine: each can read everything, and without one of them
nothing can be restored. Write down the fingerprint: it tells this repository from any other.
"
}
