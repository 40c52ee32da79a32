//! `sidekeep init`

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::base::env::SharedEnv;
use crate::base::id::Digest;
use crate::base::role::Role;
use crate::cli::config::{FILE_NAME, SOURCE_NAME, Template};
use crate::cli::context::CommandContext;
use crate::cli::exit::{CliError, Outcome};
use crate::cli::keys::{self, KeySource, PassphraseSource};
use crate::cli::new_keys::NewKeys;
use crate::cli::source::SourceAddress;
use crate::crypto::keyfile::{KdfCost, KeyFile, Protection};
use crate::crypto::role::Identity;
use crate::ops::init::{Init, InitReport};
use crate::repo::create::FIRST_ROLES;
use crate::store::{Location, Store};

/// Make a repository, its keys and a configuration
///
/// Writes operator.key, maintainer.key, admin.key, auditor.key and recovery.key, each readable by you alone, and a
/// commented sidekeep.toml. The store is tried first: one that lets two writers create the same object is refused.
/// What is sealed with the new keys is opened before success is reported.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep init s3://sync-backups/main --source postgres://sidekeep@db.example.org/sync
    sidekeep init s3://sync-backups/main --source sqlite:///srv/sync/sync.db
    sidekeep init /mnt/backup --keys-dir /mnt/usb/keys --ask-passphrase

Whoever holds admin.key or recovery.key can read everything; without one of them nothing can be
restored. Move both off this machine. A host that makes backups needs operator.key and no other.")]
pub(crate) struct InitArgs {
    /// Where: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a directory
    #[arg(value_name = "REPO", value_parser = NonEmptyStringValueParser::new())]
    location: String,
    /// The database to keep, for the configuration: postgres://role@host/database, service=name or sqlite:///path. A
    /// password in it is not written
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
struct InitDocument {
    location: String,
    #[serde(flatten)]
    report: InitReport,
    files: Vec<PathBuf>,
    config: NewConfig,
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

pub(crate) fn run(args: &InitArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let location = Location::parse(&args.location)?;
    let source = source(args, context)?;
    let passphrase = passphrase(args, context)?;
    let mut new_keys = NewKeys::reserve(&args.keys_dir, &FIRST_ROLES)?;
    let objects = context.objects(Store::create_at(&location, &context.store_options())?);
    let host = host();
    let init = Init::create(objects, SharedEnv::clone(&context.env), &host)?;
    let mut files = Vec::new();
    for identity in init.identities() {
        let text = key_text(context, identity, &host, init.fingerprint(), passphrase.as_ref())?;
        files.push(new_keys.fill(identity.role(), &text)?.to_owned());
    }
    new_keys.finish()?;
    let kept = read_back(&files, passphrase)?;
    let operator = kept.iter().position(|identity| identity.role() == Role::Operator);
    let key_file = &files[operator.expect("an operator is a first role")];
    let report = init.prove(kept, source.as_ref().map(|_| SOURCE_NAME))?;
    let config = write_config(context, &location, key_file, source.as_ref())?;
    let document = InitDocument { location: absolute(&location), report, files, config };
    context.ui.result("init", &document, human)?;
    Ok(Outcome::Done)
}

fn source(args: &InitArgs, context: &CommandContext) -> Result<Option<SourceAddress>, CliError> {
    let address = args.source.as_deref().map(|text| SourceAddress::parse(text, context.host_environment()));
    Ok(address.transpose()?.map(SourceAddress::absolute))
}

/// The passphrase for the keys that open rows, if there is to be one.
fn passphrase(args: &InitArgs, context: &CommandContext) -> Result<Option<Zeroizing<String>>, CliError> {
    let given = context.passphrase_source()?.given()?;
    if given.is_none() && args.ask_passphrase {
        return Ok(Some(keys::ask_new_passphrase()?));
    }
    Ok(given)
}

fn key_text(
    context: &CommandContext,
    identity: &Identity,
    host: &str,
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
    let label = format!("{host} {role}");
    Ok(KeyFile::write(&*context.env, identity, &label, fingerprint, protection)?)
}

/// The keys as they will be found when they are needed.
fn read_back(files: &[PathBuf], passphrase: Option<Zeroizing<String>>) -> Result<Vec<Identity>, CliError> {
    let passphrase = passphrase.map_or(PassphraseSource::Terminal, PassphraseSource::Given);
    files.iter().map(|file| Ok(keys::open(&KeySource::File(file.clone()), &passphrase)?.identity)).collect()
}

fn write_config(
    context: &CommandContext,
    location: &Location,
    key_file: &Path,
    source: Option<&SourceAddress>,
) -> Result<NewConfig, CliError> {
    let file = context.named_config().cloned().unwrap_or_else(|| PathBuf::from(FILE_NAME));
    let failed = |source| CliError::Io { doing: format!("write {}", file.display()), source };
    let (repo, source) = (absolute(location), source.map(SourceAddress::url));
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

fn human(document: &InitDocument) -> String {
    let report = &document.report;
    let mut text = format!("repository   {}\n             at {}\n", report.repository, document.location);
    text += &format!("fingerprint  {}\n", report.fingerprint);
    for (at, file) in document.files.iter().enumerate() {
        text += &format!("{:<11}  {}\n", if at == 0 { "keys" } else { "" }, file.display());
    }
    let kept = if document.config.state == ConfigState::Kept { "  (was there already and is unchanged)" } else { "" };
    text += &format!("config       {}{kept}\n", document.config.file.display());
    text + "
What was sealed with these keys could be opened again with admin.key and with recovery.key.
Now move recovery.key and admin.key off this machine: each can read everything, and without one of them
nothing can be restored. Write down the fingerprint: it tells this repository from any other.
"
}
