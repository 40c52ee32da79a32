//! A small sync service on its own server, with a sandbox for the program.

use crate::support::postgres::cluster::{Cluster, Settings};
use crate::support::sandbox::Sandbox;

/// Users with contacts, fields of contacts, a partitioned table, and an append-only log.
pub const SCHEMA: &str = "
    CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL UNIQUE);
    CREATE TABLE contacts (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id bigint NOT NULL REFERENCES users
        ON DELETE CASCADE, name text);
    CREATE TABLE fields (contact_id uuid NOT NULL REFERENCES contacts ON DELETE CASCADE, n smallint, value text,
        PRIMARY KEY (contact_id, n));
    CREATE TABLE labels (contact_id uuid NOT NULL, n smallint NOT NULL, label text,
        FOREIGN KEY (contact_id, n) REFERENCES fields ON DELETE CASCADE);
    CREATE TABLE events (user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE, at timestamp NOT NULL, what text)
        PARTITION BY RANGE (at);
    CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
        PARTITION BY LIST (what);
    CREATE TABLE events_2026_all PARTITION OF events_2026 DEFAULT;
    CREATE TABLE sync_log (seq bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users ON DELETE
        CASCADE, change text);
    CREATE TABLE settings (name text PRIMARY KEY, value jsonb);
    INSERT INTO users (email) SELECT 'u' || n || '@example.org' FROM generate_series(1, 50) AS n;
    INSERT INTO contacts (user_id, name) SELECT 1 + n % 50, 'contact ' || n FROM generate_series(1, 2000) AS n;
    INSERT INTO fields SELECT id, n, md5(id::text || n) FROM contacts, generate_series(1, 2) AS n;
    INSERT INTO labels SELECT contact_id, n, 'home' FROM fields WHERE n = 1;
    INSERT INTO events SELECT 1 + n % 50, timestamp '2025-06-01' + n * interval '4 hours', 'event ' || n
        FROM generate_series(1, 2500) AS n;
    INSERT INTO sync_log (user_id, change) SELECT 1 + n % 50, 'change ' || n FROM generate_series(1, 3000) AS n;
    DELETE FROM sync_log WHERE seq <= 1000;
    INSERT INTO settings VALUES ('theme', '\"dark\"');
    ANALYZE;
";

/// The number of rows of all its tables.
pub const ROWS: u64 = 50 + 2000 + 4000 + 2000 + 2500 + 2000 + 1;

/// A server with the service in a database `sync`, and a directory with a repository in which it is the source `main`.
pub struct Live {
    pub cluster: Cluster,
    pub sandbox: Sandbox,
}

impl Live {
    /// `None` after printing that the test is skipped.
    pub fn new() -> Option<Self> {
        Self::with(&Settings::default())
    }

    pub fn with(settings: &Settings) -> Option<Self> {
        let cluster = Cluster::start_with(settings)?;
        cluster.create_database("sync", "");
        cluster.sql("sync", SCHEMA);
        let sandbox = Sandbox::new();
        sandbox.ok(&["init", "repo", "--source", &cluster.dsn("sync")]);
        let live = Self { cluster, sandbox };
        live.configure(&live.cluster.dsn("sync"), "");
        Some(live)
    }

    /// Configures `main` as this database. `more` are lines for the end of the configuration.
    pub fn configure(&self, url: &str, more: &str) {
        let bin = self.cluster.client_bin();
        let bin = bin.display();
        let text = format!(
            "repo = 'repo'\nkey_file = 'keys/operator.key'\npg_bin = '{bin}'\n[source.main]\nurl = '{url}'\n{more}\n"
        );
        self.sandbox.write("sidekeep.toml", &text);
    }

    /// The URL of the same database as another role.
    pub fn dsn_as(&self, role: &str) -> String {
        self.cluster.dsn("sync").replace("postgres://postgres@", &format!("postgres://{role}@"))
    }

    pub fn sql(&self, text: &str) -> Vec<Vec<Option<String>>> {
        self.cluster.sql("sync", text)
    }

    /// Names and bytes of all objects in the store.
    pub fn objects(&self) -> Vec<(String, Vec<u8>)> {
        let root = self.sandbox.path("repo");
        let mut objects = Vec::new();
        let mut dirs = vec![root.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).expect("reads") {
                let path = entry.expect("reads").path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    let name = path.strip_prefix(&root).expect("within").display().to_string();
                    objects.push((name, std::fs::read(path).expect("reads")));
                }
            }
        }
        objects.sort();
        objects
    }
}
