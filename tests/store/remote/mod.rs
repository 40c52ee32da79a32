//! The built binary against stores over HTTP: SeaweedFS and Azurite where they are installed
//! (`support/stores/server.rs`), Google Cloud Storage as far as `support/stores/gcs.rs` simulates it, and SeaweedFS
//! behind a proxy that fails.

mod faults;
mod log;
mod lost;
mod unconditional;
mod week;

use std::path::Path;
use std::time::Duration;

use crate::support::sandbox::Sandbox;
use sidekeep::store::{Location, OpenOptions, Store};

/// A bucket on a server.
struct Bucket {
    /// The beginning of the bucket's location, up to the prefix.
    url: &'static str,
    /// Settings in the library's form.
    settings: Vec<(String, String)>,
    /// The prefix of the environment variables for these settings.
    family: &'static str,
}

impl Bucket {
    /// Sets the settings in the environment of `sandbox`, with a short retry time.
    fn configure(&self, sandbox: &mut Sandbox) {
        for (key, value) in &self.settings {
            let name = if key == "allow_http" { format!("{}_{key}", self.family) } else { key.clone() };
            sandbox.set(&name.to_uppercase(), value);
        }
        sandbox.set("SIDEKEEP_RETRY_TIME", "1 second");
    }

    fn store(&self, prefix: &str) -> Store {
        let location = Location::parse(&format!("{}/{prefix}", self.url)).expect("a location");
        let options = OpenOptions { settings: self.settings.clone(), ..OpenOptions::default() };
        Store::open_with(&location, &options).expect("opens")
    }

    /// Waits until the server answers.
    async fn ready(&self) {
        let store = self.store("");
        for _ in 0..300 {
            if store.list_prefixes("").await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} did not become ready", self.url);
    }

    /// Names of all objects below `prefix`, sorted.
    async fn names(&self, prefix: &str) -> Vec<String> {
        let listed = self.store(prefix).list_sorted("").await.expect("lists");
        listed.into_iter().map(|object| object.name).collect()
    }
}

/// Names in `after` that are not in `before`.
fn added<'a>(before: &[String], after: &'a [String]) -> Vec<&'a str> {
    assert!(before.iter().all(|name| after.contains(name)), "nothing is ever deleted");
    after.iter().filter(|name| !before.contains(name)).map(String::as_str).collect()
}

/// The number of `names` of this kind: `ledger`, `packs`, ...
fn count(names: &[impl AsRef<str>], kind: &str) -> usize {
    names.iter().filter(|name| name.as_ref().split('/').any(|part| part == kind)).count()
}

/// Restores `snapshot` and compares it with a copy of the database.
fn assert_restores(sandbox: &Sandbox, snapshot: &str, copy: &Path) {
    let to = format!("{snapshot}.sqlite");
    sandbox.ok(&["restore", snapshot, "--to", &to, "--key-file", "keys/admin.key"]);
    crate::support::sqlite::assert_same_database(&sandbox.path(&to), copy);
    std::fs::remove_file(sandbox.path(&to)).expect("removes");
}

/// A copy of the database `from`, which must not be in use.
fn copy(sandbox: &Sandbox, from: &str, to: &str) -> std::path::PathBuf {
    std::fs::copy(sandbox.path(from), sandbox.path(to)).expect("copies");
    sandbox.path(to)
}
