//! The environment variables that libpq reads, as of when the program started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The environment variables that concern PostgreSQL.
pub struct HostEnvironment {
    variables: BTreeMap<String, Zeroizing<String>>,
}

impl HostEnvironment {
    /// Keeps what concerns PostgreSQL of all the environment's variables.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut kept = BTreeMap::new();
        for (name, value) in variables {
            let value = Zeroizing::new(value);
            if concerns_postgres(&name) && !value.is_empty() {
                kept.insert(name, value);
            }
        }
        Self { variables: kept }
    }

    /// The value of an environment variable, if it is set.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.as_str())
    }

    /// The user's home directory, if it is known.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.get("HOME").map(Path::new)
    }

    /// The user's service file, then the system's.
    pub(crate) fn service_files(&self) -> Vec<PathBuf> {
        let system = self.get("PGSYSCONFDIR").unwrap_or("/etc/postgresql-common");
        let mut files: Vec<PathBuf> = self.user_service_file().into_iter().collect();
        files.push(Path::new(system).join("pg_service.conf"));
        files
    }

    fn user_service_file(&self) -> Option<PathBuf> {
        let named = self.get("PGSERVICEFILE").map(PathBuf::from);
        named.or_else(|| Some(self.home()?.join(".pg_service.conf")))
    }
}

fn concerns_postgres(name: &str) -> bool {
    name.starts_with("PG") || matches!(name, "HOME" | "USER" | "LOGNAME")
}
