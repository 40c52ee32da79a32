//! From an address to a session: each of its endpoints in turn, until one lets us in.
//!
//! A server that refuses us ends the search, as in libpq: the next would refuse us too, and its message would hide
//! the first. Errors name the server and what to do, and have no password in them.

use std::time::Duration;

use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::{Client, OpenFailure, OpenedConnection};
use crate::engine::postgres::connect::driver_config::{EndpointPassword, config};
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
        match connect_to(address, endpoint, tls.as_ref()) {
            Ok(client) => {
                tracing::info!(server = address.name_at(endpoint), "session opens");
                return Ok((client, endpoint));
            }
            Err(EndpointRefusal { reason, next }) => {
                tracing::info!(server = address.name_at(endpoint), reason, "no session");
                refusals.push((endpoint, reason));
                if next == NextEndpoint::End {
                    break;
                }
            }
        }
    }
    Err(no_session(address, &refusals))
}

/// Each endpoint that was tried, with what it had to say: it may not be the last that was to answer.
fn no_session(address: &Address, refusals: &[(&Endpoint, String)]) -> PostgresError {
    let place = address.to_string();
    match refusals {
        [] => PostgresError::Connect { place, reason: "it names no host".to_owned() },
        [(endpoint, reason)] => PostgresError::Connect { place: address.name_at(endpoint), reason: reason.clone() },
        several => PostgresError::Connect { place, reason: all_reasons(several) },
    }
}

