//! Connection URLs of PostgreSQL databases, parsed as libpq does.

use zeroize::Zeroizing;

use crate::engine::postgres::connect::parameters::ConnectionParameters;

/// The parameters of a URL, by libpq's names.
/// Follows "Connection URIs" in PostgreSQL's libpq documentation.
/// Fails if the scheme is another, a `[` is not closed, a parameter has no value, or percent-encoding is malformed or
/// encodes a zero byte or text that is not UTF-8. The reason contains no value.
pub(crate) fn url_parameters(text: &str) -> Result<ConnectionParameters, String> {
    if let Some(name) = text.strip_prefix("service=") {
        return Ok(service_parameters(name));
    }
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    let rest = rest.ok_or("it must begin with postgres://, postgresql:// or service=")?;
    parameters_of(rest)
}

/// `rest` is what follows the scheme.
fn parameters_of(rest: &str) -> Result<ConnectionParameters, String> {
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut parameters = ConnectionParameters::default();
    add_location(&mut parameters, location)?;
    add_query(&mut parameters, query)?;
    Ok(parameters)
}

fn service_parameters(name: &str) -> ConnectionParameters {
    let mut parameters = ConnectionParameters::default();
    parameters.set("service", Zeroizing::new(name.to_owned()));
    parameters
}

/// Parses `user:password@hosts/database`.
fn add_location(parameters: &mut ConnectionParameters, location: &str) -> Result<(), String> {
    let (authority, database) = location.split_once('/').unwrap_or((location, ""));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let HostList { hosts, ports } = HostList::parse(hosts)?;
    add_written(parameters, "user", user)?;
    add_written(parameters, "password", password)?;
    add_written(parameters, "host", without_lone_commas(&hosts))?;
    add_written(parameters, "port", without_lone_commas(&ports))?;
    add_written(parameters, "dbname", database)
}

fn add_written(parameters: &mut ConnectionParameters, key: &str, value: &str) -> Result<(), String> {
    if !value.is_empty() {
        parameters.set(key, percent_decode(key, value)?);
    }
    Ok(())
}

/// A list of only commas is empty, such as the ports of two hosts without ports.
fn without_lone_commas(list: &str) -> &str {
    if list.trim_matches(',').is_empty() { "" } else { list }
}

/// Hosts and their ports, as comma-separated lists.
struct HostList {
    hosts: String,
    ports: String,
}

impl HostList {
    /// Splits `one:1,[::2]:3`.
    fn parse(list: &str) -> Result<Self, String> {
        let mut hosts = Vec::new();
        let mut ports = Vec::new();
        for part in list.split(',') {
            let (host, port) = host_and_port(part)?;
            hosts.push(host);
            ports.push(port.strip_prefix(':').unwrap_or(port));
        }
        Ok(Self { hosts: hosts.join(","), ports: ports.join(",") })
    }
}

/// Splits a host from its port. The port may still begin with the colon.
fn host_and_port(part: &str) -> Result<(&str, &str), &'static str> {
    match part.strip_prefix('[') {
        Some(part) => part.split_once(']').ok_or("a host begins with [ and has no closing ]"),
        None => Ok(part.split_at(part.find(':').unwrap_or(part.len()))),
    }
}

fn add_query(parameters: &mut ConnectionParameters, query: &str) -> Result<(), String> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        add_pair(parameters, pair)?;
    }
    Ok(())
}

fn add_pair(parameters: &mut ConnectionParameters, pair: &str) -> Result<(), String> {
    let (key, value) = pair.split_once('=').ok_or("a parameter of the URL has no value")?;
    let key = percent_decode("a parameter's name", key)?;
    match (key.as_str(), value) {
        ("ssl", "true") => parameters.set("sslmode", Zeroizing::new("require".to_owned())),
        (key, value) => parameters.set(key, percent_decode(key, value)?),
    }
    Ok(())
}

/// The address as it was written, without passwords.
#[must_use]
pub fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = location.split_at(location.find('/').unwrap_or(location.len()));
    let authority = authority_without_password(authority);
    let query = query_without_password(query);
    format!("{scheme}://{authority}{database}{query}")
}

fn authority_without_password(authority: &str) -> String {
    let Some((login, hosts)) = authority.rsplit_once('@') else { return authority.to_owned() };
    let (user, _) = login.split_once(':').unwrap_or((login, ""));
    format!("{user}@{hosts}")
}

fn query_without_password(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let kept: Vec<&str> = pairs.filter(|pair| !is_password(pair)).collect();
    if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) }
}

fn is_password(pair: &str) -> bool {
    let key = pair.split('=').next().unwrap_or_default();
    percent_decode("a parameter", key).is_ok_and(|key| key.to_ascii_lowercase().contains("password"))
}

/// Writes characters that are neither unreserved nor in `kept` as `%41`.
pub(crate) fn percent_encode(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || "-._~".contains(c) || kept.contains(c) {
            out.push(c);
        } else {
            push_percent_encoded(&mut out, c);
        }
    }
    out
}

fn push_percent_encoded(out: &mut String, c: char) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        out.push_str(&format!("%{byte:02X}"));
    }
}

/// Decodes `%41`. Errors never repeat the text, because it may be a password.
fn percent_decode(what: &str, text: &str) -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        match hexadecimal_byte(after) {
            Some(0) => return Err(format!("{what} contains a zero byte")),
            Some(byte) => bytes.push(byte),
            None => return Err(format!("{what} has a % that is not followed by two hexadecimal digits")),
        }
        rest = &after[2..];
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{what} is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The byte that the first two characters encode.
fn hexadecimal_byte(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text.get(..2)?).ok()?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn passwords_are_removed() {
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
}
