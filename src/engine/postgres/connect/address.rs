//! A database address as a user writes it, completed by the environment, service files and password files.
//!
//! The URL takes precedence, then the service, then the environment, then defaults, as in libpq. Neither `Display` nor
//! errors show a password. Unknown connection parameters are refused, unless they have no effect here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::base::cancel::Cancel;
use crate::engine::postgres::connect::connection_url::{percent_encode, url_parameters};
use crate::engine::postgres::connect::endpoint::{Endpoint, endpoints};
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::host_environment::HostEnvironment;
use crate::engine::postgres::connect::parameters::ConnectionParameters;
use crate::engine::postgres::connect::service_file;
use crate::engine::postgres::connect::tls::{TlsOptions, tls_options};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// libpq's connection parameters that have an environment variable.
const VARIABLES: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
];
/// Connection parameters that are passed to the driver unchanged.
const DRIVER_PARAMETERS: &[&str] = &[
    "application_name",
    "channel_binding",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "options",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
];
/// Connection parameters that have no effect here: we do not use GSSAPI, and we choose the session's encoding.
const IGNORED: &[&str] =
    &["client_encoding", "fallback_application_name", "gssdelegation", "gssencmode", "gsslib", "krbsrvname", "sslsni"];

/// A database and how to reach it.
#[derive(Clone)]
pub struct Address {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) tls: TlsOptions,
    pub(crate) connect_timeout: Duration,
    /// Names and values for the driver.
    pub(crate) driver_parameters: Vec<(String, String)>,
    /// Stops the sessions that are opened at this address.
    pub(crate) cancel: Cancel,
}

impl Address {
    /// Parses `postgres://...`, `postgresql://...` or `service=name`, and adds the other sources of parameters.
    /// Follows "Connection Strings" in PostgreSQL's libpq documentation.
    /// Fails if `text` is not such an address, a parameter is unknown or has an invalid value, no role is given, or the
    /// service is not in any service file or its file cannot be read.
    pub fn parse(text: &str, environment: &HostEnvironment) -> Result<Self, PostgresError> {
        let mut parameters = url_parameters(text).map_err(refused)?;
        add_service(&mut parameters, environment)?;
        add_environment(&mut parameters, environment);
        from_parameters(parameters, environment).map_err(refused)
    }

