//! The settings of a command, from options, environment and configuration (in this order), and the key, store and
//! repository that they open.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Zoned;
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::config::{self, Config, ConfigPaths, FoundConfig};
use super::environment::{host_environment, program_dirs, user_cache_dir, user_config_dir, variable};
use super::error::CliError;
use super::global::Global;
use super::keys::{self, KeyError, KeySource, OpenedKey, PASSPHRASE_VARIABLE, PassphraseSource};
use super::progress::{ProgressView, Style};
use super::ui::Ui;
use super::{signal, time, until};
use crate::base::cancel::Cancel;
use crate::base::env::{SharedEnv, System};
use crate::base::finding::Finding;
use crate::base::progress::SharedProgress;
use crate::crypto::keyfile::KeyFileHeader;
use crate::engine::postgres::connect::host_environment::HostEnvironment;
use crate::engine::postgres::schema::dump::ToolSearch;
use crate::repo::cache::Cache;
use crate::repo::heads::HeadMemory;
use crate::repo::objects::Objects;
use crate::repo::open::{Repository, Unlocked};
use crate::store::{Location, OpenOptions, RetryPolicy, Store};

/// Settings of a command, and what they open.
pub(crate) struct CommandContext {
    pub(crate) ui: Ui,
    pub(crate) env: SharedEnv,
    global: Global,
    runtime: Handle,
    config: OnceCell<FoundConfig>,
    host_environment: OnceCell<HostEnvironment>,
    /// The store that was opened.
    objects: OnceCell<Objects>,
}

/// Progress and cancellation of a long operation.
pub(crate) struct Monitor {
    pub(crate) progress: SharedProgress,
    pub(crate) cancel: Cancel,
}

impl CommandContext {
    /// The settings that the user named. Nothing is opened yet.
    pub(crate) fn new(global: Global, runtime: Handle) -> Self {
        let ui = global.ui();
        let env = Arc::new(System);
        Self {
            ui,
            env,
            global,
            runtime,
            config: OnceCell::new(),
            host_environment: OnceCell::new(),
            objects: OnceCell::new(),
        }
    }

    /// Whether the roster or ledgers are read only in part.
    pub(crate) fn reads_in_part(&self) -> bool {
        !self.global.until_entry.is_empty()
    }

    /// The configuration, read on first use.
    /// Fails if the current directory is unknown, or as [`config::find`] does.
    pub(crate) fn config(&self) -> Result<&Config, CliError> {
        Ok(&self.found_config()?.config)
    }

    /// The configuration file, if there is one.
    /// Fails as [`Self::config`] does.
    pub(crate) fn config_path(&self) -> Result<Option<&Path>, CliError> {
        Ok(self.found_config()?.path.as_deref())
    }

    fn found_config(&self) -> Result<&FoundConfig, CliError> {
        if let Some(found) = self.config.get() {
            return Ok(found);
        }
        let found = self.find_config()?;
        Ok(self.config.get_or_init(|| found))
    }

    fn find_config(&self) -> Result<FoundConfig, CliError> {
        let current_dir = std::env::current_dir().map_err(CliError::cannot("find the current directory"))?;
        let named = self.global.config.as_deref();
        let paths = ConfigPaths { named, current_dir: &current_dir, user_dir: user_config_dir() };
        Ok(config::find(&paths)?)
    }

    /// The environment variables that libpq reads, and the user's files.
    pub(crate) fn host_environment(&self) -> &HostEnvironment {
        self.host_environment.get_or_init(host_environment)
    }

    /// Where to look for `pg_dump`.
    pub(crate) fn search(&self, configured: Option<&Path>) -> ToolSearch {
        ToolSearch::on_this_host(configured.map(Path::to_owned), program_dirs())
    }

    /// The configuration file that the user named, if any.
    pub(crate) fn named_config(&self) -> Option<&PathBuf> {
        self.global.config.as_ref()
    }

    /// The location of the repository.
    /// Fails if no repository is named, its location cannot be parsed, or the configuration cannot be read.
    pub(crate) fn location(&self) -> Result<Location, CliError> {
        if let Some(text) = &self.global.repo {
            return Ok(Location::parse(text)?);
        }
        match &self.config()?.repo {
            Some(text) => Ok(Location::parse(text)?),
            None => Err(no_repository()),
        }
    }