fn all_reasons(refusals: &[(&Endpoint, String)]) -> String {
    let reasons: Vec<String> = refusals.iter().map(|(endpoint, reason)| format!("on {endpoint}: {reason}")).collect();
    reasons.join("; ")
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

impl EndpointRefusal {
    fn last(reason: String) -> Self {
        Self { reason, next: NextEndpoint::End }
    }
}

fn connect_to(
    address: &Address,
    endpoint: &Endpoint,
    tls: Option<&MakeRustlsConnect>,
) -> Result<Client, EndpointRefusal> {
    let tls = tls.filter(|_| matches!(endpoint.host, Host::Network { .. }));
    let EndpointPassword { password, note } = EndpointPassword::of(address, endpoint);
    let mut config = config(address, endpoint).map_err(EndpointRefusal::last)?;
    if let Some(password) = &password {
        config.password(password.as_bytes());
    }
    config.ssl_mode(ssl_mode(address.tls.mode, tls));
    log_in_as_allowed(address, &mut config, tls).map_err(|failure| refusal(&failure, address, note))
}

/// With TLS, and where it is only preferred without it as well.
fn log_in_as_allowed(
    address: &Address,
    config: &mut Config,
    tls: Option<&MakeRustlsConnect>,
) -> Result<Client, LoginFailure> {
    let opened = log_in(address, config, tls);
    if config.get_ssl_mode() == SslMode::Prefer && may_succeed_without_tls(&opened) {
        return log_in(address, config.ssl_mode(SslMode::Disable), tls);
    }
    opened
}

fn ssl_mode(mode: TlsMode, tls: Option<&MakeRustlsConnect>) -> SslMode {
    match mode {
        _ if tls.is_none() => SslMode::Disable,
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    }
}

/// Neither of us insists on TLS: a server that cannot, or wants it not, is asked again without.
fn may_succeed_without_tls(opened: &Result<Client, LoginFailure>) -> bool {
    let Err(LoginFailure::Driver(error)) = opened else { return false };
    let is_no_entry = error.code().is_some_and(|code| code.code() == "28000");
    is_no_entry || (error.as_db_error().is_none() && error.to_string().contains("TLS"))
}

enum LoginFailure {
    Driver(tokio_postgres::Error),
    Slow,
    /// Somebody wished to stop.
    Stopped,
    /// This machine has no room for a session.
    Here(std::io::Error),
}

fn log_in(address: &Address, config: &Config, tls: Option<&MakeRustlsConnect>) -> Result<Client, LoginFailure> {
    let opening = open_in_time(config, tls, address.connect_timeout);
    Client::open(opening, address.cancel.clone(), tls.cloned()).map_err(LoginFailure::from)
}

impl From<OpenFailure<LoginFailure>> for LoginFailure {
    fn from(failure: OpenFailure<LoginFailure>) -> Self {
        match failure {
            OpenFailure::Runtime(error) => Self::Here(error),
            OpenFailure::Stopped => Self::Stopped,
            OpenFailure::Opening(failure) => failure,
        }
    }
}

async fn open_in_time(
    config: &Config,
    tls: Option<&MakeRustlsConnect>,
    time_limit: Duration,
) -> Result<OpenedConnection, LoginFailure> {
    match tokio::time::timeout(time_limit, open(config, tls)).await {
        Ok(opened) => opened.map_err(LoginFailure::Driver),
        Err(_) => Err(LoginFailure::Slow),
    }
}

async fn open(config: &Config, tls: Option<&MakeRustlsConnect>) -> Result<OpenedConnection, tokio_postgres::Error> {
    match tls {
        Some(tls) => OpenedConnection::open(config, tls.clone()).await,
        None => OpenedConnection::open(config, NoTls).await,
    }
}

fn refusal(failure: &LoginFailure, address: &Address, note: Option<String>) -> EndpointRefusal {
    match failure {
        LoginFailure::Driver(error) => driver_refusal(error, note),
        LoginFailure::Slow => no_answer(address.connect_timeout),
        LoginFailure::Here(error) => EndpointRefusal::last(format!("this machine has no room for a session: {error}")),
        LoginFailure::Stopped => EndpointRefusal::last("stopped".to_owned()),
    }
}

fn no_answer(time_limit: Duration) -> EndpointRefusal {
    let seconds = time_limit.as_secs();
    let advice = "see whether a firewall is between, or set connect_timeout";
    EndpointRefusal { reason: format!("no answer within {seconds} s; {advice}"), next: NextEndpoint::Endpoint }
}

fn driver_refusal(error: &tokio_postgres::Error, note: Option<String>) -> EndpointRefusal {
    let advice = match error.code() {
        Some(state) => advice_for_state(state.code()),
        None => advice_without_state(error),
    };
    let note = note.map(|note| format!("; {note}")).unwrap_or_default();
    EndpointRefusal { reason: format!("{}{note}; {}", server_message(error), advice.text), next: advice.next }
}

/// What the user may do, and whether another endpoint may let us in meanwhile.
struct LoginAdvice {
    next: NextEndpoint,
    text: &'static str,
}

impl LoginAdvice {
    const PASSWORD: Self = Self::last("give the role's password by PGPASSWORD, a password file or a service file");
    const SERVER_LOG: Self = Self::last("see the server's log");

    const fn last(text: &'static str) -> Self {
        Self { next: NextEndpoint::End, text }
    }

    const fn continuing(text: &'static str) -> Self {
        Self { next: NextEndpoint::Endpoint, text }
    }
}

fn advice_for_state(sqlstate: &str) -> LoginAdvice {
    match sqlstate {
        "28P01" => LoginAdvice::PASSWORD,
        "28000" => LoginAdvice::last("see whether the role exists, may log in, and pg_hba.conf lets it in from here"),
        "3D000" => LoginAdvice::last("name a database that exists; psql -l lists them"),
        "42501" => LoginAdvice::last("grant the role CONNECT on the database"),
        "53300" => {
            LoginAdvice::last("raise max_connections or the limit of the role or database, or use fewer --workers")
        }
        "57P03" => LoginAdvice::continuing("the server starts or stops; try again soon"),
        _ => LoginAdvice::SERVER_LOG,
    }
}

/// Errors that are ours, the network's, or the driver's.
fn advice_without_state(error: &tokio_postgres::Error) -> LoginAdvice {
    let message = server_message(error);
    let cause = std::error::Error::source(error);
    if message.contains("password missing") {
        LoginAdvice::PASSWORD
    } else if error.to_string().contains("TLS") {
        LoginAdvice::last(certificate_advice(&message))
    } else if cause.is_some_and(|cause| cause.is::<std::io::Error>()) {
        LoginAdvice::continuing("see whether the server runs and listens there")
    } else {
        LoginAdvice::SERVER_LOG
    }
}

/// What helps against what TLS says of a certificate.
fn certificate_advice(message: &str) -> &'static str {
    if message.contains("CaUsedAsEndEntity") {
        "the server's certificate is an authority's, which signed itself: give the server one that is none \
         (docs/postgresql.md says how), or take sslmode=require without sslrootcert, which trusts anybody"
    } else if message.contains("UnknownIssuer") {
        "let sslrootcert name a file with the authority that signed the server's certificate, or with that certificate \
         itself if it signed itself"
    } else {
        "see sslmode and sslrootcert, and which names the server's certificate has"
    }
}
