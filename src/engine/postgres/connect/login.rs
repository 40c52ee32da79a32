//! Opens a session from an address: tries each of its endpoints until one accepts us.
//!
//! If a server refuses us, no further endpoint is tried, as in libpq: the next would refuse us too, and its message
//! would hide the first. Errors name the server and what to do, and contain no password.

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

/// Opens a session. Never call this from an async task.
/// Fails if a certificate or key cannot be used, or if every endpoint that is tried refuses us or does not answer
/// within `connect_timeout`.
pub fn connect(address: &Address) -> Result<Client, PostgresError> {
    connect_with_endpoint(address).map(|(client, _)| client)
}

/// Opens a session, and returns the endpoint that it is connected to.
/// Fails as [`connect`] does.
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

/// Reports each endpoint that was tried: the last one need not be the one that should have answered.
fn no_session(address: &Address, refusals: &[(&Endpoint, String)]) -> PostgresError {
    let place = address.to_string();
    match refusals {
        [] => PostgresError::Connect { place, reason: "it has no host".to_owned() },
        [(endpoint, reason)] => PostgresError::Connect { place: address.name_at(endpoint), reason: reason.clone() },
        several => PostgresError::Connect { place, reason: all_reasons(several) },
    }
}

fn all_reasons(refusals: &[(&Endpoint, String)]) -> String {
    let reasons: Vec<String> = refusals.iter().map(|(endpoint, reason)| format!("on {endpoint}: {reason}")).collect();
    reasons.join("; ")
}

/// Why an endpoint refused a session, and whether to try another.
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

/// Logs in with TLS, and again without it if TLS is only preferred.
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

/// TLS is not required here. A server that does not support it, or refuses us with it, is tried again without.
fn may_succeed_without_tls(opened: &Result<Client, LoginFailure>) -> bool {
    let Err(LoginFailure::Driver(error)) = opened else { return false };
    let is_no_entry = error.code().is_some_and(|code| code.code() == "28000");
    is_no_entry || (error.as_db_error().is_none() && error.to_string().contains("TLS"))
}

enum LoginFailure {
    Driver(tokio_postgres::Error),
    Slow,
    /// The operation was cancelled.
    Stopped,
    /// The operating system refused what a session needs.
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
        LoginFailure::Here(error) => EndpointRefusal::last(format!("this machine cannot open a session: {error}")),
        LoginFailure::Stopped => EndpointRefusal::last("stopped".to_owned()),
    }
}

fn no_answer(time_limit: Duration) -> EndpointRefusal {
    let seconds = time_limit.as_secs();
    let advice = "check for a firewall in between, or raise connect_timeout";
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

/// What the user can do, and whether another endpoint may accept us.
struct LoginAdvice {
    next: NextEndpoint,
    text: &'static str,
}

impl LoginAdvice {
    const PASSWORD: Self = Self::last("give the role's password in PGPASSWORD, a password file or a service file");
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
        "28000" => LoginAdvice::last(
            "check that the role exists and may log in, and that pg_hba.conf admits it from this machine",
        ),
        "3D000" => LoginAdvice::last("name a database that exists; psql -l lists them"),
        "42501" => LoginAdvice::last("grant the role CONNECT on the database"),
        "53300" => {
            LoginAdvice::last("raise max_connections or the limit of the role or database, or use fewer --workers")
        }
        "57P03" => LoginAdvice::continuing("the server is starting up or shutting down; retry soon"),
        _ => LoginAdvice::SERVER_LOG,
    }
}

/// Errors of our own, the network or the driver.
fn advice_without_state(error: &tokio_postgres::Error) -> LoginAdvice {
    let message = server_message(error);
    let cause = std::error::Error::source(error);
    if message.contains("password missing") {
        LoginAdvice::PASSWORD
    } else if error.to_string().contains("TLS") {
        LoginAdvice::last(certificate_advice(&message))
    } else if cause.is_some_and(|cause| cause.is::<std::io::Error>()) {
        LoginAdvice::continuing("check that the server runs and listens there")
    } else {
        LoginAdvice::SERVER_LOG
    }
}

/// What to do about a TLS error that concerns a certificate.
fn certificate_advice(message: &str) -> &'static str {
    if message.contains("CaUsedAsEndEntity") {
        "the server uses a self-signed certificate authority as its certificate: install a server certificate that is \
         not an authority (see docs/postgresql.md), or use sslmode=require without sslrootcert, which trusts any server"
    } else if message.contains("UnknownIssuer") {
        "set sslrootcert to a file with the authority that signed the server's certificate, or with that certificate \
         if it is self-signed"
    } else {
        "check sslmode, sslrootcert and the names in the server's certificate"
    }
}
