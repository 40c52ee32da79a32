//! `sidekeep init`

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, value_parser};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::base::env::SharedEnv;
use crate::base::id::Digest;
use crate::base::role::Role;
use crate::cli::address::SourceAddress;
use crate::cli::config::{FILE_NAME, SOURCE_NAME, Template};
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::keys::{self, KeySource, PassphraseSource};
use crate::cli::new_file::new_file_next_to;
use crate::cli::new_keys::ReservedKeyFiles;
use crate::cli::render::printable;
use crate::crypto::keyfile::{KdfCost, KeyFile, Protection};
use crate::crypto::role::Identity;
use crate::ops::init::{Init, InitReport};
use crate::repo::create::{first_roles, names_of_roles};
use crate::store::{Location, Store};

/// Create a repository, its keys and a configuration file
///
/// Writes operator.key, maintainer.key, admin.key, auditor.key and recovery.key, each readable only by you, and a
/// commented sidekeep.toml. Existing files are never overwritten. With two recovery keys, the second one is in
/// recovery-2.key: keep them in two places.
///
/// Tests the store first, and refuses a store that lets two writers create the same object. Before it reports success,
/// it proves that the new keys can open what was encrypted for them.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep init s3://sync-backups/main --source postgres://sidekeep@db.example.org/sync
    sidekeep init s3://sync-backups/main --source sqlite:///srv/sync/sync.db
    sidekeep init /mnt/backup --keys-dir /mnt/usb/keys --ask-passphrase
    sidekeep init /mnt/other --keys-dir /mnt/usb/more --recovery-keys 2

Anyone who holds admin.key or recovery.key can read everything. Either key is enough to restore; if
both are lost, nothing can be restored. Move both off this machine. A host that makes backups needs
only operator.key.")]
pub(crate) struct InitArgs {
    /// Location of the new repository: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a directory
    #[arg(value_name = "REPO", value_parser = NonEmptyStringValueParser::new())]
    location: String,
    /// Database to back up, written to the configuration file without its password: postgres://role@host/database,
    /// service=name or sqlite:///path
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    source: Option<String>,
    /// Directory for the key files
    #[arg(long, value_name = "DIR", default_value = "keys")]
    keys_dir: PathBuf,
    /// Number of recovery keys. With two, you can lose one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u8).range(1..=2))]
    recovery_keys: u8,
    /// Ask for a passphrase that protects admin.key and recovery.key; not needed with --passphrase-command or
    /// SIDEKEEP_PASSPHRASE
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
    /// What the user may not have intended.
    notes: Vec<String>,
}

#[derive(Serialize)]
struct NewConfig {
    file: PathBuf,
    state: NewConfigState,
}

impl NewConfig {
    /// Writes the file, unless it exists.
    fn write(file: PathBuf, text: &str) -> Result<Self, CliError> {
        match create_file(&file, text) {
            Ok(()) => Ok(Self { file, state: NewConfigState::Written }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self { file, state: NewConfigState::Kept }),
            Err(error) => Err(CliError::unusable(format!("write {}", file.display()))(error)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum NewConfigState {
    Written,
    /// The file existed and was not changed.
    Kept,
}

/// Creates a repository, its keys and its configuration file.
/// Fails if the store has a repository already or cannot be written, a key file exists, a file cannot be written, or a
/// new key does not open what was sealed for it.
pub(crate) fn run(args: &InitArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let location = Location::parse(&args.location)?;
    let config_file = config_file(context)?;
    let source = source(args, context)?;
    let passphrase = passphrase(args, context)?;
    let roles = first_roles(args.recovery_keys.into());
    let names = names_of_roles(&roles);
    let reserved = ReservedKeyFiles::reserve(&args.keys_dir, &names)?;
    let keys = KeyProtection { host: host_name(), passphrase };
    check_config_file(&config_file)?;
    let init = start(&location, &keys.host, &roles, context)?;
    let files = write_keys(reserved, &init, &keys, &names, context)?;
    let written = read_back(&files, keys.passphrase)?;
    let key_file = operator_file(&files, &written);
    let report = init.prove(written, source.as_ref().map(|_| SOURCE_NAME))?;
    let config = write_config(config_file, &location, key_file, source.as_ref())?;
    let notes = source.as_ref().map_or_else(Vec::new, |source| notes(source, &config));
    let document = InitDocument { location: absolute(&location), report, files, config, notes };
    context.ui.result("init", &document, human)?;
    Ok(Outcome::Done)
}

/// Creates the store and the first objects of the repository.
fn start(location: &Location, host: &str, roles: &[Role], context: &CommandContext) -> Result<Init, CliError> {
    let store = Store::create_at(location, &context.store_options())?;
    Ok(Init::with_roles(context.objects(store), SharedEnv::clone(&context.env), host, roles)?)
}

/// Label and protection of the new keys.
struct KeyProtection {
    /// Host name, for the label of each key.
    host: String,
    /// Protects the keys that open rows. `None` means no protection.
    passphrase: Option<Zeroizing<String>>,
}

/// Writes the keys to their reserved files.
fn write_keys(
    mut reserved: ReservedKeyFiles,
    init: &Init,
    keys: &KeyProtection,
    names: &[String],
    context: &CommandContext,
) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Vec::new();
    for (identity, name) in init.identities().iter().zip(names) {
        let text = keys.key_text(context, identity, name, init.fingerprint())?;
        files.push(reserved.fill(name, &text)?.to_owned());
    }
    reserved.finish()?;
    Ok(files)
}

/// The file of the operator's key. `files` are the files of `written`, in the same order.
fn operator_file<'a>(files: &'a [PathBuf], written: &[Identity]) -> &'a Path {
    let operator = written.iter().position(|identity| identity.role() == Role::Operator);
    &files[operator.expect("every repository is created with an operator key")]
}

fn source(args: &InitArgs, context: &CommandContext) -> Result<Option<SourceAddress>, CliError> {
    let Some(text) = &args.source else {
        return Ok(None);
    };
    let address = SourceAddress::parse(text, context.host_environment())?;
    Ok(Some(address.absolute()))
}

/// The passphrase for the keys that open rows, if the user wants one.
fn passphrase(args: &InitArgs, context: &CommandContext) -> Result<Option<Zeroizing<String>>, CliError> {
    let given = context.passphrase_source()?.given()?;
    if given.is_none() && args.ask_passphrase {
        return Ok(Some(keys::ask_new_passphrase("Passphrase for admin.key and recovery.key: ")?));
    }
    Ok(given)
}

impl KeyProtection {
    fn key_text(
        &self,
        context: &CommandContext,
        identity: &Identity,
        name: &str,
        fingerprint: Digest,
    ) -> Result<Zeroizing<String>, CliError> {
        let label = format!("{} {name}", self.host);
        Ok(KeyFile::write(&*context.env, identity, &label, fingerprint, self.protection(identity.role()))?)
    }

