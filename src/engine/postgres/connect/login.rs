//! From an address to a session: each of its endpoints in turn, until one lets us in.
//!
//! A server that refuses us ends the search, as in libpq: the next would refuse us too, and its message would hide
//! the first. Errors name the server and what to do, and have no password in them.

use std::time::Duration;

use futures_util::FutureExt;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::{Client, OpenFailure, OpenedConnection};
use crate::engine::postgres::connect::driver_config::{config, password};
use crate::engine::postgres::connect::endpoint::{Endpoint, Host};
use crate::engine::postgres::connect::error::{PostgresError, server_message};
use crate::engine::postgres::connect::tls::{TlsMode, connector};

/// Opens a session. Never call from an async task.
pub fn connect(address: &Address) -> Result<Client, PostgresError> {
    connect_with_endpoint(address).map(|(client, _)| client)
}

/// Opens a session, and says which of the address's endpoints it is at.
pub(crate) fn connect_with_endpoint(address: &Address) -> Result<(Client, &Endpoint), PostgresError> {
    let unusable = |reason| PostgresError::Connect { place: address.to_string(), reason };
    let tls = connector(&address.tls).map_err(unusable)?;
    let mut refusals = Vec::new();
    for endpoint in &address.endpoints {
        match at_endpoint(address, endpoint, tls.as_ref()) {
            Ok(client) => return Ok((client, endpoint)),
            Err(EndpointRefusal { reason, next }) => {
                refusals.push((endpoint, reason));
                if next == NextEndpoint::End {
                    break;
                }
            }
        }
    }
    Err(nowhere(address, &refusals))
}

/// Each endpoint that was tried, with what it had to say: it may not be the last that was to answer.
fn nowhere(address: &Address, refusals: &[(&Endpoint, String)]) -> PostgresError {
    let place = address.to_string();
    match refusals {
        [] => PostgresError::Connect { place, reason: "it names no host".to_owned() },
        [(endpoint, reason)] => PostgresError::Connect { place: address.at(endpoint), reason: reason.clone() },
        several => {
            let each: Vec<String> =
                several.iter().map(|(endpoint, reason)| format!("on {endpoint}: {reason}")).collect();
            PostgresError::Connect { place, reason: each.join("; ") }
        }
    }
}

