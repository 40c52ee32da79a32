//! The source of a backup: a database that the user names by its address or by its name in the configuration.

use std::collections::BTreeMap;
use std::path::Path;

use super::address::{AddressError, ServerAddress, SourceAddress};
use super::config::{Config, LayoutConfig, SourceConfig};
use super::context::CommandContext;
use super::error::CliError;
use crate::base::cancel::Cancel;
use crate::base::env::SharedEnv;
use crate::base::id::SourceId;
use crate::engine::contract::Source;
use crate::engine::postgres::backup::read_options::ReadOptions;
use crate::engine::postgres::backup::source::PostgresSource;
use crate::engine::postgres::connect::host_environment::HostEnvironment;
use crate::engine::postgres::connect::login::connect;
use crate::engine::sqlite::SqliteSource;
use crate::format::manifest::Layout;
use crate::ops::placement::update::PlacementConfig;

/// Options for opening a live database.
pub(crate) struct SourceOptions<'a> {
    /// Directory for temporary copies of the database.
    pub(crate) spill_dir: &'a Path,
    pub(crate) read: ReadOptions,
    pub(crate) cancel: Cancel,
}

/// A source of a backup.
pub(crate) struct ConfiguredSource<'a> {
    /// Its name in the configuration, if it is there.
    pub(crate) name: Option<&'a str>,
    pub(crate) address: SourceAddress,
    /// Its section in the configuration, if it has one.
    pub(crate) config: Option<&'a SourceConfig>,
    /// Directory of the PostgreSQL client programs, if it is configured.
    pub(crate) pg_bin: Option<&'a Path>,
}

impl<'a> ConfiguredSource<'a> {
    /// The source `name` in the configuration.
    fn named(
        all: &'a Config,
        name: &'a str,
        config: &'a SourceConfig,
        host: &HostEnvironment,
    ) -> Result<Self, AddressError> {
        let address = SourceAddress::parse(&config.url, host)?;
        let pg_bin = config.pg_bin.as_deref().or(all.pg_bin.as_deref());
        Ok(Self { name: Some(name), address, config: Some(config), pg_bin })
    }

    /// The source at `address`. If the configuration has the same address, the source gets the name from there.
    fn at(all: &'a Config, address: SourceAddress, host: &HostEnvironment) -> Self {
        for (name, config) in &all.source {
            if let Ok(configured) = Self::named(all, name, config, host)
                && configured.address == address
            {
                return Self { address, ..configured };
            }
        }
        Self { name: None, address, config: None, pg_bin: all.pg_bin.as_deref() }
    }

    /// The name of the source in the repository.
    pub(crate) fn label(&self) -> String {
        self.name.map_or_else(|| self.plain_address(), str::to_owned)
    }

    /// The id or the name by which the repository finds the source.
    pub(crate) fn wanted(&self) -> String {
        self.pinned().map_or_else(|| self.label(), |id| id.to_string())
    }

    /// The id that the configuration gives it.
    pub(crate) fn pinned(&self) -> Option<SourceId> {
        self.config.and_then(|config| config.id)
    }

    /// The address with all defaults filled in, without user, password and parameters.
    pub(crate) fn plain_address(&self) -> String {
        self.address.clone().absolute().to_string()
    }

    /// Opens the database for reading. Connects once, so that a server that refuses the connection is reported now.
    /// Fails if the file is not a database, or the server cannot be reached or refuses us.
    pub(crate) fn open(
        &self,
        context: &CommandContext,
        options: SourceOptions<'_>,
    ) -> Result<Box<dyn Source>, CliError> {
        match &self.address {
            SourceAddress::Sqlite(path) => open_sqlite(path, context, &options),
            SourceAddress::Postgres(server) => self.open_postgres(server, context, options),
        }
    }

    fn open_postgres(
        &self,
        server: &ServerAddress,
        context: &CommandContext,
        options: SourceOptions<'_>,
    ) -> Result<Box<dyn Source>, CliError> {
        let address = server.address(context.host_environment())?.with_cancel(options.cancel);
        drop(connect(&address)?);
        let source = PostgresSource::new(address, context.search(self.pg_bin));
        Ok(Box::new(source.with_options(options.read)))
    }

    /// The configured placement of its rows.
    pub(crate) fn placement(&self) -> PlacementConfig {
        self.config.map(placement_config).unwrap_or_default()
    }
}

fn open_sqlite(
    path: &Path,
    context: &CommandContext,
    options: &SourceOptions<'_>,
) -> Result<Box<dyn Source>, CliError> {
    let env = SharedEnv::clone(&context.env);
    let source = SqliteSource::open(path, options.spill_dir.to_owned(), env)?;
    Ok(Box::new(source))
}