    fn protection(&self, role: Role) -> Protection<'_> {
        match &self.passphrase {
            Some(text) if role.is_admin() => {
                Protection::Passphrase { passphrase: text.as_bytes(), cost: KdfCost::for_role(role) }
            }
            _ => Protection::None,
        }
    }
}

/// Reads the key files back, to prove that they can be used.
fn read_back(files: &[PathBuf], passphrase: Option<Zeroizing<String>>) -> Result<Vec<Identity>, CliError> {
    let passphrase = passphrase.map_or(PassphraseSource::Terminal, PassphraseSource::Given);
    let mut identities = Vec::new();
    for file in files {
        let opened = keys::open(&KeySource::File(file.clone()), &passphrase)?;
        identities.push(opened.identity);
    }
    Ok(identities)
}

/// The path of the configuration. A directory is refused before anything is created.
fn config_file(context: &CommandContext) -> Result<PathBuf, CliError> {
    let file = context.named_config().cloned().unwrap_or_else(|| PathBuf::from(FILE_NAME));
    if file.is_dir() {
        let message = format!("cannot write the configuration {}: it is a directory", file.display());
        return Err(CliError::usage(message, "name a file with --config"));
    }
    Ok(file)
}

/// Checks that the configuration can be written, before there is a repository.
fn check_config_file(file: &Path) -> Result<(), CliError> {
    if file.exists() {
        return Ok(());
    }
    new_file_next_to(file).map(drop).map_err(CliError::unusable(format!("write {}", file.display())))
}

/// What to know about the source. Nothing connects to a server: this machine may not be allowed to.
fn notes(source: &SourceAddress, config: &NewConfig) -> Vec<String> {
    let mut notes = Vec::new();
    if config.state == NewConfigState::Kept {
        let file = config.file.display();
        notes
            .push(format!("{file} was not changed, so --source is not in it: add it there as a section [source.main]"));
    }
    if source.is_missing() {
        notes.push(format!("{source} does not exist on this machine"));
    }
    notes
}

/// Writes the configuration, unless the file exists.
fn write_config(
    file: PathBuf,
    location: &Location,
    key_file: &Path,
    source: Option<&SourceAddress>,
) -> Result<NewConfig, CliError> {
    let source = source.map(SourceAddress::url);
    let text = Template { repo: &absolute(location), key_file, source: source.as_deref() }.render();
    NewConfig::write(file, &text)
}

/// Writes a new file.
fn create_file(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

fn absolute(location: &Location) -> String {
    let path = location.directory().and_then(|path| std::path::absolute(path).ok());
    path.map_or_else(|| location.to_string(), |path| path.display().to_string())
}

/// Name of this machine, for the labels of keys.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = start_of(name.trim());
    if name.is_empty() { "sidekeep".to_owned() } else { name }
}

/// The start of `name`, short enough for a label.
fn start_of(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn human(document: &InitDocument) -> String {
    let repository = document.report.repository;
    let mut text = format!("repository   {repository}\n             at {}\n", document.location);
    text += &format!("fingerprint  {}\n", document.report.fingerprint);
    text += &key_lines(&document.files);
    text += &document.config.line();
    document.notes.iter().for_each(|note| text += &format!("note: {}\n", printable(note)));
    text + NEXT_STEPS
}

const NEXT_STEPS: &str = "
admin.key and recovery.key were tested: each opens what is encrypted for this repository.
Now move both off this machine. Anyone who holds one of them can read everything. Either key is enough
to restore; if both are lost, nothing can be restored. Write down the fingerprint: it identifies this
repository.
";

fn key_lines(files: &[PathBuf]) -> String {
    let mut text = String::new();
    for (at, file) in files.iter().enumerate() {
        let label = if at == 0 { "keys" } else { "" };
        text += &format!("{label:<11}  {}\n", file.display());
    }
    text
}

impl NewConfig {
    fn line(&self) -> String {
        let kept = match self.state {
            NewConfigState::Written => "",
            NewConfigState::Kept => "  (exists already and was not changed)",
        };
        format!("config       {}{kept}\n", self.file.display())
    }
}
