//! The driver's configuration for a session at one endpoint of an address.

use std::path::Path;
use std::time::Duration;

use tokio_postgres::Config;
use zeroize::Zeroizing;

use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::endpoint::{Endpoint, Host};
use crate::engine::postgres::connect::error::server_message;
use crate::engine::postgres::connect::password_file::{self, Login};

/// A peer that is gone is noticed within two minutes, even if a firewall drops the connection silently.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 6;

/// The password for an endpoint, if there is one.
#[derive(Default)]
pub(crate) struct EndpointPassword {
    pub(crate) password: Option<Zeroizing<String>>,
    /// Why the password file could not be used, if so.
    pub(crate) note: Option<String>,
}

impl EndpointPassword {
    /// The address's password, else the one from its password file.
    pub(crate) fn of(address: &Address, endpoint: &Endpoint) -> Self {
        match (&address.password, &address.password_file) {
            (Some(password), _) => Self { password: Some(password.clone()), note: None },
            (None, Some(path)) => Self::read(path, address, endpoint),
            (None, None) => Self::default(),
        }
    }

    fn read(path: &Path, address: &Address, endpoint: &Endpoint) -> Self {
        let host = endpoint.password_file_host();
        let login = Login { host: &host, port: endpoint.port, database: &address.database, user: &address.user };
        match password_file::find_password(path, &login) {
            Ok(password) => Self { password, note: None },
            Err(reason) => Self { password: None, note: Some(reason) },
        }
    }
}

/// Everything but password and TLS.
/// Fails if the driver cannot parse a parameter that is passed on to it.
pub(crate) fn config(address: &Address, endpoint: &Endpoint) -> Result<Config, String> {
    let parameters = parameters_text(&address.driver_parameters);
    let mut config: Config = parameters.parse().map_err(|error: tokio_postgres::Error| server_message(&error))?;
    if config.get_application_name().is_none() {
        config.application_name("sidekeep");
    }
    set_default_keepalives(&mut config, address);
    config.user(&address.user).dbname(&address.database).port(endpoint.port).connect_timeout(address.connect_timeout);
    set_host(&mut config, &endpoint.host);
    Ok(config)
}

fn parameters_text(parameters: &[(String, String)]) -> String {
    let mut text = String::new();
    for (key, value) in parameters {
        text.push_str(&keyword_pair(key, value));
        text.push(' ');
    }
    text
}

/// A keyword and its value, as written in connection strings.
pub(crate) fn keyword_pair(key: &str, value: &str) -> String {
    format!("{key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn set_default_keepalives(config: &mut Config, address: &Address) {
    let is_given = |key: &str| address.driver_parameters.iter().any(|(name, _)| name == key);
    if !is_given("keepalives_idle") {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if !is_given("keepalives_interval") {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if !is_given("keepalives_retries") {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
}

fn set_host(config: &mut Config, host: &Host) {
    match host {
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
}