    /// Options for opening a store.
    pub(crate) fn store_options(&self) -> OpenOptions {
        let retry_policy = self.global.retry_time.map_or_else(RetryPolicy::default, RetryPolicy::for_time);
        OpenOptions { retry_policy, ..OpenOptions::default() }
    }

    /// The runtime for requests to the store.
    pub(crate) fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// The objects in `store`. The chains that are read are compared with the heads that this host remembers.
    pub(crate) fn objects(&self, store: Store) -> Objects {
        let heads = self.cache_dir().map(|dir| HeadMemory::at(&dir, store.address()));
        let objects = Objects::new(store, self.runtime.clone());
        match heads {
            Some(heads) => self.objects.get_or_init(|| objects.with_heads(heads)).clone(),
            None => objects,
        }
    }

    /// What is wrong with the chains that were read, according to what this host remembers of them.
    pub(crate) fn head_findings(&self) -> Vec<Finding> {
        self.objects.get().map(Objects::head_findings).unwrap_or_default()
    }

    /// The store of the repository.
    /// Fails if no repository is named or the store cannot be opened.
    pub(crate) fn store(&self) -> Result<Objects, CliError> {
        let store = Store::open_with(&self.location()?, &self.store_options())?;
        if self.reads_in_part() {
            // The rest of the chain is not missing.
            let objects = Objects::new(store, self.runtime.clone());
            return Ok(objects.until(until::chain_ends(&self.global.until_entry)));
        }
        Ok(self.objects(store))
    }

    /// The repository, without a key.
    /// Fails if the store cannot be opened, or has no repository that can be read.
    pub(crate) fn repository(&self) -> Result<Repository, CliError> {
        let objects = self.with_cache(self.store()?);
        Ok(Repository::open(objects, SharedEnv::clone(&self.env))?)
    }

    /// `objects` with a local cache, if the store is remote and there is a cache directory.
    fn with_cache(&self, objects: Objects) -> Objects {
        if objects.store().has_free_requests() {
            return objects;
        }
        match self.cache_dir() {
            Some(dir) => objects.with_cache(Cache::at(dir)),
            None => objects,
        }
    }

    /// The directory for what this host remembers, if there is one.
    pub(crate) fn cache_dir(&self) -> Option<PathBuf> {
        match &self.global.cache_dir {
            Some(dir) => Some(dir.clone()),
            None => user_cache_dir().map(|dir| dir.join("sidekeep")),
        }
    }

    /// The repository, unlocked with the user's key.
    /// Fails if no repository or key is named, the key cannot be opened or was made for another repository, or the
    /// repository cannot be opened.
    pub(crate) fn unlocked(&self) -> Result<Unlocked, CliError> {
        // Report a missing location before asking for a passphrase, and a missing key before connecting.
        self.location()?;
        self.unlock(self.key()?)
    }

    /// The user's key, opened.
    /// Fails if no key is named, or as [`keys::open`] does.
    pub(crate) fn key(&self) -> Result<OpenedKey, CliError> {
        let opened = keys::open(&self.key_source()?, &self.passphrase_source()?)?;
        if let Some(warning) = &opened.warning {
            self.ui.warn(warning);
        }
        Ok(opened)
    }

    /// The path of the user's key file.
    /// Fails if no key is named, or a command prints it.
    pub(crate) fn key_path(&self) -> Result<PathBuf, CliError> {
        match self.key_source()? {
            KeySource::File(path) => Ok(path),
            KeySource::Command(_) => Err(CliError::usage("a key command has no file to replace", "use --key-file")),
        }
    }

    /// The header of the user's key file. The key is not opened.
    /// Fails if no key is named, or as [`keys::header`] does.
    pub(crate) fn key_header(&self) -> Result<KeyFileHeader, CliError> {
        Ok(keys::header(&self.key_source()?)?)
    }

    /// The repository, unlocked with `key`.
    /// Fails if the repository cannot be opened, the key was made for another one, or it is not enrolled.
    pub(crate) fn unlock(&self, key: OpenedKey) -> Result<Unlocked, CliError> {
        let repository = self.repository()?;
        repository.check_fingerprint(&key.file.header().fingerprint)?;
        Ok(repository.unlock(key.identity)?)
    }

