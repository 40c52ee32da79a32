//! How PostgreSQL's own tools reach the server of an address: keywords and values of libpq, and a password.

use tokio_postgres::config::{Config, Host};
use zeroize::Zeroizing;

use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::driver_config::{EndpointPassword, config, keyword_pair};
use crate::engine::postgres::connect::error::PostgresError;

/// How the tools reach the server.
pub struct ToolConnection {
    /// libpq's keywords with their values; no secrets.
    keywords: Vec<(String, String)>,
    pub(crate) password: Option<Zeroizing<String>>,
}

impl ToolConnection {
    /// The one that a configuration of our own client means.
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

    /// With one more of libpq's keywords, such as `sslmode` or `sslrootcert`.
    #[must_use]
    pub fn with(mut self, keyword: &str, value: &str) -> Self {
        self.keywords.push((keyword.to_owned(), value.to_owned()));
        self
    }

    /// The database alone, in a form that cannot be mistaken whatever its name is.
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

/// How PostgreSQL's own tools reach the database; `address` has the one endpoint that our session is at.
pub fn tool_connection(address: &Address) -> Result<ToolConnection, PostgresError> {
    let unusable = |reason| PostgresError::Connect { place: address.to_string(), reason };
    let endpoint = address.endpoints.first().ok_or_else(|| unusable("it names no host".to_owned()))?;
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