    /// The same address. Its sessions stop waiting once `cancel` is set.
    #[must_use]
    pub fn with_cancel(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    /// The same address with only this endpoint, so that everything connects to the server that a session is at.
    #[must_use]
    pub(crate) fn with_endpoint(&self, endpoint: &Endpoint) -> Self {
        Self { endpoints: vec![endpoint.clone()], ..self.clone() }
    }

    /// The database and its endpoints without role, password and parameters: `postgres://host:5432/database`.
    #[must_use]
    pub fn url(&self) -> String {
        let mut endpoints = Vec::with_capacity(self.endpoints.len());
        for endpoint in &self.endpoints {
            endpoints.push(percent_encode(&endpoint.to_string(), ":,[]"));
        }
        format!("postgres://{}/{}", endpoints.join(","), percent_encode(&self.database, ""))
    }

    /// The name of the database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The name in messages of the database at one of its endpoints.
    pub(crate) fn name_at(&self, endpoint: &Endpoint) -> String {
        format!("the database {} on {endpoint} as {}", self.database, self.user)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<String> = self.endpoints.iter().map(ToString::to_string).collect();
        write!(f, "the database {} on {} as {}", self.database, endpoints.join(","), self.user)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn refused(reason: String) -> PostgresError {
    PostgresError::Address { what: "the address of the PostgreSQL database".to_owned(), reason }
}

/// Adds the parameters of the service that the URL or the environment names.
fn add_service(parameters: &mut ConnectionParameters, environment: &HostEnvironment) -> Result<(), PostgresError> {
    let Some(service) = service_name(parameters, environment) else { return Ok(()) };
    for (key, value) in service_file::parameters(&service, &environment.service_files())? {
        parameters.add(&key, value);
    }
    Ok(())
}

fn service_name(parameters: &mut ConnectionParameters, environment: &HostEnvironment) -> Option<String> {
    let named = parameters.remove("service").map(|name| name.to_string());
    named.or_else(|| environment.get("PGSERVICE").map(ToOwned::to_owned))
}

fn add_environment(parameters: &mut ConnectionParameters, environment: &HostEnvironment) {
    for (key, variable) in VARIABLES {
        if let Some(value) = environment.get(variable) {
            parameters.add(key, Zeroizing::new(value.to_owned()));
        }
    }
}

fn from_parameters(mut parameters: ConnectionParameters, environment: &HostEnvironment) -> Result<Address, String> {
    let endpoints = endpoints(&mut parameters)?;
    let user = user(&mut parameters, environment)?;
    Ok(Address {
        endpoints,
        database: parameters.take_text("dbname").unwrap_or_else(|| user.clone()),
        user,
        password_file: password_file(&mut parameters, environment),
        password: parameters.take("password"),
        connect_timeout: connect_timeout(&mut parameters)?,
        tls: tls_options(&mut parameters, environment)?,
        driver_parameters: driver_parameters(parameters)?,
        cancel: Cancel::default(),
    })
}

fn user(parameters: &mut ConnectionParameters, environment: &HostEnvironment) -> Result<String, String> {
    let user = parameters.take_text("user").or_else(|| login_name(environment));
    user.ok_or_else(|| "it has no role; write postgres://role@host/database or set PGUSER".to_owned())
}

fn login_name(environment: &HostEnvironment) -> Option<String> {
    let login = environment.get("USER").or(environment.get("LOGNAME"))?;
    Some(login.to_owned())
}

fn password_file(parameters: &mut ConnectionParameters, environment: &HostEnvironment) -> Option<PathBuf> {
    let named = parameters.take_text("passfile").map(PathBuf::from);
    named.or_else(|| Some(environment.home()?.join(".pgpass")))
}

fn connect_timeout(parameters: &mut ConnectionParameters) -> Result<Duration, String> {
    match parameters.take_text("connect_timeout") {
        Some(seconds) => timeout_of(&seconds),
        None => Ok(CONNECT_TIMEOUT),
    }
}

fn timeout_of(seconds: &str) -> Result<Duration, String> {
    match seconds.parse::<u32>() {
        Ok(0) => Ok(CONNECT_TIMEOUT),
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => Err("connect_timeout is not a number of seconds".to_owned()),
    }
}

/// libpq and the driver use different names for one parameter.
fn driver_name(key: String) -> String {
    if key == "keepalives_count" { "keepalives_retries".to_owned() } else { key }
}

/// Passes the remaining parameters on to the driver, except ones without effect.
fn driver_parameters(rest: ConnectionParameters) -> Result<Vec<(String, String)>, String> {
    let mut passed_on = Vec::new();
    for (key, value) in rest.into_values() {
        let key = driver_name(key);
        if DRIVER_PARAMETERS.contains(&key.as_str()) {
            passed_on.push((key, value.to_string()));
        } else if !IGNORED.contains(&key.as_str()) {
            return Err(format!("the parameter {key:?} is not supported"));
        }
    }
    Ok(passed_on)
}

#[cfg(test)]
mod tests {
    use super::{Address, HostEnvironment};

    fn environment(variables: &[(&str, &str)]) -> HostEnvironment {
        HostEnvironment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Address, String> {
        Address::parse(text, &environment(variables)).map_err(|error| error.to_string())
    }

    #[test]
    fn every_part_of_a_url_is_parsed() {
        let text =
            "postgresql://m%65:p%40ss:w@one:1,[::2]:3,%2Frun%2Fpg/d%2Fb?connect_timeout=7&application_name=a%3Db";
        let address = parse(text, &[]).expect("an address");
        assert_eq!(address.to_string(), "the database d/b on one:1,[::2]:3,/run/pg:5432 as me");
        assert_eq!(address.password.as_ref().map(|password| password.as_str()), Some("p@ss:w"));
        assert_eq!(address.driver_parameters, [("application_name".to_owned(), "a=b".to_owned())]);
        assert_eq!(address.connect_timeout.as_secs(), 7);
        assert!(!format!("{address:?}").contains("p@ss"));
    }

    #[test]
    fn the_environment_supplies_missing_parameters() {
        let variables =
            [("PGHOST", "h1,h2"), ("PGPORT", "7"), ("PGUSER", "env"), ("PGPASSWORD", "secret"), ("USER", "os")];
        let address = parse("postgres://", &variables).expect("an address");
        assert_eq!(address.to_string(), "the database env on h1:7,h2:7 as env");
        let address = parse("postgres:///other?host=/sock&user=me", &variables).expect("an address");
        assert_eq!(address.to_string(), "the database other on /sock:7 as me");
        assert_eq!(parse("postgres://h/d", &[("LOGNAME", "os")]).expect("an address").user, "os");
    }

    #[test]
    fn a_service_takes_precedence_over_the_environment() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("services");
        std::fs::write(&file, "[mine]\nhost=sh\nuser=su\npassword=sp\nsslmode=disable\n").expect("a file");
        let file = file.display().to_string();
        let variables = [("PGSERVICEFILE", file.as_str()), ("PGHOST", "eh"), ("PGDATABASE", "ed")];
        let address = parse("postgres://?service=mine", &variables).expect("an address");
        assert_eq!(address.to_string(), "the database ed on sh:5432 as su");
        let named = [variables.as_slice(), &[("PGSERVICE", "mine")]].concat();
        assert_eq!(parse("postgres://me@", &named).expect("an address").user, "me");
        let address = parse("service=mine", &variables).expect("an address");
        assert_eq!(address.to_string(), "the database ed on sh:5432 as su");
        assert!(parse("postgres://?service=none", &variables).expect_err("refused").contains("the service none"));
    }

    #[test]
    fn the_url_without_login_names_the_same_database() {
        for (text, plain) in [
            ("postgres://m:p@one:1,[::2]/d%2Fb?sslmode=require", "postgres://one:1,[::2]:5432/d%2Fb"),
            ("postgresql://m@%2Frun%2Fp g:7/d", "postgres://%2Frun%2Fp%20g:7/d"),
        ] {
            let address = parse(text, &[]).expect("an address");
            assert_eq!(address.url(), plain);
            assert_eq!(parse(plain, &[("PGUSER", "m")]).expect("an address").to_string(), address.to_string());
        }
    }

    #[test]
    fn errors_show_no_password() {
        let wrong = [
            ("postgres://u:hunter2%zz@h/d", "password has a % that"),
            ("postgres://u:hunter2@h:0/d", "\"0\" is not a port"),
            ("postgres://u:hunter2@h:1,i:2,j/d?port=1,2", "3 hosts, but 2 ports"),
            ("postgres://u:hunter2@h/d?sslmode=mostly", "sslmode"),
            ("postgres://u:hunter2@h/d?sslcrl=x", "the parameter \"sslcrl\" is not supported"),
            ("postgres://u:hunter2@h/d?connect_timeout=soon", "connect_timeout"),
            ("postgres://u:hunter2@[::1/d", "has no closing ]"),
            ("mysql://u:hunter2@h/d", "must begin with postgres://"),
            ("postgres://h/d", "has no role"),
        ];
        for (text, reason) in wrong {
            let error = parse(text, &[]).expect_err(text);
            assert!(error.contains(reason) && !error.contains("hunter2"), "{error}");
        }
    }
}
