//! What a person may name as the database to back up or to restore to: an address, or a name of the configuration.
//!
//! Addresses may hold a password: nothing here shows one.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use super::config::{Config, LayoutConfig, SourceConfig};
use super::context::CommandContext;
use super::exit::CliError;
use super::redact;
use crate::base::cancel::Cancel;
use crate::base::env::SharedEnv;
use crate::engine::contract::Source;
use crate::engine::postgres::backup::read_options::ReadOptions;
use crate::engine::postgres::backup::source::PostgresSource;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::connection_url::without_password;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::host_environment::HostEnvironment;
use crate::engine::postgres::connect::login::connect;
use crate::engine::sqlite::SqliteSource;
use crate::format::manifest::Layout;
use crate::ops::placement::update::PlacementConfig;

/// A text that names no database.
#[derive(Debug, Error)]
pub(crate) enum AddressError {
    #[error("{0:?} is neither an address nor a source of the configuration; it has {1}")]
    UnknownName(String, String),
    #[error("the address {0} is none of postgres://role@host/database, service=name and sqlite:///path")]
    Unsupported(String),
    #[error("the address {0} must be of a file on this machine, as in sqlite:///srv/sync.db")]
    NotAFile(String),
    #[error("{address}")]
    Postgres { address: String, source: PostgresError },
    #[error("which source is not said; the configuration has {0}")]
    Unnamed(String),
}

/// Where a database lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SourceAddress {
    Sqlite(PathBuf),
    Postgres(ServerAddress),
}

/// A database of a PostgreSQL server, as it was named.
#[derive(Clone)]
pub(crate) struct ServerAddress {
    text: Zeroizing<String>,
    /// What it comes to with everything that completes it, without role, password and parameters.
    plain: String,
}

impl ServerAddress {
    /// The way to it.
    pub(crate) fn address(&self, around: &HostEnvironment) -> Result<Address, AddressError> {
        Address::parse(&self.text, around)
            .map_err(|source| AddressError::Postgres { address: redact::address(&self.text), source })
    }
}

/// By whatever role and in whatever way it is reached, it is the same.
impl PartialEq for ServerAddress {
    fn eq(&self, other: &Self) -> bool {
        self.plain == other.plain
    }
}

impl Eq for ServerAddress {}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.plain)
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plain)
    }
}

impl fmt::Display for SourceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(server) => server.fmt(f),
        }
    }
}

impl SourceAddress {
    /// Bytes of the database, as far as that can be told without opening it.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Sqlite(path) => path.metadata().ok().map(|metadata| metadata.len()),
            Self::Postgres(_) => None,
        }
    }

    /// The same from whatever directory it is looked at.
    pub(crate) fn absolute(self) -> Self {
        match self {
            Self::Sqlite(path) => Self::Sqlite(std::path::absolute(&path).unwrap_or(path)),
            server @ Self::Postgres(_) => server,
        }
    }

    /// Written so that [`SourceAddress::parse`] reads it, but without a password: that has no place in a configuration.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(_) => self.to_string(),
            Self::Postgres(server) => without_password(&server.text),
        }
    }

    /// Reads `postgres://…`, `postgresql://…`, `service=name`, `sqlite:///path` and `sqlite:path`.
    pub(crate) fn parse(text: &str, around: &HostEnvironment) -> Result<Self, AddressError> {
        if ["postgres://", "postgresql://", "service="].iter().any(|start| text.starts_with(start)) {
            let server = ServerAddress { text: Zeroizing::new(text.to_owned()), plain: String::new() };
            let plain = server.address(around)?.url();
            return Ok(Self::Postgres(ServerAddress { plain, ..server }));
        }
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

/// How a live database is opened.
pub(crate) struct SourceOptions<'a> {
    /// Where copies that have to be made of it go.
    pub(crate) spill_dir: &'a Path,
    pub(crate) read: ReadOptions,
    pub(crate) cancel: Cancel,
}

/// A source of a backup.
pub(crate) struct ConfiguredSource<'a> {
    /// Its name in the configuration.
    pub(crate) name: Option<&'a str>,
    pub(crate) address: SourceAddress,
    /// What the configuration says of it.
    pub(crate) config: Option<&'a SourceConfig>,
    /// Where the programs of PostgreSQL are, if the configuration says that.
    pub(crate) pg_bin: Option<&'a Path>,
}

