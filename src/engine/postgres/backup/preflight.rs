//! Tries a server before a backup does, and says of each thing that a backup needs how it stands. It takes no image
//! and no locks.

use crate::engine::postgres::backup::image::{ServerRole, role};
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::login::connect;
use crate::engine::postgres::connect::query::{QueryError, RowFields, rows};
use crate::engine::postgres::connect::session::{encoding, number, pid, pooled, prepare};
use crate::engine::postgres::schema::catalog::{self, PgCatalog};
use crate::engine::postgres::schema::dump::{DumpTools, ToolSearch};

/// Versions that are tested.
const MAJORS: std::ops::RangeInclusive<i32> = 13..=18;
/// Names in one remark.
const NAMES_MAX: usize = 8;
/// Locks of other sessions that come and go.
const LOCKS_SPARE: i64 = 200;

/// How something stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Well,
    /// A backup is taken, but something will be missing or may go wrong.
    Doubtful,
    /// No backup can be taken.
    Unfit,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remark {
    pub about: &'static str,
    pub standing: Standing,
    pub what: String,
    /// What to do; empty if all is well.
    pub remedy: String,
}

impl Remark {
    fn well(about: &'static str, what: impl Into<String>) -> Self {
        Self { about, standing: Standing::Well, what: what.into(), remedy: String::new() }
    }

    fn doubtful(about: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { about, standing: Standing::Doubtful, what: what.into(), remedy: remedy.into() }
    }

    fn unfit(about: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { about, standing: Standing::Unfit, what: what.into(), remedy: remedy.into() }
    }
}

/// Looks at everything; fails only if nothing can be learned at all.
pub fn preflight(address: &Address, search: &ToolSearch) -> Result<Vec<Remark>, QueryError> {
    let client = connect(address)?;
    let second = connect(address)?;
    let own = pid(&client)?;
    if let Some(reason) = pooled(own, pid(&second)?, pid(&client)?) {
        return Ok(vec![Remark::unfit("connection", reason, "name the server itself in the source's url")]);
    }
    drop(second);
    let version = number(&client, "asking for the server's version", "SHOW server_version_num")?;
    let encoding = encoding(&client)?;
    prepare(&client, &encoding)?;
    let mut remarks = vec![connection(&client, address)?, server(&client, version)?, standby(&client, address)?];
    remarks.push(tools(search, version));
    // Within one transaction, which an answer that makes no sense would end.
    let catalog = catalog::read_catalog(&client)?;
    remarks.push(rights(&client, &catalog)?);
    remarks.push(identity(&client)?);
    remarks.push(locks(&client, &catalog)?);
    Ok(remarks)
}

fn connection(client: &Client, address: &Address) -> Result<Remark, QueryError> {
    let sql = "SELECT coalesce((SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl), ''),
            coalesce(host(inet_server_addr()), '')";
    let found = rows(client, "asking how we are connected", sql, |fields| Ok((fields.text()?, fields.text()?)))?;
    let (tls, host) = found.into_iter().next().unwrap_or_default();
    let is_near = host.is_empty() || host.starts_with("127.") || host == "::1";
    Ok(match tls.as_str() {
        "" if !is_near => Remark::doubtful(
            "connection",
            format!("{address}, without encryption"),
            "let the server have a certificate, and add sslmode=verify-full to the source's url",
        ),
        "" => Remark::well("connection", address.to_string()),
        tls => Remark::well("connection", format!("{address}, by {tls}")),
    })
}

fn server(client: &Client, version: i32) -> Result<Remark, QueryError> {
    let name = client.value("asking for the server's version", "SHOW server_version")?;
    let (what, major) = (format!("PostgreSQL {name}"), version / 10_000);
    Ok(match major {
        major if major < *MAJORS.start() => {
            Remark::unfit("server", what, format!("upgrade it to {} or newer", MAJORS.start()))
        }
        major if major > *MAJORS.end() => Remark::doubtful(
            "server",
            format!("{what}, which is newer than what was tried"),
            "restore a snapshot of it as a trial",
        ),
        _ => Remark::well("server", what),
    })
}

