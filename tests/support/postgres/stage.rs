//! A server with a backed-up database, and targets on the same or another server.

use std::sync::Arc;

use sidekeep::base::cancel::Cancel;
use sidekeep::base::progress::Silent;
use sidekeep::base::role::Role;
use sidekeep::engine::contract::Target;
use sidekeep::engine::postgres::connect::address::Address;
use sidekeep::engine::postgres::connect::host_environment::HostEnvironment;
use sidekeep::engine::postgres::restore::{PostgresTarget, TargetOptions};
use sidekeep::ops::backup::{self, BackupReport};
use sidekeep::ops::error::OpError;
use sidekeep::ops::restore::{self, RestoreOptions, RestoreReport};
use sidekeep::ops::select::Selector;

use crate::support::postgres::cluster::{Cluster, SUPERUSER};
pub use crate::support::postgres::objects::DATABASE;
use crate::support::postgres::objects::{ROLES, objects};
use crate::support::world::findings::FindingsByKind;
use crate::support::world::{SOURCE, World};

/// A backed-up database and its repository.
pub struct Stage {
    pub cluster: Cluster,
    pub world: World,
    pub database: String,
}

impl Stage {
    /// A database with every kind of object, with rows, and one snapshot of it.
    pub fn nasty() -> Option<Self> {
        let cluster = Cluster::start()?;
        let version = cluster.version();
        Some(Self::nasty_on(cluster, version))
    }

    /// Like [`Self::nasty`] on this server, without syntax that servers older than `version` lack.
    pub fn nasty_on(cluster: Cluster, version: u32) -> Self {
        cluster.sql("postgres", ROLES);
        cluster.create_database(DATABASE, "TEMPLATE template0");
        let client = cluster.client(DATABASE);
        client.execute("making objects", &objects(version)).expect("objects");
        client.execute("making rows", include_str!("rows.sql")).expect("rows");
        drop(client);
        Self::over(cluster, DATABASE)
    }

    /// A database created by `sql`, and one snapshot of it.
    pub fn of(sql: &str) -> Option<Self> {
        Self::encoded("UTF8", sql)
    }

    /// Like [`Self::of`], in a database with this encoding.
    pub fn encoded(encoding: &str, sql: &str) -> Option<Self> {
        let cluster = Cluster::start()?;
        cluster.create_database("service", &format!("TEMPLATE template0 ENCODING '{encoding}'"));
        cluster.sql("service", sql);
        Some(Self::over(cluster, "service"))
    }

    /// A database of a cluster, and one snapshot of it.
    pub fn over(cluster: Cluster, database: &str) -> Self {
        let stage = Self { cluster, world: World::in_memory().0, database: database.to_owned() };
        stage.backup();
        stage
    }

    pub fn backup(&self) -> BackupReport {
        let mut source = self.cluster.source(&self.database, SUPERUSER);
        let mut unlocked = self.world.unlock(Role::Operator);
        let options = self.world.backup_options(unlocked.find_source(Some(SOURCE)).expect("a source"));
        backup::run(&mut unlocked, &mut source, &options).expect("a snapshot")
    }

    pub fn address(&self, cluster: &Cluster, database: &str) -> Address {
        let name = database.replace(' ', "%20").replace(';', "%3B");
        Address::parse(&cluster.dsn(&name), &HostEnvironment::new([])).expect("an address")
    }

    pub fn target(&self, cluster: &Cluster, database: &str, options: TargetOptions) -> PostgresTarget {
        PostgresTarget::new(self.address(cluster, database), options)
    }

    /// Restores the newest snapshot.
    pub fn restore(&self, target: &mut dyn Target, tables: &[&str]) -> Result<RestoreReport, OpError> {
        self.restore_of(Selector::Latest(0), target, tables)
    }

    pub fn restore_of(
        &self,
        snapshot: Selector,
        target: &mut dyn Target,
        tables: &[&str],
    ) -> Result<RestoreReport, OpError> {
        let unlocked = self.world.unlock(Role::Admin);
        let options = RestoreOptions {
            source: unlocked.find_source(Some(SOURCE)).expect("a source"),
            snapshot,
            tables: tables.iter().map(|table| (*table).to_owned()).collect(),
            spill_dir: self.world.dir.path().to_owned(),
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        restore::run(&unlocked, target, &options)
    }

    /// Restores the newest snapshot to a new database on the same server.
    pub fn restored(&self, database: &str, options: TargetOptions) -> RestoreReport {
        self.cluster.create_database(database, "TEMPLATE template0");
        self.restore(&mut self.target(&self.cluster, database, options), &[]).expect("a restore")
    }
}

/// What was refused, one line each.
pub fn refused(report: &RestoreReport) -> Vec<String> {
    report.refused().iter().map(|refused| format!("{}: {}", refused.object, refused.detail)).collect()
}
