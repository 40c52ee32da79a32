//! Checks what a backup needs of a server, before a backup does. It takes no image and no locks.

use crate::engine::postgres::backup::image::{ServerRole, role};
use crate::engine::postgres::backup::name_list::abbreviated;
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
/// Locks of other sessions that come and go.
const SPARE_LOCKS: i64 = 200;

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

/// Checks everything; fails only if nothing can be learned at all.
pub fn preflight(address: &Address, search: &ToolSearch) -> Result<Vec<Remark>, QueryError> {
    let client = connect(address)?;
    if let Some(reason) = pooler(&client, address)? {
        return Ok(vec![Remark::unfit("connection", reason, "name the server itself in the source's url")]);
    }
    let version = number(&client, "asking for the server's version", "SHOW server_version_num")?;
    let encoding = encoding(&client)?;
    prepare(&client, &encoding)?;
    let mut remarks = vec![
        connection(&client, address)?,
        server(&client, version)?,
        standby(&client, address)?,
        tools(search, version),
    ];
    // Within one transaction, which an answer that makes no sense would end.
    let catalog = catalog::read_catalog(&client)?;
    remarks.push(rights(&client, &catalog)?);
    remarks.push(identity(&client)?);
    remarks.push(locks(&client, &catalog)?);
    Ok(remarks)
}

/// How a pooler shows in the server processes of two connections, if it does.
fn pooler(client: &Client, address: &Address) -> Result<Option<String>, QueryError> {
    let second = connect(address)?;
    let own = pid(client)?;
    Ok(pooled(own, pid(&second)?, pid(client)?))
}

/// The first row of an answer; an empty one where there is none.
fn first_row<T: Default>(
    client: &Client,
    doing: &'static str,
    sql: &str,
    read: impl Fn(&mut RowFields) -> Result<T, QueryError>,
) -> Result<T, QueryError> {
    let found = rows(client, doing, sql, read)?;
    Ok(found.into_iter().next().unwrap_or_default())
}

fn connection(client: &Client, address: &Address) -> Result<Remark, QueryError> {
    let sql = "SELECT coalesce((SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl), ''),
            coalesce(host(inet_server_addr()), '')";
    let (tls, host): (String, String) =
        first_row(client, "asking how we are connected", sql, |fields| Ok((fields.text()?, fields.text()?)))?;
    Ok(match tls.as_str() {
        "" if !is_local(&host) => Remark::doubtful(
            "connection",
            format!("{address}, without encryption"),
            "let the server have a certificate, and add sslmode=verify-full to the source's url",
        ),
        "" => Remark::well("connection", address.to_string()),
        tls => Remark::well("connection", format!("{address}, by {tls}")),
    })
}

/// Whether a server's address is that of a socket or of the same machine.
fn is_local(host: &str) -> bool {
    host.is_empty() || host.starts_with("127.") || host == "::1"
}

fn server(client: &Client, version: i32) -> Result<Remark, QueryError> {
    let name = client.value("asking for the server's version", "SHOW server_version")?;
    let what = format!("PostgreSQL {name}");
    let major = version / 10_000;
    if major < *MAJORS.start() {
        return Ok(Remark::unfit("server", what, format!("upgrade it to {} or newer", MAJORS.start())));
    }
    if major > *MAJORS.end() {
        let what = format!("{what}, which is newer than what was tried");
        return Ok(Remark::doubtful("server", what, "restore a snapshot of it as a trial"));
    }
    Ok(Remark::well("server", what))
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
    let (role, is_superuser) =
        first_row(client, "asking for rights", sql, |fields| Ok((fields.text()?, fields.boolean()?)))?;
    let tables = catalog.tables.len();
    if is_superuser {
        return Ok(Remark::well("rights", format!("{role} is a superuser and may read all {tables} tables")));
    }
    let unreadable = [&catalog.unreadable[..], &catalog.unreadable_sequences[..]].concat();
    if unreadable.is_empty() {
        return Ok(Remark::well("rights", format!("{role} may read all {tables} tables and their sequences")));
    }
    let count = unreadable.len();
    Ok(Remark::doubtful(
        "rights",
        format!("{role} may not read {count} tables and sequences: {}", abbreviated(&unreadable)),
        "grant the role what docs/postgresql.md says",
    ))
}

/// Whether another server behind the same name would be noticed.
fn identity(client: &Client) -> Result<Remark, QueryError> {
    let sql = "SELECT f FROM (VALUES ('pg_control_system()'), ('pg_control_checkpoint()')) AS v (f)
        WHERE NOT has_function_privilege('pg_catalog.' || f, 'EXECUTE')";
    let refused = rows(client, "asking for rights", sql, RowFields::text)?;
    if refused.is_empty() {
        return Ok(Remark::well("identity", "another server behind the same name would be noticed"));
    }
    let refused = abbreviated(&refused);
    Ok(Remark::doubtful(
        "identity",
        format!("the role may not call {refused}: another server behind the same name is harder to notice"),
        "grant the role EXECUTE on these functions",
    ))
}

fn locks(client: &Client, catalog: &PgCatalog) -> Result<Remark, QueryError> {
    let sql = "SELECT current_setting('max_locks_per_transaction')::bigint
            * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint),
        (SELECT count(*) FROM pg_locks WHERE NOT fastpath)";
    let (room, used): (i64, i64) =
        first_row(client, "asking for room for locks", sql, |fields| Ok((fields.parsed()?, fields.parsed()?)))?;
    let free = room - used;
    let needed = needed_locks(catalog);
    let what = format!("a backup needs {needed}; {free} of {room} are free");
    if needed.saturating_add(SPARE_LOCKS.min(room / 10)) <= free {
        return Ok(Remark::well("locks", what));
    }
    Ok(Remark::doubtful("locks", what, "raise max_locks_per_transaction there and restart the server"))
}

fn needed_locks(catalog: &PgCatalog) -> i64 {
    let parts: usize = catalog.tables.iter().map(|table| table.parts.len().max(1)).sum();
    i64::try_from(parts).unwrap_or(i64::MAX)
}
