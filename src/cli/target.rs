//! The target of a restore: an empty PostgreSQL database, a new SQLite file, or a new directory with one file per table.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::address::{ServerAddress, SourceAddress};
use super::context::CommandContext;
use super::error::CliError;
use crate::base::cancel::Cancel;
use crate::engine::contract::Target;
use crate::engine::files::{CsvTarget, JsonLinesTarget};
use crate::engine::postgres::connect::host_environment::HostEnvironment;
use crate::engine::postgres::restore::{PostgresTarget, TargetOptions};
use crate::engine::sqlite::SqliteTarget;

/// Extensions of file names that mean an SQLite database.
const DATABASE_EXTENSIONS: [&str; 4] = ["sqlite", "sqlite3", "db", "db3"];

/// Format of files with rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum FileFormat {
    /// Comma-separated values
    Csv,
    /// One JSON object per line
    Jsonl,
}

/// A target as the user named it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RestoreTarget {
    Sqlite(PathBuf),
    Files(PathBuf, FileFormat),
    Postgres(ServerAddress),
}

impl RestoreTarget {
    /// Parses a target. A directory of files needs a format.
    /// Fails if the kind of target is unclear, an address has a format, or the address cannot be parsed.
    pub(crate) fn parse(text: &str, format: Option<FileFormat>, host: &HostEnvironment) -> Result<Self, CliError> {
        let is_address = text.starts_with("sqlite:") || text.contains("://");
        match format {
            Some(_) if is_address => Err(format_without_directory()),
            Some(format) => Ok(Self::Files(text.into(), format)),
            None if is_address => Ok(SourceAddress::parse(text, host)?.into()),
            None if has_database_extension(text) => Ok(Self::Sqlite(text.into())),
            None => Err(unclear_target(text)),
        }
    }

    /// Creates the target, which must not contain anything yet. `options` are for PostgreSQL, which is not connected to
    /// yet.
    /// Fails if the path has content or cannot be read, or the address cannot be parsed.
    pub(crate) fn create(
        &self,
        context: &CommandContext,
        options: TargetOptions,
        cancel: Cancel,
    ) -> Result<NewTarget, CliError> {
        let env = &context.env;
        match self {
            Self::Sqlite(path) => Ok(NewTarget::Sqlite(Box::new(SqliteTarget::create(path, env)?))),
            Self::Files(path, FileFormat::Csv) => Ok(NewTarget::Csv(CsvTarget::create(path, env)?)),
            Self::Files(path, FileFormat::Jsonl) => Ok(NewTarget::Jsonl(JsonLinesTarget::create(path, env)?)),
            Self::Postgres(server) => {
                let address = server.address(context.host_environment())?.with_cancel(cancel);
                Ok(NewTarget::Postgres(Box::new(PostgresTarget::new(address, options))))
            }
        }
    }
}

impl From<SourceAddress> for RestoreTarget {
    fn from(address: SourceAddress) -> Self {
        match address {
            SourceAddress::Sqlite(path) => Self::Sqlite(path),
            SourceAddress::Postgres(server) => Self::Postgres(server),
        }
    }
}

fn format_without_directory() -> CliError {
    CliError::usage("--format needs a directory as the target", "name a directory, or leave out --format")
}

fn unclear_target(text: &str) -> CliError {
    CliError::usage(
        format!("it is not clear what kind of target {text:?} is"),
        "use postgres://role@host/database, a file name that ends in .sqlite, or --format csv or jsonl for a directory",
    )
}

/// Whether `name` has the extension of an SQLite database.
fn has_database_extension(name: &str) -> bool {
    let ending = Path::new(name).extension();
    ending.is_some_and(|ending| DATABASE_EXTENSIONS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

impl std::fmt::Display for RestoreTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) | Self::Files(path, _) => path.display().fmt(f),
            Self::Postgres(server) => server.fmt(f),
        }
    }
}

/// A target that is being written.
pub(crate) enum NewTarget {
    Sqlite(Box<SqliteTarget>),
    Csv(CsvTarget),
    Jsonl(JsonLinesTarget),
    Postgres(Box<PostgresTarget>),
}

impl NewTarget {
    /// The target.
    pub(crate) fn as_target(&mut self) -> &mut dyn Target {
        match self {
            Self::Sqlite(target) => &mut **target,
            Self::Csv(target) => target,
            Self::Jsonl(target) => target,
            Self::Postgres(target) => &mut **target,
        }
    }

    /// Notes about the finished target that are not failures.
    pub(crate) fn notes(&self) -> &[String] {
        match self {
            Self::Sqlite(target) => target.notes(),
            Self::Postgres(target) => target.notes(),
            Self::Csv(_) | Self::Jsonl(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FileFormat, RestoreTarget};
    use crate::engine::postgres::connect::host_environment::HostEnvironment;

    #[test]
    fn the_kind_of_target_follows_from_name_and_format() {
        for (text, format, expected) in [
            ("out.sqlite", None, Some(RestoreTarget::Sqlite("out.sqlite".into()))),
            ("a/OUT.DB", None, Some(RestoreTarget::Sqlite("a/OUT.DB".into()))),
            ("sqlite:out", None, Some(RestoreTarget::Sqlite("out".into()))),
            ("sqlite:///srv/out", None, Some(RestoreTarget::Sqlite("/srv/out".into()))),
            ("out", Some(FileFormat::Csv), Some(RestoreTarget::Files("out".into(), FileFormat::Csv))),
            ("out.db", Some(FileFormat::Jsonl), Some(RestoreTarget::Files("out.db".into(), FileFormat::Jsonl))),
            ("out", None, None),
            ("sqlite:out", Some(FileFormat::Csv), None),
            ("postgres://me@db/x", Some(FileFormat::Csv), None),
            ("mysql://me@db/x", None, None),
        ] {
            assert_eq!(RestoreTarget::parse(text, format, &HostEnvironment::new([])).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_postgresql_address_is_a_target() {
        let place =
            RestoreTarget::parse("postgres://me:hunter2@db/x", None, &HostEnvironment::new([])).expect("a target");
        assert!(matches!(place, RestoreTarget::Postgres(_)));
        assert_eq!(place.to_string(), "postgres://db:5432/x");
    }
}
