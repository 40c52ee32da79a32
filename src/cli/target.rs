//! What a person may name as the place to restore to: an empty PostgreSQL database, an SQLite file that is not there yet,
//! or a directory for one file per table.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::context::CommandContext;
use super::exit::CliError;
use super::source::{ServerAddress, SourceAddress};
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
pub(crate) enum TargetPlace {
    Sqlite(PathBuf),
    Files(PathBuf, FileFormat),
    Postgres(ServerAddress),
}

impl TargetPlace {
    /// The place that `text` means; files of rows need a format.
    pub(crate) fn parse(text: &str, format: Option<FileFormat>, around: &HostEnvironment) -> Result<Self, CliError> {
        let usage = |message: String, hint| Err(CliError::Usage { message, hint });
        let is_address = text.starts_with("sqlite:") || text.contains("://");
        let ends_as_database = Path::new(text)
            .extension()
            .is_some_and(|ending| DATABASE_ENDINGS.iter().any(|own| ending.eq_ignore_ascii_case(own)));
        match format {
            Some(_) if is_address => {
                usage("--format is for a directory of files".to_owned(), "name a directory, or leave --format out")
            }
            Some(format) => Ok(Self::Files(text.into(), format)),
            None if is_address => match SourceAddress::parse(text, around)? {
                SourceAddress::Sqlite(path) => Ok(Self::Sqlite(path)),
                SourceAddress::Postgres(server) => Ok(Self::Postgres(server)),
            },
            None if ends_as_database => Ok(Self::Sqlite(text.into())),
            None => usage(
                format!("it is not said what {text:?} is to become"),
                "write postgres://role@host/database, end its name in .sqlite, or say --format csv or jsonl for a directory",
            ),
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
        Ok(match self {
            Self::Sqlite(path) => NewTarget::Sqlite(Box::new(SqliteTarget::create(path, env)?)),
            Self::Files(path, FileFormat::Csv) => NewTarget::Csv(CsvTarget::create(path, env)?),
            Self::Files(path, FileFormat::Jsonl) => NewTarget::Jsonl(JsonLinesTarget::create(path, env)?),
            Self::Postgres(server) => {
                let address = server.address(context.host_environment())?.with_cancel(cancel);
                NewTarget::Postgres(Box::new(PostgresTarget::new(address, options)))
            }
        })
    }
}

impl std::fmt::Display for TargetPlace {
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
    use super::{FileFormat, TargetPlace};
    use crate::engine::postgres::connect::host_environment::HostEnvironment;

    #[test]
    fn places_are_told_apart_by_name_and_format() {
        for (text, format, expected) in [
            ("out.sqlite", None, Some(TargetPlace::Sqlite("out.sqlite".into()))),
            ("a/OUT.DB", None, Some(TargetPlace::Sqlite("a/OUT.DB".into()))),
            ("sqlite:out", None, Some(TargetPlace::Sqlite("out".into()))),
            ("sqlite:///srv/out", None, Some(TargetPlace::Sqlite("/srv/out".into()))),
            ("out", Some(FileFormat::Csv), Some(TargetPlace::Files("out".into(), FileFormat::Csv))),
            ("out.db", Some(FileFormat::Jsonl), Some(TargetPlace::Files("out.db".into(), FileFormat::Jsonl))),
            ("out", None, None),
            ("sqlite:out", Some(FileFormat::Csv), None),
            ("postgres://me@db/x", Some(FileFormat::Csv), None),
            ("mysql://me@db/x", None, None),
        ] {
            assert_eq!(TargetPlace::parse(text, format, &HostEnvironment::new([])).ok(), expected, "{text}");
        }
    }
    #[test]
    fn databases_of_servers_are_places() {
        let place = TargetPlace::parse("postgres://me:hunter2@db/x", None, &HostEnvironment::new([])).expect("a place");
        assert!(matches!(place, TargetPlace::Postgres(_)));
        assert_eq!(place.to_string(), "postgres://db:5432/x");
    }
}
