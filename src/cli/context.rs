//! What a command works with: the settings that follow from options, environment and configuration (in this order),
//! and what is opened with them when it is first needed.

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
use super::{signal, time};
use crate::base::cancel::Cancel;
use crate::base::env::{SharedEnv, System};
use crate::base::progress::SharedProgress;
use crate::crypto::keyfile::KeyFileHeader;
use crate::engine::postgres::connect::host_environment::HostEnvironment;
use crate::engine::postgres::schema::dump::ToolSearch;
use crate::repo::cache::Cache;
use crate::repo::objects::Objects;
use crate::repo::open::{Repository, Unlocked};
use crate::store::{Location, OpenOptions, RetryPolicy, Store};

/// What a command works with.
pub(crate) struct CommandContext {
    pub(crate) ui: Ui,
    pub(crate) env: SharedEnv,
    global: Global,
    runtime: Handle,
    config: OnceCell<FoundConfig>,
    host_environment: OnceCell<HostEnvironment>,
}

/// What a long operation is given by its command.
pub(crate) struct Monitor {
    pub(crate) progress: SharedProgress,
    pub(crate) cancel: Cancel,
}

impl CommandContext {
    pub(crate) fn new(global: Global, runtime: Handle) -> Self {
        let ui = global.ui();
        let env = Arc::new(System);
        Self { ui, env, global, runtime, config: OnceCell::new(), host_environment: OnceCell::new() }
    }

    /// The configuration.
    pub(crate) fn config(&self) -> Result<&Config, CliError> {
        Ok(&self.found_config()?.config)
    }

    /// The file that the configuration stands in, if there is one.
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

    /// What the environment says about PostgreSQL.
    pub(crate) fn host_environment(&self) -> &HostEnvironment {
        self.host_environment.get_or_init(host_environment)
    }

    /// Where `pg_dump` is looked for.
    pub(crate) fn search(&self, configured: Option<&Path>) -> ToolSearch {
        ToolSearch::on_this_host(configured.map(Path::to_owned), program_dirs())
    }

    /// The configuration file that the user names, if one is named.
    pub(crate) fn named_config(&self) -> Option<&PathBuf> {
        self.global.config.as_ref()
    }

    /// Where the repository lies.
    pub(crate) fn location(&self) -> Result<Location, CliError> {
        if let Some(text) = &self.global.repo {
            return Ok(Location::parse(text)?);
        }
        match &self.config()?.repo {
            Some(text) => Ok(Location::parse(text)?),
            None => Err(no_repository()),
        }
    }

    /// How stores are opened.
    pub(crate) fn store_options(&self) -> OpenOptions {
        let retry_policy = self.global.retry_time.map_or_else(RetryPolicy::default, RetryPolicy::for_time);
        OpenOptions { retry_policy, ..OpenOptions::default() }
    }

    /// The runtime that requests run in.
    pub(crate) fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// The store at `location`.
    pub(crate) fn objects(&self, store: Store) -> Objects {
        Objects::new(store, self.runtime.clone())
    }

    /// The store that the repository lies in.
    pub(crate) fn store(&self) -> Result<Objects, CliError> {
        let store = Store::open_with(&self.location()?, &self.store_options())?;
        Ok(Objects::new(store, self.runtime.clone()))
    }

    /// The repository, without a key.
    pub(crate) fn repository(&self) -> Result<Repository, CliError> {
        let objects = self.with_cache(self.store()?);
        Ok(Repository::open(objects, SharedEnv::clone(&self.env))?)
    }

    /// `objects` with copies kept on this machine, if their store is remote and there is a directory for copies.
    fn with_cache(&self, objects: Objects) -> Objects {
        if objects.store().has_free_requests() {
            return objects;
        }
        match self.cache_dir() {
            Some(dir) => objects.with_cache(Cache::at(dir)),
            None => objects,
        }
    }

    fn cache_dir(&self) -> Option<PathBuf> {
        match &self.global.cache_dir {
            Some(dir) => Some(dir.clone()),
            None => user_cache_dir().map(|dir| dir.join("sidekeep")),
        }
    }

