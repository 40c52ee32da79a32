//! Endpoints: the hosts of an address, each with its port.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::engine::postgres::connect::parameters::ConnectionParameters;

/// Debian's default, then PostgreSQL's own.
const SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
const PORT: u16 = 5432;

/// One server to try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Endpoint {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

/// How the server is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Host {
    /// A directory with the server's socket.
    Socket(PathBuf),
    /// A name that the server's certificate must have, and the IP address to connect to if the name is not resolved.
    Network { name: String, number: Option<IpAddr> },
}

impl Endpoint {
    /// The host name that a password file uses for this endpoint.
    pub(crate) fn password_file_host(&self) -> String {
        match &self.host {
            Host::Socket(dir) if is_default_socket(dir) => "localhost".to_owned(),
            Host::Socket(dir) => dir.display().to_string(),
            Host::Network { name, .. } => name.clone(),
        }
    }
}

fn is_default_socket(dir: &Path) -> bool {
    SOCKET_DIRS.iter().any(|default| Path::new(default) == dir)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Socket(dir) => write!(f, "{}", dir.display())?,
            Host::Network { name, .. } if name.contains(':') => write!(f, "[{name}]")?,
            Host::Network { name, .. } => f.write_str(name)?,
        }
        write!(f, ":{}", self.port)
    }
}

/// The endpoints given by libpq's `host`, `hostaddr` and `port`, which are comma-separated lists. A single port applies
/// to all hosts.
/// Fails if the lists have different lengths otherwise, a `hostaddr` is not an IP address, or a port is not a number
/// from 1 to 65535.
pub(crate) fn endpoints(parameters: &mut ConnectionParameters) -> Result<Vec<Endpoint>, String> {
    let host = parameters.take_text("host");
    let hostaddr = parameters.take_text("hostaddr");
    let port = parameters.take_text("port").unwrap_or_default();
    let names = list_of(host.as_deref());
    let numbers = list_of(hostaddr.as_deref());
    check_counts(names.len(), numbers.len())?;
    let count = names.len().max(numbers.len()).max(1);
    let mut endpoints = Vec::with_capacity(count);
    for (at, port) in ports(&port, count)?.into_iter().enumerate() {
        let host = host_of(item(&names, at), item(&numbers, at), port)?;
        endpoints.push(Endpoint { host, port });
    }
    Ok(endpoints)
}

fn check_counts(names: usize, numbers: usize) -> Result<(), String> {
    if names > 0 && numbers > 0 && names != numbers {
        return Err(format!("{names} hosts, but {numbers} host addresses"));
    }
    Ok(())
}

fn list_of(text: Option<&str>) -> Vec<&str> {
    text.map(|list| list.split(',').collect()).unwrap_or_default()
}

/// None if there is no item at this position, or an empty one.
fn item<'a>(list: &[&'a str], at: usize) -> Option<&'a str> {
    list.get(at).copied().filter(|item| !item.is_empty())
}

fn host_of(name: Option<&str>, number: Option<&str>, port: u16) -> Result<Host, String> {
    let number = number.map(ip_address).transpose()?;
    match (name, number) {
        (Some(name), None) if name.starts_with('/') => Ok(Host::Socket(PathBuf::from(name))),
        (Some(name), number) => Ok(Host::Network { name: name.to_owned(), number }),
        (None, Some(number)) => Ok(Host::Network { name: number.to_string(), number: Some(number) }),
        (None, None) => Ok(default_host(port)),
    }
}

fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("hostaddr {text:?} is not an IP address"))
}

/// libpq's default if no host is given.
fn default_host(port: u16) -> Host {
    for dir in SOCKET_DIRS {
        let socket = Path::new(dir).join(format!(".s.PGSQL.{port}"));
        if socket.exists() {
            return Host::Socket(PathBuf::from(dir));
        }
    }
    Host::Network { name: "localhost".to_owned(), number: None }
}

/// One port per host. A single port applies to all hosts.
fn ports(list: &str, count: usize) -> Result<Vec<u16>, String> {
    let ports: Vec<u16> = list.split(',').map(port_number).collect::<Result<_, _>>()?;
    match ports.as_slice() {
        [port] => Ok(vec![*port; count]),
        ports if ports.len() == count => Ok(ports.to_vec()),
        ports => Err(format!("{count} hosts, but {} ports", ports.len())),
    }
}

fn port_number(text: &str) -> Result<u16, String> {
    match text.parse() {
        _ if text.is_empty() => Ok(PORT),
        Ok(0) | Err(_) => Err(format!("{text:?} is not a port")),
        Ok(port) => Ok(port),
    }
}
