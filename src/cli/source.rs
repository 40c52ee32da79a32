//! What a person may name as the database to back up or to restore to: an address, or a name of the configuration.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::config::{Config, LayoutConfig, SourceConfig};
use super::redact;
use crate::base::env::SharedEnv;
use crate::format::manifest::Layout;
use crate::source::catalog::PlacementConfig;
use crate::source::contract::{Source as LiveSource, SourceError};
use crate::source::sqlite::SqliteSource;

/// A text that names no database.
#[derive(Debug, Error)]
pub(crate) enum AddressError {
    #[error("{0:?} is neither an address nor a source of the configuration; it has {1}")]
    UnknownName(String, String),
    #[error("the address {0} is none of sqlite:///path")]
    Unsupported(String),
    #[error("the address {0} must be of a file on this machine, as in sqlite:///srv/sync.db")]
    NotAFile(String),
    #[error("which source is not said; the configuration has {0}")]
    Unnamed(String),
}

/// Where a database lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    Sqlite(PathBuf),
}

impl Address {
    /// Opens the database to be read. Copies that have to be made of it go to `spill_dir`.
    pub(crate) fn open(&self, spill_dir: &Path, env: &SharedEnv) -> Result<Box<dyn LiveSource>, SourceError> {
        let Self::Sqlite(path) = self;
        Ok(Box::new(SqliteSource::open(path, spill_dir.to_owned(), SharedEnv::clone(env))?))
    }
}

impl Address {
    /// Bytes of the database, as far as that can be told without opening it.
    pub(crate) fn size(&self) -> Option<u64> {
        let Self::Sqlite(path) = self;
        path.metadata().ok().map(|metadata| metadata.len())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url())
    }
}

impl Address {
    /// The same from whatever directory it is looked at.
    pub(crate) fn absolute(self) -> Self {
        let Self::Sqlite(path) = self;
        Self::Sqlite(std::path::absolute(&path).unwrap_or(path))
    }

    /// Written so that [`Address::parse`] reads it.
    pub(crate) fn url(&self) -> String {
        let Self::Sqlite(path) = self;
        format!("sqlite:{}", path.display())
    }

    /// Reads `sqlite:///path` and `sqlite:path`.
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        let file = text.strip_prefix("sqlite:").ok_or_else(|| AddressError::Unsupported(redact::address(text)))?;
        let path = match file.strip_prefix("//") {
            // An address that is written as an URL has the host in front, and may have escapes.
            Some(rest) if !rest.starts_with('/') => return Err(AddressError::NotAFile(redact::address(text))),
            Some(path) => url::Url::parse(&format!("file://{path}"))
                .ok()
                .filter(|url| url.query().is_none() && url.fragment().is_none())
                .and_then(|url| url.to_file_path().ok())
                .ok_or_else(|| AddressError::NotAFile(redact::address(text)))?,
            None => PathBuf::from(file),
        };
        if path.as_os_str().is_empty() || path.as_os_str() == "/" {
            return Err(AddressError::NotAFile(redact::address(text)));
        }
        Ok(Self::Sqlite(path))
    }
}

/// A source of a backup.
pub(crate) struct Source<'a> {
    /// Its name in the configuration.
    pub(crate) name: Option<&'a str>,
    pub(crate) address: Address,
    /// What the configuration says of it.
    pub(crate) config: Option<&'a SourceConfig>,
}

impl Source<'_> {
    /// What the repository calls it.
    pub(crate) fn label(&self) -> String {
        self.name.map_or_else(|| self.address.clone().absolute().to_string(), str::to_owned)
    }

    /// How its rows are to be placed.
    pub(crate) fn placement(&self) -> PlacementConfig {
        let Some(config) = self.config else { return PlacementConfig::default() };
        let layout = |layout: &LayoutConfig| match layout {
            LayoutConfig::Owner => Layout::Owner,
            LayoutConfig::Key => Layout::Key,
        };
        PlacementConfig {
            owner_table: config.owner_table.clone(),
            layouts: config.layout.iter().map(|(table, own)| (table.clone(), layout(own))).collect(),
        }
    }
}

/// The source that `text` names: a name of the configuration or an address; without a text the only one configured.
pub(crate) fn choose<'a>(config: &'a Config, text: Option<&'a str>) -> Result<Source<'a>, AddressError> {
    let (name, source) = match text {
        Some(text) => match config.source.get_key_value(text) {
            Some(found) => found,
            None if text.contains(':') => {
                let address = Address::parse(text)?;
                let same = |source: &&SourceConfig| Address::parse(&source.url).is_ok_and(|other| other == address);
                let configured = config.source.values().find(same);
                return Ok(Source { name: None, address, config: configured });
            }
            None => return Err(AddressError::UnknownName(text.to_owned(), names(config))),
        },
        None => match config.source.iter().collect::<Vec<_>>()[..] {
            [only] => only,
            _ => return Err(AddressError::Unnamed(names(config))),
        },
    };
    Ok(Source { name: Some(name), address: Address::parse(&source.url)?, config: Some(source) })
}

fn names(config: &Config) -> String {
    match config.source.keys().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => "no source".to_owned(),
        [one] => format!("the source {one}"),
        ref many => format!("the sources {}", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Address, choose};
    use crate::cli::config::parse;

    #[test]
    fn addresses_of_files_are_read() {
        for (text, path) in
            [("sqlite:///srv/a%20b.db", "/srv/a b.db"), ("sqlite:a.db", "a.db"), ("sqlite:/srv/a.db", "/srv/a.db")]
        {
            assert_eq!(Address::parse(text).ok(), Some(Address::Sqlite(PathBuf::from(path))), "{text}");
        }
        for text in ["sqlite://srv/a.db", "sqlite:", "sqlite:///", "sqlite:///a?mode=rw", "srv/a.db"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
        let error = Address::parse("postgres://ana:hunter2@db/x").expect_err("not a file");
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn names_come_from_the_configuration() {
        let config = |text: &str| parse(text, Path::new("/etc/sidekeep.toml")).expect("parses");
        let one = config("[source.main]\nurl = 'sqlite:/a.db'\nowner_table = 'people'");
        for text in [None, Some("main"), Some("sqlite:///a.db")] {
            let source = choose(&one, text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(source.address, Address::Sqlite("/a.db".into()));
            assert_eq!(source.config.and_then(|config| config.owner_table.as_deref()), Some("people"));
        }
        let error = choose(&one, Some("other")).err().expect("unknown").to_string();
        assert!(error.contains("the source main"), "{error}");
        let two = config("[source.a]\nurl = 'sqlite:a'\n[source.b]\nurl = 'sqlite:b'");
        assert!(choose(&two, None).err().is_some_and(|error| error.to_string().contains("a, b")));
        assert!(choose(&config(""), None).err().is_some_and(|error| error.to_string().contains("no source")));
    }
}
