//! What a command works with: the settings that follow from options, environment and configuration (in this order),
//! and what is opened with them when it is first needed.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Zoned;
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::args::{Global, ProgressArg};
use super::config::{self, Config, ConfigPlaces};
use super::exit::CliError;
use super::keys::{self, KeyError, KeySource, OpenedKey, PASSPHRASE_VARIABLE, PassphraseSource};
use super::progress::{Shown, Style};
use super::ui::{Format, Talk, Ui};
use super::{signal, time};
use crate::base::cancel::Cancel;
use crate::base::env::{SharedEnv, System};
use crate::base::progress::{SharedProgress, Silent};
use crate::crypto::keyfile::KeyFileHeader;
use crate::engine::postgres::connect::host_environment::HostEnvironment;
use crate::engine::postgres::schema::dump::ToolSearch;
use crate::repo::cache::Cache;
use crate::repo::io::Objects;
use crate::repo::open::{Repository, Unlocked};
use crate::store::{Location, OpenOptions, RetryPolicy, Store};

/// What a command works with.
pub(crate) struct CommandContext {
    pub(crate) ui: Ui,
    pub(crate) env: SharedEnv,
    global: Global,
    runtime: Handle,
    config: OnceCell<(Config, Option<PathBuf>)>,
    host_environment: OnceCell<HostEnvironment>,
}

/// What a long operation is given by its command.
pub(crate) struct Monitor {
    pub(crate) progress: SharedProgress,
    pub(crate) cancel: Cancel,
}

impl Global {
    /// How results, warnings and progress are written.
    pub(crate) fn ui(&self) -> Ui {
        let format = if self.json { Format::Json } else { Format::Human };
        let talk = if self.quiet { Talk::Quiet } else { Talk::Normal };
        let progress = match (self.json || self.quiet, self.progress) {
            (true, _) => Style::None,
            (false, ProgressArg::Auto) if std::io::stderr().is_terminal() => Style::Redrawn,
            (false, ProgressArg::Lines) => Style::Lines,
            (false, ProgressArg::Auto | ProgressArg::None) => Style::Notes,
        };
        Ui { format, talk, progress }
    }
}

/// The value of an environment variable that is set and not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// What lies around the program and concerns PostgreSQL. Variables that are no text concern nobody.
pub(crate) fn host_environment() -> HostEnvironment {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    HostEnvironment::new(std::env::vars_os().filter_map(text))
}

/// A directory of the user, by the XDG base directory specification.
fn user_dir(name: &str, below_home: &str) -> Option<PathBuf> {
    let named = variable(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    named.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(below_home)))
}

impl CommandContext {
    pub(crate) fn new(global: Global, runtime: Handle) -> Self {
        let (config, host_environment) = (OnceCell::new(), OnceCell::new());
        Self { ui: global.ui(), env: Arc::new(System), global, runtime, config, host_environment }
    }

    /// The configuration.
    pub(crate) fn config(&self) -> Result<&Config, CliError> {
        if let Some((config, _)) = self.config.get() {
            return Ok(config);
        }
        let current_dir = std::env::current_dir()
            .map_err(|source| CliError::Io { doing: "find the current directory".to_owned(), source })?;
        let user_dir = user_dir("XDG_CONFIG_HOME", ".config");
        let places = ConfigPlaces { named: self.global.config.as_deref(), current_dir: &current_dir, user_dir };
        let found = config::find(&places)?;
        Ok(&self.config.get_or_init(|| found).0)
    }

    /// What lies around the program and concerns PostgreSQL.
    pub(crate) fn host_environment(&self) -> &HostEnvironment {
        self.host_environment.get_or_init(host_environment)
    }

    /// Where `pg_dump` is looked for.
    pub(crate) fn search(&self, configured: Option<&Path>) -> ToolSearch {
        let path = variable("PATH").unwrap_or_default();
        let path = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
        ToolSearch::on_this_host(configured.map(Path::to_owned), path)
    }

    /// The file that the configuration stands in, if there is one.
    pub(crate) fn config_path(&self) -> Result<Option<&Path>, CliError> {
        self.config()?;
        Ok(self.config.get().and_then(|(_, path)| path.as_deref()))
    }

    /// The configuration file that the user names, if one is named.
    pub(crate) fn named_config(&self) -> Option<&PathBuf> {
        self.global.config.as_ref()
    }

