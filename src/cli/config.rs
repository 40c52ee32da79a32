//! `sidekeep.toml`: settings that the command line does not have to repeat. A file that happens to be in the current
//! directory must not be trusted, so it contains no key and runs no command. Relative paths are relative to the file.
//! Values may contain a database password and are never printed whole.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use thiserror::Error;

use super::{redact, time};
use crate::base::id::SourceId;

/// Name of the file, in the current directory and in the user's configuration directory.
pub(crate) const FILE_NAME: &str = "sidekeep.toml";

/// Name of the source that `init` adds.
pub(crate) const SOURCE_NAME: &str = "main";

/// The configuration cannot be read or is invalid.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}, line {line}: {reason}", path.display())]
    Content { path: PathBuf, line: usize, reason: String },
    #[error("{}: the source name {name:?} may contain only letters, digits, '-' and '_'", path.display())]
    SourceName { path: PathBuf, name: String },
}

/// The contents of the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Location of the repository.
    pub(crate) repo: Option<String>,
    /// Default key file.
    pub(crate) key_file: Option<PathBuf>,
    /// Directory for encrypted temporary files.
    pub(crate) spill_dir: Option<PathBuf>,
    /// Directory of the PostgreSQL client programs.
    pub(crate) pg_bin: Option<PathBuf>,
    /// Databases by name.
    #[serde(default)]
    pub(crate) source: BTreeMap<String, SourceConfig>,
    #[serde(default)]
    pub(crate) status: StatusConfig,
}

/// One database.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceConfig {
    pub(crate) url: String,
    /// Its id in the repository, if only that source is meant whatever names the sources have.
    pub(crate) id: Option<SourceId>,
    /// Directory of the PostgreSQL client programs for this source's version.
    pub(crate) pg_bin: Option<PathBuf>,
    /// The table whose rows own the others.
    pub(crate) owner_table: Option<String>,
    /// Maximum age of the newest clean snapshot. Overrides the limit in `status`.
    #[serde(default, deserialize_with = "some_age")]
    pub(crate) max_age: Option<Duration>,
    /// Order of a table's rows. Overrides the order that placement chooses.
    #[serde(default)]
    pub(crate) layout: BTreeMap<String, LayoutConfig>,
}

/// How the rows of a table are ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LayoutConfig {
    Owner,
    Key,
}

/// Limits for `sidekeep status`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StatusConfig {
    /// Maximum age of the newest clean snapshot of each source.
    #[serde(deserialize_with = "age")]
    pub(crate) max_age: Duration,
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self { max_age: Duration::from_hours(26) }
    }
}

fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    time::parse_duration(&text).map_err(serde::de::Error::custom)
}

fn some_age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    age(deserializer).map(Some)
}

/// Where to look for a configuration.
pub(crate) struct ConfigPaths<'a> {
    /// Named by the user, so it must exist.
    pub(crate) named: Option<&'a Path>,
    pub(crate) current_dir: &'a Path,
    /// The user's configuration directory, if there is one.
    pub(crate) user_dir: Option<PathBuf>,
}

impl ConfigPaths<'_> {
    /// Files to try, in this order.
    fn default_files(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.current_dir.join(FILE_NAME)];
        if let Some(dir) = &self.user_dir {
            paths.push(dir.join("sidekeep").join(FILE_NAME));
        }
        paths
    }
}

/// A configuration and its file, if there is one.
#[derive(Default)]
pub(crate) struct FoundConfig {
    pub(crate) config: Config,
    pub(crate) path: Option<PathBuf>,
}

/// Finds and reads the configuration. If there is no file, the configuration is empty.
/// Fails if the named file does not exist, or a file cannot be read or is not a configuration.
pub(crate) fn find(paths: &ConfigPaths<'_>) -> Result<FoundConfig, ConfigError> {
    if let Some(path) = paths.named {
        return read(path.to_owned());
    }
    for path in paths.default_files() {
        match read(path) {
            Err(error) if error.is_missing() => {}
            found => return found,
        }
    }
    Ok(FoundConfig::default())
}

