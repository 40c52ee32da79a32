//! The environment of the process: its variables and the user's directories.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::engine::postgres::connect::host_environment::HostEnvironment;

/// The value of an environment variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The environment as libpq reads it. Variables that are not UTF-8 are left out.
pub(crate) fn host_environment() -> HostEnvironment {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) {
            variables.push((name, value));
        }
    }
    HostEnvironment::new(variables)
}

/// The absolute directories in `PATH`.
pub(crate) fn program_dirs() -> Vec<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect()
}

/// The user's configuration directory.
pub(crate) fn user_config_dir() -> Option<PathBuf> {
    user_dir("XDG_CONFIG_HOME", ".config")
}

/// The user's cache directory.
pub(crate) fn user_cache_dir() -> Option<PathBuf> {
    user_dir("XDG_CACHE_HOME", ".cache")
}

/// A user directory as in the XDG Base Directory Specification.
fn user_dir(name: &str, below_home: &str) -> Option<PathBuf> {
    let named = variable(name).map(PathBuf::from);
    if let Some(dir) = named.filter(|dir| dir.is_absolute()) {
        return Some(dir);
    }
    let home = PathBuf::from(variable("HOME")?);
    Some(home.join(below_home))
}