    /// Whether an option, the environment or the configuration names a key.
    /// Fails if the environment names two keys, or the configuration cannot be read.
    pub(crate) fn has_key(&self) -> Result<bool, CliError> {
        match self.key_source() {
            Ok(_) => Ok(true),
            Err(CliError::Failed(error)) if matches!(error.downcast_ref(), Some(KeyError::Missing)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn key_source(&self) -> Result<KeySource, CliError> {
        if let Some(source) = self.named_key_source() {
            return Ok(source);
        }
        if let Some(source) = variable_key_source()? {
            return Ok(source);
        }
        match &self.config()?.key_file {
            Some(path) => Ok(KeySource::File(path.clone())),
            None => Err(KeyError::Missing.into()),
        }
    }

    /// The key that the options name.
    fn named_key_source(&self) -> Option<KeySource> {
        let file = self.global.key_file.clone().map(KeySource::File);
        file.or_else(|| self.global.key_command.clone().map(KeySource::Command))
    }

    /// Where to get a passphrase.
    /// Fails if the passphrase in the environment is not UTF-8.
    pub(crate) fn passphrase_source(&self) -> Result<PassphraseSource, CliError> {
        if let Some(command) = &self.global.passphrase_command {
            return Ok(PassphraseSource::Command(command.clone()));
        }
        match variable(PASSPHRASE_VARIABLE) {
            Some(text) => given_passphrase(text),
            None => Ok(PassphraseSource::Terminal),
        }
    }

    /// The directory for temporary files.
    /// Fails if the configuration cannot be read.
    pub(crate) fn spill_dir(&self, named: Option<&Path>) -> Result<PathBuf, CliError> {
        let configured = self.config()?.spill_dir.as_deref();
        Ok(named.or(configured).map_or_else(std::env::temp_dir, Path::to_owned))
    }

    /// The current time, in the system's time zone.
    pub(crate) fn now(&self) -> Zoned {
        time::in_system_zone(self.env.now())
    }

    /// Progress that is not shown, for short operations.
    pub(crate) fn silent(&self) -> SharedProgress {
        ProgressView::start(Style::None).progress()
    }

    /// Runs `operation`, shows its progress, and cancels it on a signal.
    /// Fails if signals cannot be handled, or with the error of `operation`. After a signal, that error is an
    /// interruption.
    pub(crate) fn monitor<T, E: Into<CliError>>(
        &self,
        operation: impl FnOnce(Monitor) -> Result<T, E>,
    ) -> Result<T, CliError> {
        self.monitor_as(self.ui.progress, operation)
    }

    /// Like [`Self::monitor`], with another style of progress.
    /// Fails as [`Self::monitor`] does.
    pub(crate) fn monitor_as<T, E: Into<CliError>>(
        &self,
        style: Style,
        operation: impl FnOnce(Monitor) -> Result<T, E>,
    ) -> Result<T, CliError> {
        let view = ProgressView::start(style);
        let monitor = Monitor { progress: view.progress(), cancel: Cancel::default() };
        let cancel = monitor.cancel.clone();
        signal::listen(&self.runtime, cancel.clone(), view.progress())
            .map_err(CliError::cannot("listen for signals"))?;
        operation(monitor).map_err(|error| interrupted_if(cancel.is_cancelled(), error.into()))
    }
}

/// The error of an operation. If the operation was cancelled, whatever error it returned counts as an interruption.
fn interrupted_if(is_cancelled: bool, error: CliError) -> CliError {
    if is_cancelled { error.interrupted() } else { error }
}

fn no_repository() -> CliError {
    CliError::usage("no repository is named", "name it with --repo, SIDEKEEP_REPO, or repo in sidekeep.toml")
}

/// The key that the environment names.
fn variable_key_source() -> Result<Option<KeySource>, CliError> {
    match (variable("SIDEKEEP_KEY_FILE"), variable("SIDEKEEP_KEY_COMMAND")) {
        (Some(_), Some(_)) => {
            Err(CliError::usage("both SIDEKEEP_KEY_FILE and SIDEKEEP_KEY_COMMAND are set", "unset one of them"))
        }
        (Some(path), None) => Ok(Some(KeySource::File(path.into()))),
        (None, Some(command)) => Ok(Some(KeySource::Command(command))),
        (None, None) => Ok(None),
    }
}

/// The passphrase from the environment variable.
fn given_passphrase(text: OsString) -> Result<PassphraseSource, CliError> {
    let text = text.into_string().map_err(|_| passphrase_is_not_text())?;
    Ok(PassphraseSource::Given(Zeroizing::new(text)))
}

fn passphrase_is_not_text() -> CliError {
    CliError::usage(format!("{PASSPHRASE_VARIABLE} is not valid UTF-8"), "use --passphrase-command instead")
}
