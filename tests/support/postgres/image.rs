//! Images of databases, and what tests ask their sessions.

use std::sync::Arc;
use std::time::Duration;

use sidekeep::engine::postgres::backup::image::PgImage;
use sidekeep::engine::postgres::connect::address::Address;
use sidekeep::engine::postgres::connect::client::Client;
use sidekeep::engine::postgres::connect::host_environment::HostEnvironment;

use crate::support::postgres::cluster::Cluster;

/// How long a test waits for a lock.
pub const PATIENCE: Duration = Duration::from_secs(5);

pub fn address(dsn: &str) -> Arc<Address> {
    Arc::new(Address::parse(dsn, &HostEnvironment::new([])).expect("an address"))
}

pub fn open(cluster: &Cluster, database: &str) -> Result<PgImage, String> {
    PgImage::open(address(&cluster.dsn(database))).map_err(|error| error.to_string())
}

/// The only value of the only row that `sql` gives.
pub fn value(client: &Client, sql: &str) -> String {
    client.value("asking", sql).expect("a value")
}

pub fn tables(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