impl ConfigError {
    /// Whether the file does not exist.
    fn is_missing(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == ErrorKind::NotFound)
    }
}

fn read(path: PathBuf) -> Result<FoundConfig, ConfigError> {
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    let config = parse(&text, &path)?;
    Ok(FoundConfig { config, path: Some(path) })
}

/// Parses `text`, the content of `path`.
/// Fails if the text is not TOML, has an unknown or invalid setting, or has a source name with other characters than
/// letters, digits, `-` and `_`. The line itself is not in the reason.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let mut config: Config = toml::from_str(text).map_err(|error| content_error(&error, text, path))?;
    check_source_names(&config, path)?;
    config.resolve_paths(path.parent().unwrap_or(Path::new("")));
    Ok(config)
}

fn check_source_names(config: &Config, path: &Path) -> Result<(), ConfigError> {
    match config.source.keys().find(|name| !is_source_name(name)) {
        Some(name) => Err(ConfigError::SourceName { path: path.to_owned(), name: name.clone() }),
        None => Ok(()),
    }
}

/// Where and why a text is not a configuration. The line itself may contain a password and is left out.
fn content_error(error: &toml::de::Error, text: &str, path: &Path) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let line = line_at(text, start);
    ConfigError::Content { path: path.to_owned(), line, reason: redact::message(error.message()) }
}

/// The number of the line that contains the byte at `position`.
fn line_at(text: &str, position: usize) -> usize {
    text.get(..position).map_or(1, |before| before.matches('\n').count() + 1)
}

fn is_source_name(name: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !name.is_empty() && name.bytes().all(is_valid)
}

impl Config {
    /// Makes relative paths relative to `dir`.
    fn resolve_paths(&mut self, dir: &Path) {
        for path in [&mut self.key_file, &mut self.spill_dir, &mut self.pg_bin] {
            resolve(path, dir);
        }
        self.resolve_repo(dir);
        for source in self.source.values_mut() {
            source.resolve_paths(dir);
        }
    }

    fn resolve_repo(&mut self, dir: &Path) {
        if let Some(repo) = &mut self.repo
            && !repo.contains("://")
        {
            *repo = dir.join(&*repo).to_string_lossy().into_owned();
        }
    }
}

impl SourceConfig {
    fn resolve_paths(&mut self, dir: &Path) {
        resolve(&mut self.pg_bin, dir);
        if let Some(file) = self.url.strip_prefix("sqlite:")
            && !file.starts_with('/')
        {
            self.url = format!("sqlite:{}", dir.join(file).display());
        }
    }
}

fn resolve(path: &mut Option<PathBuf>, dir: &Path) {
    if let Some(path) = path {
        *path = dir.join(&*path);
    }
}

/// Values for a new configuration file.
pub(crate) struct Template<'a> {
    pub(crate) repo: &'a str,
    pub(crate) key_file: &'a Path,
    pub(crate) source: Option<&'a str>,
}

impl Template<'_> {
    /// The text of a commented configuration file.
    pub(crate) fn render(&self) -> String {
        TEMPLATE
            .replace("{repo}", &quoted(self.repo))
            .replace("{key_file}", &quoted(&self.key_file.to_string_lossy()))
            .replace("{source}", &self.source_section())
    }

    fn source_section(&self) -> String {
        match self.source {
            Some(url) => format!("[source.{SOURCE_NAME}]\nurl = {}", quoted(url)),
            None => "# [source.main]\n# url = \"postgres://sidekeep@db.example.org/sync\"".to_owned(),
        }
    }
}

/// `text` as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The file that `init` writes. It must not contain a password.
const TEMPLATE: &str = r#"# Sidekeep configuration. Command-line options and environment variables override this file.
# Relative paths are relative to the directory of this file.

# Location of the repository: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a directory.
repo = {repo}

# Key file. Override it with --key-file or --key-command.
# A host that makes backups needs the operator's key and should have no other key.
key_file = {key_file}

# Directory for encrypted temporary files [default: the system's temporary directory].
# spill_dir = "/var/tmp"