    /// Where the repository lies.
    pub(crate) fn location(&self) -> Result<Location, CliError> {
        let text = match &self.global.repo {
            Some(text) => text,
            None => self.config()?.repo.as_ref().ok_or_else(|| CliError::Usage {
                message: "no repository is named".to_owned(),
                hint: "name it with --repo, SIDEKEEP_REPO or repo in sidekeep.toml",
            })?,
        };
        Ok(Location::parse(text)?)
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
        let objects = self.store()?;
        let own = || user_dir("XDG_CACHE_HOME", ".cache").map(|dir| dir.join("sidekeep"));
        let dir = self.global.cache_dir.clone().or_else(own);
        let objects = match dir.filter(|_| !objects.store().has_free_requests()) {
            Some(dir) => objects.with_cache(Cache::at(dir)),
            None => objects,
        };
        Ok(Repository::open(objects, SharedEnv::clone(&self.env))?)
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
        opened.warning.iter().for_each(|warning| self.ui.warn(warning));
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
        if let Some(path) = &self.global.key_file {
            return Ok(KeySource::File(path.clone()));
        }
        if let Some(command) = &self.global.key_command {
            return Ok(KeySource::Command(command.clone()));
        }
        match (variable("SIDEKEEP_KEY_FILE"), variable("SIDEKEEP_KEY_COMMAND")) {
            (Some(_), Some(_)) => Err(CliError::Usage {
                message: "both SIDEKEEP_KEY_FILE and SIDEKEEP_KEY_COMMAND are set".to_owned(),
                hint: "unset one of them",
            }),
            (Some(path), None) => Ok(KeySource::File(path.into())),
            (None, Some(command)) => Ok(KeySource::Command(command)),
            (None, None) => match &self.config()?.key_file {
                Some(path) => Ok(KeySource::File(path.clone())),
                None => Err(KeyError::Missing.into()),
            },
        }
    }

    /// Where passphrases come from.
    pub(crate) fn passphrase_source(&self) -> Result<PassphraseSource, CliError> {
        if let Some(command) = &self.global.passphrase_command {
            return Ok(PassphraseSource::Command(command.clone()));
        }
        match variable(PASSPHRASE_VARIABLE).map(OsString::into_string) {
            Some(Ok(text)) => Ok(PassphraseSource::Given(Zeroizing::new(text))),
            Some(Err(_)) => Err(CliError::Usage {
                message: format!("{PASSPHRASE_VARIABLE} is not UTF-8"),
                hint: "give the passphrase with --passphrase-command",
            }),
            None => Ok(PassphraseSource::Terminal),
        }
    }

    /// Where rows are laid aside.
    pub(crate) fn spill_dir(&self, named: Option<&Path>) -> Result<PathBuf, CliError> {
        let config = self.config()?;
        Ok(named.or(config.spill_dir.as_deref()).map_or_else(std::env::temp_dir, Path::to_owned))
    }

    /// The present, in the machine's zone.
    pub(crate) fn now(&self) -> Zoned {
        time::here(self.env.now())
    }

    /// For operations that are over soon.
    pub(crate) fn silent(&self) -> SharedProgress {
        Arc::new(Silent)
    }

    /// Runs `operation` with its progress shown and signals heeded.
    pub(crate) fn watch<T, E: Into<CliError>>(
        &self,
        operation: impl FnOnce(Monitor) -> Result<T, E>,
    ) -> Result<T, CliError> {
        self.watch_as(self.ui.progress, operation)
    }

    /// The same with progress shown in another style.
    pub(crate) fn watch_as<T, E: Into<CliError>>(
        &self,
        style: Style,
        operation: impl FnOnce(Monitor) -> Result<T, E>,
    ) -> Result<T, CliError> {
        let shown = Shown::start(style);
        let watch = Monitor { progress: shown.progress(), cancel: Cancel::default() };
        signal::listen(&self.runtime, watch.cancel.clone(), shown.progress())
            .map_err(|source| CliError::Io { doing: "listen to signals".to_owned(), source })?;
        let cancel = watch.cancel.clone();
        operation(watch).map_err(|error| {
            let error: CliError = error.into();
            // Whatever is given up on request fails in its own words.
            if cancel.is_cancelled() { error.interrupted() } else { error }
        })
    }
}