/// Why one endpoint gave no session, and whether another may.
struct EndpointRefusal {
    reason: String,
    next: NextEndpoint,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NextEndpoint {
    Endpoint,
    End,
}

fn at_endpoint(
    address: &Address,
    endpoint: &Endpoint,
    tls: Option<&MakeRustlsConnect>,
) -> Result<Client, EndpointRefusal> {
    let (password, note) = password(address, endpoint);
    let mut config = config(address, endpoint).map_err(|reason| EndpointRefusal { reason, next: NextEndpoint::End })?;
    if let Some(password) = &password {
        config.password(password.as_bytes());
    }
    let tls = tls.filter(|_| matches!(endpoint.host, Host::Network { .. }));
    config.ssl_mode(match address.tls.mode {
        _ if tls.is_none() => SslMode::Disable,
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    let attempt = |config: &Config| {
        let opening = open(config, tls, address.connect_timeout);
        Client::open(opening, address.cancel.clone(), tls.cloned()).map_err(|failure| match failure {
            OpenFailure::Runtime(error) => LoginFailure::Here(error),
            OpenFailure::Stopped => LoginFailure::Stopped,
            OpenFailure::Opening(failure) => failure,
        })
    };
    let mut opened = attempt(&config);
    // Neither of us insists on TLS: a server that cannot, or wants it not, is asked again without.
    let may_go_without = matches!(&opened, Err(LoginFailure::Driver(error)) if is_about_tls(error));
    if config.get_ssl_mode() == SslMode::Prefer && may_go_without {
        opened = attempt(config.ssl_mode(SslMode::Disable));
    }
    opened.map_err(|failure| refusal(&failure, address, note))
}

enum LoginFailure {
    Driver(tokio_postgres::Error),
    Slow,
    /// Somebody wished to stop.
    Stopped,
    /// This machine has no room for a session.
    Here(std::io::Error),
}

async fn open(
    config: &Config,
    tls: Option<&MakeRustlsConnect>,
    time_limit: Duration,
) -> Result<OpenedConnection, LoginFailure> {
    let connecting = async {
        Ok(match tls {
            Some(tls) => {
                let (inner, connection) = config.connect(tls.clone()).await?;
                OpenedConnection { inner, connection: tokio::spawn(connection.map(|_| ())) }
            }
            None => {
                let (inner, connection) = config.connect(NoTls).await?;
                OpenedConnection { inner, connection: tokio::spawn(connection.map(|_| ())) }
            }
        })
    };
    match tokio::time::timeout(time_limit, connecting).await {
        Ok(opened) => opened.map_err(LoginFailure::Driver),
        Err(_) => Err(LoginFailure::Slow),
    }
}

/// Whether the server may have said no only to the way in which we came.
fn is_about_tls(error: &tokio_postgres::Error) -> bool {
    let no_entry = error.code().is_some_and(|code| code.code() == "28000");
    no_entry || (error.as_db_error().is_none() && error.to_string().contains("TLS"))
}

fn refusal(failure: &LoginFailure, address: &Address, note: Option<String>) -> EndpointRefusal {
    let error = match failure {
        LoginFailure::Driver(error) => error,
        LoginFailure::Slow => {
            let seconds = address.connect_timeout.as_secs();
            let advice = "see whether a firewall is between, or set connect_timeout";
            return EndpointRefusal {
                reason: format!("no answer within {seconds} s; {advice}"),
                next: NextEndpoint::Endpoint,
            };
        }
        LoginFailure::Here(error) => {
            let reason = format!("this machine has no room for a session: {error}");
            return EndpointRefusal { reason, next: NextEndpoint::End };
        }
        LoginFailure::Stopped => return EndpointRefusal { reason: "stopped".to_owned(), next: NextEndpoint::End },
    };
    let (next, advice) = match error.code().map(tokio_postgres::error::SqlState::code) {
        Some("28P01") => {
            (NextEndpoint::End, "give the role's password by PGPASSWORD, a password file or a service file")
        }
        Some("28000") => {
            (NextEndpoint::End, "see whether the role exists, may log in, and pg_hba.conf lets it in from here")
        }
        Some("3D000") => (NextEndpoint::End, "name a database that exists; psql -l lists them"),
        Some("42501") => (NextEndpoint::End, "grant the role CONNECT on the database"),
        Some("53300") => {
            (NextEndpoint::End, "raise max_connections or the limit of the role or database, or use fewer --workers")
        }
        Some("57P03") => (NextEndpoint::Endpoint, "the server starts or stops; try again soon"),
        Some(_) => (NextEndpoint::End, "see the server's log"),
        None => without_code(error),
    };
    let notes = note.map(|note| format!("; {note}")).unwrap_or_default();
    EndpointRefusal { reason: format!("{}{notes}; {advice}", server_message(error)), next }
}

/// Errors that are ours, the network's, or the driver's.
fn without_code(error: &tokio_postgres::Error) -> (NextEndpoint, &'static str) {
    let cause = std::error::Error::source(error);
    let said = server_message(error);
    if said.contains("password missing") {
        (NextEndpoint::End, "give the role's password by PGPASSWORD, a password file or a service file")
    } else if error.to_string().contains("TLS") {
        (NextEndpoint::End, about_certificate(&said))
    } else if cause.is_some_and(|cause| cause.is::<std::io::Error>()) {
        (NextEndpoint::Endpoint, "see whether the server runs and listens there")
    } else {
        (NextEndpoint::End, "see the server's log")
    }
}

/// What helps against what TLS says of a certificate.
fn about_certificate(said: &str) -> &'static str {
    if said.contains("CaUsedAsEndEntity") {
        "the server's certificate is an authority's, which signed itself: give the server one that is none \
         (docs/postgresql.md says how), or take sslmode=require without sslrootcert, which trusts anybody"
    } else if said.contains("UnknownIssuer") {
        "let sslrootcert name a file with the authority that signed the server's certificate, or with that certificate \
         itself if it signed itself"
    } else {
        "see sslmode and sslrootcert, and which names the server's certificate has"
    }
}
