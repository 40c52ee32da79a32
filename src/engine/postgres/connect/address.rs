//! What a user may write to name a database, with what the environment, service files and password files add.
//!
//! The URL comes first, then the service, then the environment, then defaults: as libpq has it. Nothing here shows a
//! password, neither `Display` nor an error. Parameters that would have to be obeyed but are not known are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::base::cancel::Cancel;
use crate::engine::postgres::connect::endpoint::{Endpoint, endpoints};
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::host_environment::HostEnvironment;
use crate::engine::postgres::connect::service_file;
use crate::engine::postgres::connect::tls::{TlsOptions, tls_options};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Parameters of libpq that have an environment variable.
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
/// Parameters that go to the driver as they are.
const PASSED_ON: &[&str] = &[
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
/// Parameters that change nothing here: we have no GSSAPI, and the session's encoding is ours to choose.
const IGNORED: &[&str] =
    &["client_encoding", "fallback_application_name", "gssdelegation", "gssencmode", "gsslib", "krbsrvname", "sslsni"];

/// A database and the way to it.
pub struct Address {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) passfile: Option<PathBuf>,
    pub(crate) tls: TlsOptions,
    pub(crate) connect_timeout: Duration,
    /// Names and values that the driver understands.
    pub(crate) passed_on: Vec<(String, String)>,
    /// What sessions that are opened there heed.
    pub(crate) cancel: Cancel,
}

impl Address {
    /// Reads `postgres://...`, `postgresql://...` or `service=name` and everything that completes it.
    pub fn parse(text: &str, around: &HostEnvironment) -> Result<Self, PostgresError> {
        let mut parameters = url_parameters(text).map_err(refused)?;
        let named = parameters.remove("service");
        if let Some(service) = named.as_ref().map(|name| name.as_str()).or_else(|| around.get("PGSERVICE")) {
            for (key, value) in service_file::parameters(service, &around.service_files())? {
                parameters.entry(key).or_insert(value);
            }
        }
        for (key, variable) in VARIABLES {
            if let Some(value) = around.get(variable) {
                parameters.entry((*key).to_owned()).or_insert_with(|| Zeroizing::new(value.to_owned()));
            }
        }
        complete(parameters, around).map_err(refused)
    }

    /// The same server, another database of it.
    #[must_use]
    pub fn with_database(mut self, name: &str) -> Self {
        name.clone_into(&mut self.database);
        self
    }

