//! What a person may name as the target of a restore: an empty PostgreSQL database, an SQLite file that is not there yet,
//! or a directory for one file per table.

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

/// File names that are taken for a database.
const DATABASE_ENDINGS: [&str; 4] = ["sqlite", "sqlite3", "db", "db3"];

/// How files of rows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum FileFormat {
    /// Comma-separated values
    Csv,
    /// A JSON object per line
    Jsonl,
}

/// Where to restore to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RestoreTarget {
    Sqlite(PathBuf),
    Files(PathBuf, FileFormat),
    Postgres(ServerAddress),
}

impl RestoreTarget {
    /// The target that `text` means; files of rows need a format.
    pub(crate) fn parse(text: &str, format: Option<FileFormat>, host: &HostEnvironment) -> Result<Self, CliError> {
        let is_address = text.starts_with("sqlite:") || text.contains("://");
        match format {
            Some(_) if is_address => Err(format_of_no_directory()),
            Some(format) => Ok(Self::Files(text.into(), format)),
            None if is_address => Ok(SourceAddress::parse(text, host)?.into()),
            None if ends_as_database(text) => Ok(Self::Sqlite(text.into())),
            None => Err(unclear_target(text)),
        }
    }

    /// Makes the target; there must be nothing yet. `options` are for PostgreSQL.
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

/// Whether the name of a file is that of a database.
fn format_of_no_directory() -> CliError {
    CliError::usage("--format is for a directory of files", "name a directory, or leave --format out")
}

fn unclear_target(text: &str) -> CliError {
    CliError::usage(
        format!("it is not said what {text:?} is to become"),
        "write postgres://role@host/database, end its name in .sqlite, or say --format csv or jsonl for a directory",
    )
}

fn ends_as_database(name: &str) -> bool {
    let ending = Path::new(name).extension();
    ending.is_some_and(|ending| DATABASE_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

impl std::fmt::Display for RestoreTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) | Self::Files(path, _) => path.display().fmt(f),
            Self::Postgres(server) => server.fmt(f),
        }
    }
}

/// A target that is being made.
pub(crate) enum NewTarget {
    Sqlite(Box<SqliteTarget>),
    Csv(CsvTarget),
    Jsonl(JsonLinesTarget),
    Postgres(Box<PostgresTarget>),
}

impl NewTarget {
    pub(crate) fn as_target(&mut self) -> &mut dyn Target {
        match self {
            Self::Sqlite(target) => &mut **target,
            Self::Csv(target) => target,
            Self::Jsonl(target) => target,
            Self::Postgres(target) => &mut **target,
        }
    }

    /// What is worth saying of the finished target and is no failure.
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
    fn places_are_told_apart_by_name_and_format() {
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
    fn databases_of_servers_are_places() {
        let place =
            RestoreTarget::parse("postgres://me:hunter2@db/x", None, &HostEnvironment::new([])).expect("a place");
        assert!(matches!(place, RestoreTarget::Postgres(_)));
        assert_eq!(place.to_string(), "postgres://db:5432/x");
    }
}