    /// The repository with the keys that the user's key opens.
    pub(crate) fn unlocked(&self) -> Result<Unlocked, CliError> {
        // A location or a key that is not there should not cost the other's passphrase or time.
        self.location()?;
        self.unlock(self.key()?)
    }

    /// The user's key.
    pub(crate) fn key(&self) -> Result<OpenedKey, CliError> {
        let opened = keys::open(&self.key_source()?, &self.passphrase_source()?)?;
        if let Some(warning) = &opened.warning {
            self.ui.warn(warning);
        }
        Ok(opened)
    }

    /// What the user's key says of itself; it is not opened.
    pub(crate) fn key_header(&self) -> Result<KeyFileHeader, CliError> {
        Ok(keys::header(&self.key_source()?)?)
    }

    /// The repository with what `key` opens; it must be the one that the key was made for.
    pub(crate) fn unlock(&self, key: OpenedKey) -> Result<Unlocked, CliError> {
        let repository = self.repository()?;
        repository.check_fingerprint(&key.file.header().fingerprint)?;
        Ok(repository.unlock(key.identity)?)
    }

    /// Whether a key is named anywhere.
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

    /// Where the options say that the key is.
    fn named_key_source(&self) -> Option<KeySource> {
        let file = self.global.key_file.clone().map(KeySource::File);
        file.or_else(|| self.global.key_command.clone().map(KeySource::Command))
    }

    /// Where passphrases come from.
    pub(crate) fn passphrase_source(&self) -> Result<PassphraseSource, CliError> {
        if let Some(command) = &self.global.passphrase_command {
            return Ok(PassphraseSource::Command(command.clone()));
        }
        match variable(PASSPHRASE_VARIABLE) {
            Some(text) => given_passphrase(text),
            None => Ok(PassphraseSource::Terminal),
        }
    }

    /// Where rows are laid aside.
    pub(crate) fn spill_dir(&self, named: Option<&Path>) -> Result<PathBuf, CliError> {
        let configured = self.config()?.spill_dir.as_deref();
        let dir = named.or(configured);
        Ok(dir.map_or_else(std::env::temp_dir, Path::to_owned))
    }

    /// The present, in the machine's zone.
    pub(crate) fn now(&self) -> Zoned {
        time::here(self.env.now())
    }

    /// For operations that are over soon: nothing of them is shown.
    pub(crate) fn silent(&self) -> SharedProgress {
        ProgressView::start(Style::None).progress()
    }

    /// Runs `operation`, shows its progress, and has it stop at a signal.
    pub(crate) fn monitor<T, E: Into<CliError>>(
        &self,
        operation: impl FnOnce(Monitor) -> Result<T, E>,
    ) -> Result<T, CliError> {
        self.monitor_as(self.ui.progress, operation)
    }

    /// The same with progress shown in another style.
    pub(crate) fn monitor_as<T, E: Into<CliError>>(
        &self,
        style: Style,
        operation: impl FnOnce(Monitor) -> Result<T, E>,
    ) -> Result<T, CliError> {
        let view = ProgressView::start(style);
        let monitor = Monitor { progress: view.progress(), cancel: Cancel::default() };
        let cancel = monitor.cancel.clone();
        signal::listen(&self.runtime, cancel.clone(), view.progress())
            .map_err(CliError::cannot("listen to signals"))?;
        operation(monitor).map_err(|error| interrupted_if(cancel.is_cancelled(), error.into()))
    }
}

/// The key that the environment names.
/// The error of an operation. One that stops because it was asked to fails with an error of its own.
fn interrupted_if(is_cancelled: bool, error: CliError) -> CliError {
    if is_cancelled { error.interrupted() } else { error }
}

fn no_repository() -> CliError {
    CliError::usage("no repository is named", "name it with --repo, SIDEKEEP_REPO or repo in sidekeep.toml")
}

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

/// The passphrase that stands in a variable.
fn given_passphrase(text: OsString) -> Result<PassphraseSource, CliError> {
    let text = text.into_string().map_err(|_| passphrase_is_not_text())?;
    Ok(PassphraseSource::Given(Zeroizing::new(text)))
}

fn passphrase_is_not_text() -> CliError {
    CliError::usage(format!("{PASSPHRASE_VARIABLE} is not UTF-8"), "give the passphrase with --passphrase-command")
}