    /// The same; who waits for a session there stops waiting once somebody wishes to stop.
    #[must_use]
    pub fn until(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    /// The database and its endpoints without role, password and parameters: `postgres://host:5432/database`.
    #[must_use]
    pub fn url(&self) -> String {
        let endpoints = self.endpoints.iter().map(|endpoint| encoded(&endpoint.to_string(), ":,[]"));
        let endpoints: Vec<String> = endpoints.collect();
        format!("postgres://{}/{}", endpoints.join(","), encoded(&self.database, ""))
    }

    /// The name of the database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The same by one endpoint alone: where a session is, whatever else has to reach that server goes.
    #[must_use]
    pub(crate) fn by(&self, endpoint: &Endpoint) -> Self {
        Self {
            endpoints: vec![endpoint.clone()],
            user: self.user.clone(),
            database: self.database.clone(),
            password: self.password.clone(),
            passfile: self.passfile.clone(),
            tls: self.tls.clone(),
            connect_timeout: self.connect_timeout,
            passed_on: self.passed_on.clone(),
            cancel: self.cancel.clone(),
        }
    }

    /// How messages name the database at one of the address's endpoints.
    pub(crate) fn at(&self, endpoint: &Endpoint) -> String {
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

/// An address as it was written, but for its passwords.
#[must_use]
pub fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (login, at, hosts) =
        authority.rsplit_once('@').map_or(("", "", authority), |(login, hosts)| (login, "@", hosts));
    let user = login.split_once(':').map_or(login, |(user, _)| user);
    let is_password = |pair: &&str| {
        let key = decoded("a parameter", pair.split('=').next().unwrap_or_default());
        key.is_ok_and(|key| key.to_ascii_lowercase().contains("password"))
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !is_password(pair)).collect();
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    format!("{scheme}://{user}{at}{hosts}{database}{query}")
}

type Parameters = BTreeMap<String, Zeroizing<String>>;

fn refused(reason: String) -> PostgresError {
    PostgresError::Address { what: "the address of the PostgreSQL database".to_owned(), reason }
}

/// What a URL says, by libpq's names of it.
fn url_parameters(text: &str) -> Result<Parameters, String> {
    if let Some(name) = text.strip_prefix("service=") {
        return Ok(Parameters::from([("service".to_owned(), Zeroizing::new(name.to_owned()))]));
    }
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    let rest = rest.ok_or("it must begin with postgres://, postgresql:// or service=")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = hosts_and_ports(hosts)?;
    let mut parameters = Parameters::new();
    let written = [("user", user), ("password", password), ("host", &host), ("port", &port), ("dbname", database)];
    for (key, value) in written {
        // A list of nothing but commas says nothing either, such as that of the ports of two hosts.
        let says_nothing = value.is_empty() || (matches!(key, "host" | "port") && value.trim_matches(',').is_empty());
        if !says_nothing {
            parameters.insert(key.to_owned(), decoded(key, value)?);
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or("a parameter of the URL has no value")?;
        let key = decoded("a parameter's name", key)?;
        let (key, value) = match (key.as_str(), value) {
            ("ssl", "true") => ("sslmode", Zeroizing::new("require".to_owned())),
            (key, value) => (key, decoded(key, value)?),
        };
        parameters.insert(key.to_owned(), value);
    }
    Ok(parameters)
}

/// Splits `one:1,[::2]:3` into the list of hosts and the list of ports.
fn hosts_and_ports(list: &str) -> Result<(String, String), String> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for part in list.split(',') {
        let (host, port) = match part.strip_prefix('[') {
            Some(part) => part.split_once(']').ok_or("a host begins with [ and has no ]")?,
            None => part.split_at(part.find(':').unwrap_or(part.len())),
        };
        hosts.push(host);
        ports.push(port.strip_prefix(':').unwrap_or(port));
    }
    Ok((hosts.join(","), ports.join(",")))
}

/// Writes what is neither plain nor one of `kept` as `%41`.
fn encoded(text: &str, kept: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c) || kept.contains(c);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            out.push(c);
        } else {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out += &format!("%{byte:02X}"));
        }
    }
    out
}

