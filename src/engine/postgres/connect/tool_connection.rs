//! How PostgreSQL's own tools reach the server of an address: keywords and values of libpq, and a password.

use tokio_postgres::config::{Config, Host};
use zeroize::Zeroizing;

use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::driver_config::{config, password};
use crate::engine::postgres::connect::error::PostgresError;

/// How the tools reach the server.
pub struct ToolConnection {
    /// libpq's keywords with their values; no secrets.
    keywords: Vec<(String, String)>,
    pub(crate) password: Option<Zeroizing<String>>,
}

impl ToolConnection {
    /// The place that a configuration of our own client means.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let hosts: Vec<String> = config.get_hosts().iter().map(host_text).collect();
        let ports: Vec<String> = config.get_ports().iter().map(u16::to_string).collect();
        let lists = [("host", hosts.join(",")), ("port", ports.join(","))];
        let words = [("user", config.get_user()), ("dbname", config.get_dbname())];
        let words = words.into_iter().filter_map(|(key, value)| Some((key, value?.to_owned())));
        let keywords = lists.into_iter().chain(words).filter(|(_, value)| !value.is_empty());
        let password =
            config.get_password().map(|password| Zeroizing::new(String::from_utf8_lossy(password).into_owned()));
        Self { keywords: keywords.map(|(key, value)| (key.to_owned(), value)).collect(), password }
    }

    /// With one more of libpq's keywords, such as `sslmode` or `sslrootcert`.
    #[must_use]
    pub fn with(mut self, keyword: &str, value: &str) -> Self {
        self.keywords.push((keyword.to_owned(), value.to_owned()));
        self
    }

    /// The database alone, in a form that cannot be mistaken whatever its name is.
    pub(crate) fn database(&self) -> Option<String> {
        let (_, name) = self.keywords.iter().find(|(key, _)| key == "dbname")?;
        Some(format!("dbname={}", quote_value(name)))
    }

    pub(crate) fn conninfo(&self) -> String {
        let pairs: Vec<String> =
            self.keywords.iter().map(|(key, value)| format!("{key}={}", quote_value(value))).collect();
        pairs.join(" ")
    }
}

/// A value as connection strings have it.
fn quote_value(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn host_text(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    }
}

/// The way to the database as PostgreSQL's own tools take it; `address` has the one endpoint that our session is at.
pub fn tool_connection(address: &Address) -> Result<ToolConnection, PostgresError> {
    let unusable = |reason| PostgresError::Connect { place: address.to_string(), reason };
    let endpoint = address.endpoints.first().ok_or_else(|| unusable("it names no host".to_owned()))?;
    let mut config = config(address, endpoint).map_err(unusable)?;
    if let (Some(password), _) = password(address, endpoint) {
        config.password(password.as_bytes());
    }
    let words = address.tls.keywords();
    Ok(words.iter().fold(ToolConnection::of(&config), |place, (keyword, value)| place.with(keyword, value)))
}
