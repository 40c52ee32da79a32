//! The address of a database as a user writes it. It may contain a password, which is never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use url::Url;
use zeroize::Zeroizing;

use super::redact;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::connection_url::without_password;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::host_environment::HostEnvironment;

/// Prefixes of the address of a PostgreSQL database.
const SERVER_PREFIXES: [&str; 3] = ["postgres://", "postgresql://", "service="];

/// The text does not name a database.
#[derive(Debug, Error)]
pub(crate) enum AddressError {
    #[error("{0:?} is neither an address nor a source in the configuration, which has {1}")]
    UnknownName(String, String),
    #[error("the address {0} is not supported; use postgres://role@host/database, service=name or sqlite:///path")]
    Unsupported(String),
    #[error("the address {0} must name a file on this machine, such as sqlite:///srv/sync.db")]
    NotAFile(String),
    #[error("{address}")]
    Postgres { address: String, source: PostgresError },
    #[error("no source is named, and the configuration has {0}")]
    Unnamed(String),
}

/// The location of a database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SourceAddress {
    Sqlite(PathBuf),
    Postgres(ServerAddress),
}

/// A database on a PostgreSQL server, as the user named it.
#[derive(Clone)]
pub(crate) struct ServerAddress {
    text: Zeroizing<String>,
    /// The address with all defaults filled in, without role, password and parameters.
    plain: String,
}

impl ServerAddress {
    fn parse(text: &str, host: &HostEnvironment) -> Result<Self, AddressError> {
        let mut server = Self { text: Zeroizing::new(text.to_owned()), plain: String::new() };
        server.plain = server.address(host)?.url();
        Ok(server)
    }

    /// How to connect.
    /// Fails as [`Address::parse`] does, for example because a service file has changed.
    pub(crate) fn address(&self, host: &HostEnvironment) -> Result<Address, AddressError> {
        Address::parse(&self.text, host)
            .map_err(|source| AddressError::Postgres { address: redact::address(&self.text), source })
    }
}

/// Two addresses are equal if they name the same database, whatever the role and parameters.
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
    /// Size of the database in bytes, if it is known without opening the database.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Sqlite(path) => path.metadata().ok().map(|metadata| metadata.len()),
            Self::Postgres(_) => None,
        }
    }

    /// Whether it is a file that does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Sqlite(path) => !path.exists(),
            Self::Postgres(_) => false,
        }
    }

    /// The same address, independent of the current directory.
    pub(crate) fn absolute(self) -> Self {
        match self {
            Self::Sqlite(path) => Self::Sqlite(std::path::absolute(&path).unwrap_or(path)),
            server @ Self::Postgres(_) => server,
        }
    }

    /// A form that [`SourceAddress::parse`] reads. Without the password, which must not be in a configuration file.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(_) => self.to_string(),
            Self::Postgres(server) => without_password(&server.text),
        }
    }

    /// Parses `postgres://…`, `postgresql://…`, `service=name`, `sqlite:///path` and `sqlite:path`.
    /// Fails if the text has none of these forms, names a host for a file, or is not a usable address of a server.
    pub(crate) fn parse(text: &str, host: &HostEnvironment) -> Result<Self, AddressError> {
        if SERVER_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            return ServerAddress::parse(text, host).map(Self::Postgres);
        }
        match text.strip_prefix("sqlite:") {
            Some(file) => Self::of_file(file).ok_or_else(|| AddressError::NotAFile(redact::address(text))),
            None => Err(AddressError::Unsupported(redact::address(text))),
        }
    }

    fn of_file(text: &str) -> Option<Self> {
        sqlite_path(text).map(Self::Sqlite)
    }
}

/// The path in the text after `sqlite:`, if it can be a file.
fn sqlite_path(text: &str) -> Option<PathBuf> {
    let path = match text.strip_prefix("//") {
        Some(rest) => url_path(rest)?,
        None => PathBuf::from(text),
    };
    may_be_file(&path).then_some(path)
}

fn may_be_file(path: &Path) -> bool {
    !path.as_os_str().is_empty() && path.as_os_str() != "/"
}

/// The path of a URL without its scheme. A file has no host, so the text must start with the path.
fn url_path(rest: &str) -> Option<PathBuf> {
    if !rest.starts_with('/') {
        return None;
    }
    let url = Url::parse(&format!("file://{rest}")).ok()?;
    if url.query().is_some() || url.fragment().is_some() {
        return None;
    }
    url.to_file_path().ok()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::SourceAddress;
    use crate::base::causes;
    use crate::engine::postgres::connect::host_environment::HostEnvironment;

    fn empty_environment() -> HostEnvironment {
        HostEnvironment::new([])
    }

    #[test]
    fn file_addresses_are_parsed() {
        for (text, path) in
            [("sqlite:///srv/a%20b.db", "/srv/a b.db"), ("sqlite:a.db", "a.db"), ("sqlite:/srv/a.db", "/srv/a.db")]
        {
            let address = SourceAddress::parse(text, &empty_environment()).ok();
            assert_eq!(address, Some(SourceAddress::Sqlite(PathBuf::from(path))), "{text}");
        }
        for text in ["sqlite://srv/a.db", "sqlite:", "sqlite:///", "sqlite:///a?mode=rw", "srv/a.db"] {
            assert!(SourceAddress::parse(text, &empty_environment()).is_err(), "{text}");
        }
    }

    #[test]
    fn server_addresses_are_parsed_and_never_show_their_password() {
        let host = HostEnvironment::new([("PGUSER".to_owned(), "bo".to_owned())]);
        let address = SourceAddress::parse("postgres://ana:hunter2@db/x?sslmode=require", &host).expect("an address");
        assert_eq!(address.to_string(), "postgres://db:5432/x");
        assert_eq!(address.url(), "postgres://ana@db/x?sslmode=require");
        assert!(!format!("{address:?}").contains("hunter2"));
        assert_eq!(SourceAddress::parse("postgresql://db:5432/x", &host).ok(), Some(address));
        for text in ["postgres://ana:hunter2@db:0/x", "mysql://ana:hunter2@db/x", "service=hunter3"] {
            let error = causes::describe(&SourceAddress::parse(text, &host).expect_err(text));
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
