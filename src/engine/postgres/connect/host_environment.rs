//! The environment variables that libpq reads, as they were when the program started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The environment variables of the program that concern PostgreSQL.
pub struct HostEnvironment {
    variables: BTreeMap<String, Zeroizing<String>>,
}

impl HostEnvironment {
    /// From all variables of the environment.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let concerns = |name: &str| name.starts_with("PG") || matches!(name, "HOME" | "USER" | "LOGNAME");
        let kept = variables.into_iter().map(|(name, value)| (name, Zeroizing::new(value)));
        Self { variables: kept.filter(|(name, value)| concerns(name) && !value.is_empty()).collect() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.as_str())
    }

    pub(crate) fn home(&self) -> Option<&Path> {
        self.get("HOME").map(Path::new)
    }

    pub(crate) fn service_files(&self) -> Vec<PathBuf> {
        let own = self.get("PGSERVICEFILE").map(PathBuf::from);
        let own = own.or_else(|| Some(self.home()?.join(".pg_service.conf")));
        let of_all = Path::new(self.get("PGSYSCONFDIR").unwrap_or("/etc/postgresql-common")).join("pg_service.conf");
        own.into_iter().chain([of_all]).collect()
    }
}