impl ConfiguredSource<'_> {
    /// What the repository calls it.
    pub(crate) fn label(&self) -> String {
        self.name.map_or_else(|| self.address.clone().absolute().to_string(), str::to_owned)
    }

    /// Opens the database to be read; a server that does not let us in is found out at once.
    pub(crate) fn open(&self, context: &CommandContext, how: SourceOptions<'_>) -> Result<Box<dyn Source>, CliError> {
        match &self.address {
            SourceAddress::Sqlite(path) => {
                let env = SharedEnv::clone(&context.env);
                Ok(Box::new(SqliteSource::open(path, how.spill_dir.to_owned(), env)?))
            }
            SourceAddress::Postgres(server) => {
                let address = server.address(context.host_environment())?.with_cancel(how.cancel);
                drop(connect(&address)?);
                let source = PostgresSource::new(address, context.search(self.pg_bin));
                Ok(Box::new(source.with_options(how.read)))
            }
        }
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
pub(crate) fn choose<'a>(
    config: &'a Config,
    text: Option<&'a str>,
    around: &HostEnvironment,
) -> Result<ConfiguredSource<'a>, AddressError> {
    let made = |name, address, config: Option<&'a SourceConfig>, all: &'a Config| {
        let own = config.and_then(|config| config.pg_bin.as_deref());
        ConfiguredSource { name, address, config, pg_bin: own.or(all.pg_bin.as_deref()) }
    };
    let (name, source) = match text {
        Some(text) => match config.source.get_key_value(text) {
            Some(found) => found,
            None if text.contains([':', '=']) => {
                let address = SourceAddress::parse(text, around)?;
                let same = |of: &(&String, &SourceConfig)| {
                    SourceAddress::parse(&of.1.url, around).is_ok_and(|it| it == address)
                };
                // By its name it is known to the repository.
                let (name, configured) = config.source.iter().find(same).unzip();
                return Ok(made(name.map(String::as_str), address, configured, config));
            }
            None => return Err(AddressError::UnknownName(text.to_owned(), names(config))),
        },
        None => match config.source.iter().collect::<Vec<_>>()[..] {
            [only] => only,
            _ => return Err(AddressError::Unnamed(names(config))),
        },
    };
    Ok(made(Some(name), SourceAddress::parse(&source.url, around)?, Some(source), config))
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

    use super::{SourceAddress, choose};
    use crate::cli::config::parse;
    use crate::engine::postgres::connect::host_environment::HostEnvironment;

    fn nothing() -> HostEnvironment {
        HostEnvironment::new([])
    }

    #[test]
    fn addresses_of_files_are_read() {
        for (text, path) in
            [("sqlite:///srv/a%20b.db", "/srv/a b.db"), ("sqlite:a.db", "a.db"), ("sqlite:/srv/a.db", "/srv/a.db")]
        {
            let address = SourceAddress::parse(text, &nothing()).ok();
            assert_eq!(address, Some(SourceAddress::Sqlite(PathBuf::from(path))), "{text}");
        }
        for text in ["sqlite://srv/a.db", "sqlite:", "sqlite:///", "sqlite:///a?mode=rw", "srv/a.db"] {
            assert!(SourceAddress::parse(text, &nothing()).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_of_servers_are_read_and_keep_their_password_to_themselves() {
        let around = HostEnvironment::new([("PGUSER".to_owned(), "bo".to_owned())]);
        let address = SourceAddress::parse("postgres://ana:hunter2@db/x?sslmode=require", &around).expect("an address");
        assert_eq!(address.to_string(), "postgres://db:5432/x");
        assert_eq!(address.url(), "postgres://ana@db/x?sslmode=require");
        assert!(!format!("{address:?}").contains("hunter2"));
        assert_eq!(SourceAddress::parse("postgresql://db:5432/x", &around).ok(), Some(address));
        for text in ["postgres://ana:hunter2@db:0/x", "mysql://ana:hunter2@db/x", "service=hunter3"] {
            let error = crate::cli::exit::CliError::from(SourceAddress::parse(text, &around).expect_err(text)).chain();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn names_come_from_the_configuration() {
        let config = |text: &str| parse(text, Path::new("/etc/sidekeep.toml")).expect("parses");
        let one = config("[source.main]\nurl = 'sqlite:/a.db'\nowner_table = 'people'");
        for text in [None, Some("main"), Some("sqlite:///a.db")] {
            let source = choose(&one, text, &nothing()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(source.address, SourceAddress::Sqlite("/a.db".into()));
            assert_eq!(source.config.and_then(|config| config.owner_table.as_deref()), Some("people"));
            assert_eq!(source.label(), "main");
        }
        let error = choose(&one, Some("other"), &nothing()).err().expect("unknown").to_string();
        assert!(error.contains("the source main"), "{error}");
        let two = config("[source.a]\nurl = 'sqlite:a'\n[source.b]\nurl = 'sqlite:b'");
        assert!(choose(&two, None, &nothing()).err().is_some_and(|error| error.to_string().contains("a, b")));
        assert!(
            choose(&config(""), None, &nothing()).err().is_some_and(|error| error.to_string().contains("no source"))
        );
    }
    #[test]
    fn sources_of_several_hosts_stand_in_one_file() {
        let text = "pg_bin = 'bin'\n[source.a]\nurl = 'postgres://o@one/sync'\n\
            [source.b]\nurl = 'postgres://o@two/sync'\npg_bin = '/opt/pg/bin'";
        let config = parse(text, Path::new("/etc/sidekeep.toml")).expect("parses");
        let bin = |text| choose(&config, Some(text), &nothing()).expect(text).pg_bin.map(Path::to_owned);
        assert_eq!(bin("a"), Some(PathBuf::from("/etc/bin")));
        assert_eq!(bin("b"), Some(PathBuf::from("/opt/pg/bin")));
        assert_eq!(bin("postgres://somebody@two:5432/sync"), Some(PathBuf::from("/opt/pg/bin")));
        let label = |text| choose(&config, Some(text), &nothing()).expect(text).label();
        assert_eq!((label("b"), label("postgres://o@three/x")), ("b".to_owned(), "postgres://three:5432/x".to_owned()));
    }
}
