//! Where a server may be: the hosts of an address, each with its port.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Debian's, then the one that servers are built with.
const SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
const PORT: u16 = 5432;

/// One server to try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Endpoint {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

/// How it is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Host {
    /// A directory with the server's socket.
    Socket(PathBuf),
    /// A name, which its certificate must have, and the number to go to, if that is not looked up.
    Network { name: String, number: Option<IpAddr> },
}

impl Endpoint {
    /// The name that a password file has for it.
    pub(crate) fn passfile_host(&self) -> String {
        match &self.host {
            Host::Socket(dir) if SOCKET_DIRS.iter().any(|usual| Path::new(usual) == dir) => "localhost".to_owned(),
            Host::Socket(dir) => dir.display().to_string(),
            Host::Network { name, .. } => name.clone(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Socket(dir) => write!(f, "{}:{}", dir.display(), self.port),
            Host::Network { name, .. } if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Network { name, .. } => write!(f, "{name}:{}", self.port),
        }
    }
}

/// The endpoints that libpq's `host`, `hostaddr` and `port` name, each a list with commas.
pub(crate) fn endpoints(
    host: Option<&str>,
    hostaddr: Option<&str>,
    port: Option<&str>,
) -> Result<Vec<Endpoint>, String> {
    let names: Vec<&str> = host.map(|list| list.split(',').collect()).unwrap_or_default();
    let numbers: Vec<&str> = hostaddr.map(|list| list.split(',').collect()).unwrap_or_default();
    if !names.is_empty() && !numbers.is_empty() && names.len() != numbers.len() {
        return Err(format!("{} hosts, but {} host addresses", names.len(), numbers.len()));
    }
    let count = names.len().max(numbers.len()).max(1);
    let ports = ports(port.unwrap_or_default(), count)?;
    let endpoints = ports.into_iter().enumerate().map(|(at, port)| {
        let name = names.get(at).copied().filter(|name| !name.is_empty());
        let number = numbers.get(at).copied().filter(|number| !number.is_empty());
        Ok(Endpoint { host: one(name, number, port)?, port })
    });
    endpoints.collect()
}

fn one(name: Option<&str>, number: Option<&str>, port: u16) -> Result<Host, String> {
    let parsed =
        number.map(|number| number.parse::<IpAddr>().map_err(|_| format!("hostaddr {number:?} is no address")));
    let number = parsed.transpose()?;
    match (name, number) {
        (Some(name), None) if name.starts_with('/') => Ok(Host::Socket(PathBuf::from(name))),
        (Some(name), number) => Ok(Host::Network { name: name.to_owned(), number }),
        (None, Some(number)) => Ok(Host::Network { name: number.to_string(), number: Some(number) }),
        (None, None) => Ok(usual(port)),
    }
}

/// What libpq goes to when nobody named a host.
fn usual(port: u16) -> Host {
    let has_socket = |dir: &&str| Path::new(dir).join(format!(".s.PGSQL.{port}")).exists();
    match SOCKET_DIRS.iter().find(|dir| has_socket(dir)) {
        Some(dir) => Host::Socket(PathBuf::from(dir)),
        None => Host::Network { name: "localhost".to_owned(), number: None },
    }
}

fn ports(list: &str, count: usize) -> Result<Vec<u16>, String> {
    let one = |port: &str| match port {
        "" => Ok(PORT),
        port => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("{port:?} is no port")),
    };
    let ports: Vec<u16> = list.split(',').map(one).collect::<Result<_, _>>()?;
    match ports.as_slice() {
        [port] => Ok(vec![*port; count]),
        ports if ports.len() == count => Ok(ports.to_vec()),
        ports => Err(format!("{count} hosts, but {} ports", ports.len())),
    }
}