# Directory of pg_dump, for PostgreSQL [default: the usual directories, and PATH].
# pg_bin = "/usr/lib/postgresql/16/bin"

# The databases to back up, by name: `sidekeep backup main`. Do not put a password here. Use a password file, a
# service file or PGPASSWORD.
{source}
# Table whose rows are the users, named as `sidekeep owners` prints it, such as "public.users" [default: found by its
# name and by the foreign keys that point to it].
# owner_table = "users"
# id = "0123456789abcdef0123456789abcdef"   # from `sidekeep source list`: then no other source is meant
# Maximum age of the newest clean snapshot of this source [default: max_age in the section status].
# max_age = "7 days"
# Order of a table's rows. Use "key" for tables such as a log, whose rows are added and removed in the order of their
# key. Use "owner" to keep rows together by user. Quote a name that contains a dot, such as "public.sync_log".
# `sidekeep owners` does not ask about tables that you list here.
# [source.main.layout]
# sync_log = "key"

# Limits for `sidekeep status`.
[status]
# Maximum age of the newest clean snapshot of each source.
max_age = "26 hours"
"#;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::{Config, LayoutConfig, Template, parse};

    fn parsed(text: &str) -> Result<Config, String> {
        parse(text, Path::new("/etc/sidekeep.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_template_parses_with_and_without_a_source() {
        for source in [None, Some("sqlite:///srv/a \"b\".db")] {
            let text = Template { repo: "s3://bucket/p", key_file: Path::new("keys/operator.key"), source }.render();
            let config = parsed(&text).expect(&text);
            assert_eq!(config.repo.as_deref(), Some("s3://bucket/p"));
            assert_eq!(config.key_file.as_deref(), Some(Path::new("/etc/keys/operator.key")));
            assert_eq!(config.source.get("main").map(|main| main.url.as_str()), source);
            assert_eq!(config.status.max_age, Duration::from_hours(26));
        }
    }

    #[test]
    fn the_examples_in_the_template_are_valid() {
        let text = Template { repo: "r", key_file: Path::new("k"), source: None }.render();
        let is_setting = |line: &str| line.contains(" = ") || line.starts_with("# [");
        let uncomment = |line: &str| match line.strip_prefix("# ") {
            Some(setting) if is_setting(line) => setting.to_owned(),
            _ => line.to_owned(),
        };
        let config = parsed(&text.lines().map(uncomment).collect::<Vec<_>>().join("\n")).expect("parses");
        let main = config.source.get("main").expect("a source");
        assert_eq!(main.owner_table.as_deref(), Some("users"));
        assert_eq!(main.layout.get("sync_log"), Some(&LayoutConfig::Key));
    }

    #[test]
    fn paths_are_relative_to_the_file_and_absolute_paths_stay() {
        let config = parsed("repo = 'copies'\nspill_dir = '/tmp'\n[source.a]\nurl = 'sqlite:a.db'").expect("parses");
        assert_eq!(config.repo.as_deref(), Some("/etc/copies"));
        assert_eq!(config.spill_dir.as_deref(), Some(Path::new("/tmp")));
        assert_eq!(config.source["a"].url, "sqlite:/etc/a.db");
    }

    #[test]
    fn an_error_names_file_line_and_alternatives_but_no_password() {
        let error = parsed("\nrepoo = 'x'").err().expect("an unknown key");
        assert!(
            error.starts_with("/etc/sidekeep.toml, line 2: unknown field `repoo`, expected one of `repo`"),
            "{error}"
        );
        let error = parsed("[status]\nmax_age = 'soon'").err().expect("not a duration");
        assert!(error.contains("line 2") && error.contains("26 hours"), "{error}");
        for text in [
            "source = 'postgres://a:hunter2@db/x'",
            "[source.a]\nurl = ['postgres://a:hunter2@db/x']",
            "[source.a]\nurll = 'postgres://a:hunter2@db/x'",
            "[source.a]\nurl = 'postgres://a:hunter2@db/x",
        ] {
            let error = parsed(text).err().expect("wrong");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(parsed("[source.'a b']\nurl = 'x'").is_err_and(|error| error.contains("a b")));
    }
}