fn standby(client: &Client, address: &Address) -> Result<Remark, QueryError> {
    match role(client, address) {
        Ok(ServerRole::Primary) => Ok(Remark::well("standby", "none: this is a primary")),
        Ok(ServerRole::Standby) => Ok(Remark::well("standby", "this is one, and it lets a backup read to the end")),
        Err(PostgresError::Unsuitable { reason, .. }) => {
            Ok(Remark::unfit("standby", reason, "change the settings of the standby, or read the primary"))
        }
        Err(error) => Err(error.into()),
    }
}

fn tools(search: &ToolSearch, version: i32) -> Remark {
    let major = u32::try_from(version / 10_000).unwrap_or(0);
    match DumpTools::find(search, major) {
        Ok(tools) => Remark::well("pg_dump", format!("{} of version {}", tools.path().display(), tools.major())),
        Err(error) => Remark::unfit(
            "pg_dump",
            error.to_string(),
            "install it here, or say where it is with pg_bin in sidekeep.toml",
        ),
    }
}

fn rights(client: &Client, catalog: &PgCatalog) -> Result<Remark, QueryError> {
    let sql = "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user";
    let found = rows(client, "asking for rights", sql, |fields| Ok((fields.text()?, fields.boolean()?)))?;
    let (role, is_superuser) = found.into_iter().next().unwrap_or_default();
    let tables = catalog.tables.len();
    if is_superuser {
        return Ok(Remark::well("rights", format!("{role} is a superuser and may read all {tables} tables")));
    }
    let closed: Vec<&str> =
        catalog.unreadable.iter().chain(&catalog.unreadable_sequences).map(String::as_str).collect();
    Ok(match closed.len() {
        0 => Remark::well("rights", format!("{role} may read all {tables} tables and their sequences")),
        count => Remark::doubtful(
            "rights",
            format!("{role} may not read {count} tables and sequences: {}", listed(&closed)),
            "grant the role what docs/postgresql.md says",
        ),
    })
}

/// Whether another server behind the same name would be noticed.
fn identity(client: &Client) -> Result<Remark, QueryError> {
    let sql = "SELECT f FROM (VALUES ('pg_control_system()'), ('pg_control_checkpoint()')) AS v (f)
        WHERE NOT has_function_privilege('pg_catalog.' || f, 'EXECUTE')";
    let closed = rows(client, "asking for rights", sql, RowFields::text)?;
    if closed.is_empty() {
        return Ok(Remark::well("identity", "another server behind the same name would be noticed"));
    }
    let closed: Vec<&str> = closed.iter().map(String::as_str).collect();
    Ok(Remark::doubtful(
        "identity",
        format!("the role may not call {}: another server behind the same name is harder to notice", listed(&closed)),
        "grant the role EXECUTE on these functions",
    ))
}

fn locks(client: &Client, catalog: &PgCatalog) -> Result<Remark, QueryError> {
    let sql = "SELECT current_setting('max_locks_per_transaction')::bigint
            * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint),
        (SELECT count(*) FROM pg_locks WHERE NOT fastpath)";
    let found: Vec<(i64, i64)> =
        rows(client, "asking for room for locks", sql, |fields| Ok((fields.parsed()?, fields.parsed()?)))?;
    let (room, used) = found.into_iter().next().unwrap_or_default();
    let parts: usize = catalog.tables.iter().map(|table| table.parts.len().max(1)).sum();
    let (needed, free) = (i64::try_from(parts).unwrap_or(i64::MAX), room - used);
    let what = format!("a backup needs {needed}; {free} of {room} are free");
    Ok(if needed.saturating_add(LOCKS_SPARE.min(room / 10)) <= free {
        Remark::well("locks", what)
    } else {
        Remark::doubtful("locks", what, "raise max_locks_per_transaction there and restart the server")
    })
}

fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