fn placement_config(config: &SourceConfig) -> PlacementConfig {
    let mut layouts = BTreeMap::new();
    for (table, layout) in &config.layout {
        layouts.insert(table.clone(), Layout::from(*layout));
    }
    PlacementConfig { owner_tables: config.owner_table.iter().cloned().collect(), layouts }
}

impl From<LayoutConfig> for Layout {
    fn from(layout: LayoutConfig) -> Self {
        match layout {
            LayoutConfig::Owner => Self::Owner,
            LayoutConfig::Key => Self::Key,
        }
    }
}

/// The source that `text` names, by its name in the configuration or by its address. Without `text`, the only
/// configured source.
/// Fails if the configuration has no such source and the text cannot be parsed as an address, or if no source is named
/// and the configuration does not have exactly one.
pub(crate) fn choose<'a>(
    config: &'a Config,
    text: Option<&'a str>,
    host: &HostEnvironment,
) -> Result<ConfiguredSource<'a>, AddressError> {
    let Some(text) = text else {
        return only_source(config, host);
    };
    if let Some((name, source)) = config.source.get_key_value(text) {
        return ConfiguredSource::named(config, name, source, host);
    }
    if !text.contains([':', '=']) {
        return Err(AddressError::UnknownName(text.to_owned(), names(config)));
    }
    Ok(ConfiguredSource::at(config, SourceAddress::parse(text, host)?, host))
}

/// The source, if the configuration has exactly one.
fn only_source<'a>(config: &'a Config, host: &HostEnvironment) -> Result<ConfiguredSource<'a>, AddressError> {
    let mut sources = config.source.iter();
    match (sources.next(), sources.next()) {
        (Some((name, source)), None) => ConfiguredSource::named(config, name, source, host),
        _ => Err(AddressError::Unnamed(names(config))),
    }
}

fn names(config: &Config) -> String {
    let names: Vec<&str> = config.source.keys().map(String::as_str).collect();
    match names[..] {
        [] => "no source".to_owned(),
        [one] => format!("the source {one}"),
        _ => format!("the sources {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::choose;
    use crate::cli::address::SourceAddress;
    use crate::cli::config::parse;
    use crate::engine::postgres::connect::host_environment::HostEnvironment;

    fn empty_environment() -> HostEnvironment {
        HostEnvironment::new([])
    }

    #[test]
    fn a_source_is_found_by_name_or_address() {
        let config = |text: &str| parse(text, Path::new("/etc/sidekeep.toml")).expect("parses");
        let one = config("[source.main]\nurl = 'sqlite:/a.db'\nowner_table = 'people'");
        for text in [None, Some("main"), Some("sqlite:///a.db")] {
            let source = choose(&one, text, &empty_environment()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(source.address, SourceAddress::Sqlite("/a.db".into()));
            assert_eq!(source.config.and_then(|config| config.owner_table.as_deref()), Some("people"));
            assert_eq!(source.label(), "main");
        }
        let error = choose(&one, Some("other"), &empty_environment()).err().expect("unknown").to_string();
        assert!(error.contains("the source main"), "{error}");
        let two = config("[source.a]\nurl = 'sqlite:a'\n[source.b]\nurl = 'sqlite:b'");
        assert!(choose(&two, None, &empty_environment()).err().is_some_and(|error| error.to_string().contains("a, b")));
        assert!(
            choose(&config(""), None, &empty_environment())
                .err()
                .is_some_and(|error| error.to_string().contains("no source"))
        );
    }

    #[test]
    fn sources_on_several_hosts_can_be_in_one_file() {
        let text = "pg_bin = 'bin'\n[source.a]\nurl = 'postgres://o@one/sync'\n\
            [source.b]\nurl = 'postgres://o@two/sync'\npg_bin = '/opt/pg/bin'";
        let config = parse(text, Path::new("/etc/sidekeep.toml")).expect("parses");
        let bin = |text| choose(&config, Some(text), &empty_environment()).expect(text).pg_bin.map(Path::to_owned);
        assert_eq!(bin("a"), Some(PathBuf::from("/etc/bin")));
        assert_eq!(bin("b"), Some(PathBuf::from("/opt/pg/bin")));
        assert_eq!(bin("postgres://somebody@two:5432/sync"), Some(PathBuf::from("/opt/pg/bin")));
        let label = |text| choose(&config, Some(text), &empty_environment()).expect(text).label();
        assert_eq!((label("b"), label("postgres://o@three/x")), ("b".to_owned(), "postgres://three:5432/x".to_owned()));
    }
}
