//! How PostgreSQL's own tools connect to the server of an address: libpq keywords and values, and a password.

use tokio_postgres::config::{Config, Host};
use zeroize::Zeroizing;

use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::driver_config::{EndpointPassword, config, keyword_pair};
use crate::engine::postgres::connect::error::PostgresError;

/// How the tools connect to the server.
pub struct ToolConnection {
    /// libpq's keywords and values, without secrets.
    keywords: Vec<(String, String)>,
    pub(crate) password: Option<Zeroizing<String>>,
}

impl ToolConnection {
    /// Uses the same hosts, role, database and password as the driver's configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let hosts: Vec<String> = config.get_hosts().iter().map(host_text).collect();
        let ports: Vec<String> = config.get_ports().iter().map(u16::to_string).collect();
        let password = config.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
        let connection = Self { keywords: Vec::new(), password: password.map(Zeroizing::new) };
        connection
            .with_given("host", &hosts.join(","))
            .with_given("port", &ports.join(","))
            .with_given("user", config.get_user().unwrap_or_default())
            .with_given("dbname", config.get_dbname().unwrap_or_default())
    }

    fn with_given(self, keyword: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.with(keyword, value) }
    }

    /// Adds a libpq keyword, such as `sslmode` or `sslrootcert`.
    #[must_use]
    pub fn with(mut self, keyword: &str, value: &str) -> Self {
        self.keywords.push((keyword.to_owned(), value.to_owned()));
        self
    }

    /// Only the database, as a connection string, so that no database name can be misread.
    pub(crate) fn database(&self) -> Option<String> {
        let (_, name) = self.keywords.iter().find(|(key, _)| key == "dbname")?;
        Some(keyword_pair("dbname", name))
    }

    /// The keywords as a connection string.
    pub(crate) fn connection_string(&self) -> String {
        let pairs: Vec<String> = self.keywords.iter().map(|(key, value)| keyword_pair(key, value)).collect();
        pairs.join(" ")
    }
}

fn host_text(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    }
}

/// How PostgreSQL's own tools connect to the database. `address` must have only the endpoint that our session uses.
/// Fails if the address has no endpoint, or the driver cannot parse a parameter of it.
pub fn tool_connection(address: &Address) -> Result<ToolConnection, PostgresError> {
    let unusable = |reason| PostgresError::Connect { place: address.to_string(), reason };
    let endpoint = address.endpoints.first().ok_or_else(|| unusable("it has no host".to_owned()))?;
    let mut config = config(address, endpoint).map_err(unusable)?;
    if let Some(password) = EndpointPassword::of(address, endpoint).password {
        config.password(password.as_bytes());
    }
    let mut connection = ToolConnection::of(&config);
    for (keyword, value) in address.tls.keywords() {
        connection = connection.with(keyword, &value);
    }
    Ok(connection)
}
