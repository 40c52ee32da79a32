//! What the driver needs to open a session at one endpoint of an address.

use std::time::Duration;

use tokio_postgres::Config;
use zeroize::Zeroizing;

use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::endpoint::{Endpoint, Host};
use crate::engine::postgres::connect::error::server_message;
use crate::engine::postgres::connect::password_file::{self, Wanted};

/// A peer that is gone is noticed within two minutes, whatever firewalls there are.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 6;

/// A password for this endpoint, and why the password file gave none if it should have.
pub(crate) fn password(address: &Address, endpoint: &Endpoint) -> (Option<Zeroizing<String>>, Option<String>) {
    if let Some(password) = &address.password {
        return (Some(password.clone()), None);
    }
    let Some(path) = &address.passfile else { return (None, None) };
    let host = endpoint.passfile_host();
    let wanted = Wanted { host: &host, port: endpoint.port, database: &address.database, user: &address.user };
    match password_file::look_up(path, &wanted) {
        Ok(password) => (password, None),
        Err(why) => (None, Some(why)),
    }
}

/// Everything but password and TLS.
pub(crate) fn config(address: &Address, endpoint: &Endpoint) -> Result<Config, String> {
    let mut text = String::new();
    for (key, value) in &address.passed_on {
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        text.push_str(&format!("{key}='{value}' "));
    }
    let mut config: Config = text.parse().map_err(|error: tokio_postgres::Error| server_message(&error))?;
    if config.get_application_name().is_none() {
        config.application_name("sidekeep");
    }
    let given = |key: &str| address.passed_on.iter().any(|(name, _)| name == key);
    if !given("keepalives_idle") {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if !given("keepalives_interval") {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if !given("keepalives_retries") {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    config.user(&address.user).dbname(&address.database).port(endpoint.port).connect_timeout(address.connect_timeout);
    match &endpoint.host {
        Host::Socket(dir) => {
            config.host_path(dir);
        }
        Host::Network { name, number } => {
            config.host(name);
            if let Some(number) = number {
                config.hostaddr(*number);
            }
        }
    }
    Ok(config)
}