/// Undoes `%41`; never repeats the text in an error, for it may be a password.
fn decoded(what: &str, text: &str) -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        match digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()) {
            Some(0) => return Err(format!("{what} has a zero byte")),
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None if *first == b'%' => return Err(format!("{what} has a % that no two hexadecimal digits follow")),
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{what} is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn complete(mut parameters: Parameters, around: &HostEnvironment) -> Result<Address, String> {
    let mut take = |key: &str| parameters.remove(key).filter(|value| !value.is_empty());
    let text = |value: Option<Zeroizing<String>>| value.map(|value| value.to_string());
    let (host, hostaddr, port) = (take("host"), take("hostaddr"), take("port"));
    let as_str = |value: &Option<Zeroizing<String>>| value.as_ref().map(|value| value.to_string());
    let endpoints = endpoints(as_str(&host).as_deref(), as_str(&hostaddr).as_deref(), as_str(&port).as_deref())?;
    let user = text(take("user")).or_else(|| around.get("USER").or(around.get("LOGNAME")).map(ToOwned::to_owned));
    let user = user.ok_or("it names no role; write postgres://role@host/database or set PGUSER")?;
    let database = text(take("dbname")).unwrap_or_else(|| user.clone());
    let passfile = text(take("passfile")).map(PathBuf::from).or_else(|| Some(around.home()?.join(".pgpass")));
    let password = take("password");
    let connect_timeout = match text(take("connect_timeout")).map(|seconds| seconds.parse::<u32>()) {
        None | Some(Ok(0)) => CONNECT_TIMEOUT,
        Some(Ok(seconds)) => Duration::from_secs(seconds.into()),
        Some(Err(_)) => return Err("connect_timeout is no number of seconds".to_owned()),
    };
    let tls = tls_options(&mut |key| text(take(key)), around)?;
    let mut passed_on = Vec::new();
    for (key, value) in parameters {
        // libpq and the driver do not agree about one name.
        let key = if key == "keepalives_count" { "keepalives_retries".to_owned() } else { key };
        if PASSED_ON.contains(&key.as_str()) {
            passed_on.push((key, value.to_string()));
        } else if !IGNORED.contains(&key.as_str()) {
            return Err(format!("the parameter {key:?} is not known"));
        }
    }
    Ok(Address {
        endpoints,
        user,
        database,
        password,
        passfile,
        tls,
        connect_timeout,
        passed_on,
        cancel: Cancel::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Address, HostEnvironment, without_password};

    fn around(variables: &[(&str, &str)]) -> HostEnvironment {
        HostEnvironment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Address, String> {
        Address::parse(text, &around(variables)).map_err(|error| error.to_string())
    }

    #[test]
    fn all_of_a_url_is_read() {
        let text =
            "postgresql://m%65:p%40ss:w@one:1,[::2]:3,%2Frun%2Fpg/d%2Fb?connect_timeout=7&application_name=a%3Db";
        let address = parse(text, &[]).expect("an address");
        assert_eq!(address.to_string(), "the database d/b on one:1,[::2]:3,/run/pg:5432 as me");
        assert_eq!(address.password.as_ref().map(|password| password.as_str()), Some("p@ss:w"));
        assert_eq!(address.passed_on, [("application_name".to_owned(), "a=b".to_owned())]);
        assert_eq!(address.connect_timeout.as_secs(), 7);
        assert!(!format!("{address:?}").contains("p@ss"));
    }

    #[test]
    fn the_environment_fills_gaps() {
        let variables =
            [("PGHOST", "h1,h2"), ("PGPORT", "7"), ("PGUSER", "env"), ("PGPASSWORD", "secret"), ("USER", "os")];
        let address = parse("postgres://", &variables).expect("an address");
        assert_eq!(address.to_string(), "the database env on h1:7,h2:7 as env");
        let address = parse("postgres:///other?host=/sock&user=me", &variables).expect("an address");
        assert_eq!(address.to_string(), "the database other on /sock:7 as me");
        assert_eq!(parse("postgres://h/d", &[("LOGNAME", "os")]).expect("an address").user, "os");
    }

    #[test]
    fn a_service_comes_before_the_environment() {
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
    fn the_plain_url_leads_to_the_same_database() {
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
    fn passwords_are_left_out() {
        for (text, left) in [
            ("postgres://me:p@one:1,two:2/d?sslmode=require", "postgres://me@one:1,two:2/d?sslmode=require"),
            ("postgresql://me:p:q@@h", "postgresql://me@h"),
            ("postgres:///d?user=me&p%61ssword=p&host=h", "postgres:///d?user=me&host=h"),
            ("postgres://h/d?password=p", "postgres://h/d"),
            ("service=main", "service=main"),
        ] {
            assert_eq!(without_password(text), left);
        }
    }

    #[test]
    fn what_is_refused_shows_no_password() {
        let wrong = [
            ("postgres://u:hunter2%zz@h/d", "password has a % that"),
            ("postgres://u:hunter2@h:0/d", "\"0\" is no port"),
            ("postgres://u:hunter2@h:1,i:2,j/d?port=1,2", "3 hosts, but 2 ports"),
            ("postgres://u:hunter2@h/d?sslmode=mostly", "sslmode"),
            ("postgres://u:hunter2@h/d?sslcrl=x", "the parameter \"sslcrl\" is not known"),
            ("postgres://u:hunter2@h/d?connect_timeout=soon", "connect_timeout"),
            ("postgres://u:hunter2@[::1/d", "has no ]"),
            ("mysql://u:hunter2@h/d", "must begin with postgres://"),
            ("postgres://h/d", "names no role"),
        ];
        for (text, reason) in wrong {
            let error = parse(text, &[]).expect_err(text);
            assert!(error.contains(reason) && !error.contains("hunter2"), "{error}");
        }
    }
}
