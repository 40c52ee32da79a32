//! Checks whether a server meets the needs of a backup, without taking an image or locks.

use crate::base::finding::{Finding, FindingKind, Severity};
use crate::engine::postgres::backup::image::{ServerRole, find_pooler, role};
use crate::engine::postgres::backup::name_list::abbreviated;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::login::connect;
use crate::engine::postgres::connect::query::{QueryError, RowFields, rows};
use crate::engine::postgres::connect::server_facts::{encoding, major_version, number, pid};
use crate::engine::postgres::connect::session_settings::ServerSettings;
use crate::engine::postgres::schema::catalog::{self, PgCatalog};
use crate::engine::postgres::schema::dump::{DumpTools, ToolSearch};

/// Major versions that are tested.
const MAJORS: std::ops::RangeInclusive<i32> = 13..=18;
/// Room for locks of other sessions, which come and go.
const SPARE_LOCKS: i64 = 200;

/// The result of one check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerCheck {
    pub about: &'static str,
    /// What was seen if all is well. A finding of severity failure means that no backup can be taken.
    pub outcome: Result<String, Finding>,
}

impl ServerCheck {
    fn well(about: &'static str, detail: impl Into<String>) -> Self {
        Self { about, outcome: Ok(detail.into()) }
    }

    /// A backup can be taken, but something will be missing or may go wrong.
    fn doubtful(about: &'static str, kind: FindingKind, detail: impl ToString, remedy: &str) -> Self {
        Self::found(about, Finding::new(kind, about, detail).with_severity(Severity::Warning).with_remedy(remedy))
    }

    /// No backup can be taken.
    fn unfit(about: &'static str, kind: FindingKind, detail: impl ToString, remedy: &str) -> Self {
        Self::found(about, Finding::new(kind, about, detail).with_severity(Severity::Failure).with_remedy(remedy))
    }

    fn found(about: &'static str, finding: Finding) -> Self {
        Self { about, outcome: Err(finding) }
    }

    /// Whether this check rules out a backup.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        self.outcome.as_ref().is_err_and(|finding| finding.severity == Severity::Failure)
    }
}

/// Runs all checks. Fails only if the server cannot be queried.
pub fn preflight(address: &Address, search: &ToolSearch) -> Result<Vec<ServerCheck>, QueryError> {
    let client = connect(address)?;
    if let Some(reason) = find_pooler(&client, pid(&client)?, address)? {
        return Ok(vec![pooler(reason)]);
    }
    let version = number(&client, "asking for the server's version", "SHOW server_version_num")?;
    let encoding = encoding(&client)?;
    ServerSettings::of_image(&encoding).apply(&client)?;
    let mut checks = vec![
        connection(&client, address)?,
        server(&client, version)?,
        standby(&client, address)?,
        tools(search, version),
    ];
    let catalog = catalog::read_catalog(&client)?;
    checks.push(rights(&client, &catalog)?);
    checks.push(identity(&client)?);
    checks.push(locks(&client, &catalog)?);
    Ok(checks)
}

fn pooler(reason: String) -> ServerCheck {
    ServerCheck::unfit("connection", FindingKind::SourceUnfit, reason, "name the server itself in the source's url")
}

/// The first row of an answer, or the default value without one.
fn first_row<T: Default>(
    client: &Client,
    doing: &'static str,
    sql: &str,
    read: impl Fn(&mut RowFields) -> Result<T, QueryError>,
) -> Result<T, QueryError> {
    let found = rows(client, doing, sql, read)?;
    Ok(found.into_iter().next().unwrap_or_default())
}

fn connection(client: &Client, address: &Address) -> Result<ServerCheck, QueryError> {
    let ConnectionFacts { tls, host } = ConnectionFacts::ask(client)?;
    Ok(match tls.as_str() {
        "" if !is_local(&host) => ServerCheck::doubtful(
            "connection",
            FindingKind::Unencrypted,
            format!("{address}, without encryption"),
            "install a certificate on the server, and add sslmode=verify-full to the source's url",
        ),
        "" => ServerCheck::well("connection", address.to_string()),
        tls => ServerCheck::well("connection", format!("{address}, over {tls}")),
    })
}

/// How a session is connected.
#[derive(Default)]
struct ConnectionFacts {
    /// The TLS version. Empty without TLS.
    tls: String,
    /// The server's IP address. Empty for a socket.
    host: String,
}

impl ConnectionFacts {
    fn ask(client: &Client) -> Result<Self, QueryError> {
        let sql = "SELECT coalesce((SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl), ''),
                coalesce(host(inet_server_addr()), '')";
        first_row(client, "asking how we are connected", sql, Self::read)
    }

    fn read(fields: &mut RowFields) -> Result<Self, QueryError> {
        Ok(Self { tls: fields.text()?, host: fields.text()? })
    }
}

/// Whether the server's address is a socket or on the same machine.
fn is_local(host: &str) -> bool {
    host.is_empty() || host.starts_with("127.") || host == "::1"
}

fn server(client: &Client, version: i32) -> Result<ServerCheck, QueryError> {
    let name = client.value("asking for the server's version", "SHOW server_version")?;
    Ok(server_version(format!("PostgreSQL {name}"), version / 10_000))
}

fn server_version(what: String, major: i32) -> ServerCheck {
    let kind = FindingKind::ServerVersion { major };
    if major < *MAJORS.start() {
        return ServerCheck::unfit("server", kind, what, &format!("upgrade it to {} or newer", MAJORS.start()));
    }
    if major > *MAJORS.end() {
        let what = format!("{what}, which is newer than the tested versions");
        return ServerCheck::doubtful("server", kind, what, "restore one of its snapshots as a test");
    }
    ServerCheck::well("server", what)
}

fn standby(client: &Client, address: &Address) -> Result<ServerCheck, QueryError> {
    match role(client, address) {
        Ok(ServerRole::Primary) => Ok(ServerCheck::well("standby", "this is a primary")),
        Ok(ServerRole::Standby) => {
            Ok(ServerCheck::well("standby", "this is a standby, and it does not cancel a backup's queries"))
        }
        Err(PostgresError::Unsuitable { reason, .. }) => {
            let remedy = "change the settings of the standby, or back up the primary";
            Ok(ServerCheck::unfit("standby", FindingKind::SourceUnfit, reason, remedy))
        }
        Err(error) => Err(error.into()),
    }
}

fn tools(search: &ToolSearch, version: i32) -> ServerCheck {
    match DumpTools::find(search, major_version(version)) {
        Ok(tools) => ServerCheck::well("pg_dump", format!("{} of version {}", tools.path().display(), tools.major())),
        Err(error) => ServerCheck::unfit(
            "pg_dump",
            FindingKind::NoTool,
            error,
            "install it on this machine, or set pg_bin in sidekeep.toml to its directory",
        ),
    }
}

fn rights(client: &Client, catalog: &PgCatalog) -> Result<ServerCheck, QueryError> {
    let RoleFacts { name: role, is_superuser } = RoleFacts::ask(client)?;
    let tables = catalog.tables.len();
    if is_superuser {
        return Ok(ServerCheck::well("rights", format!("{role} is a superuser and may read all {tables} tables")));
    }
    let unreadable = &catalog.without_right;
    if unreadable.is_empty() {
        return Ok(ServerCheck::well("rights", format!("{role} may read all {tables} tables and their sequences")));
    }
    Ok(missing_rights(&role, unreadable))
}

fn missing_rights(role: &str, unreadable: &[String]) -> ServerCheck {
    let count = match unreadable.len() {
        1 => "1 table or sequence".to_owned(),
        count => format!("{count} tables and sequences"),
    };
    ServerCheck::doubtful(
        "rights",
        FindingKind::NoPrivilege,
        format!("{role} may not read {count}: {}", abbreviated(unreadable)),
        "grant the role the rights listed in docs/postgresql.md",
    )
}

/// The role of a session.
#[derive(Default)]
struct RoleFacts {
    name: String,
    is_superuser: bool,
}

impl RoleFacts {
    fn ask(client: &Client) -> Result<Self, QueryError> {
        let sql = "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user";
        first_row(client, "asking for the role's privileges", sql, Self::read)
    }

    fn read(fields: &mut RowFields) -> Result<Self, QueryError> {
        Ok(Self { name: fields.text()?, is_superuser: fields.boolean()? })
    }
}

/// Checks whether another server behind the same name would be noticed.
fn identity(client: &Client) -> Result<ServerCheck, QueryError> {
    let sql = "SELECT f FROM (VALUES ('pg_control_system()'), ('pg_control_checkpoint()')) AS v (f)
        WHERE NOT has_function_privilege('pg_catalog.' || f, 'EXECUTE')";
    let refused = rows(client, "asking for the role's privileges", sql, RowFields::text)?;
    if refused.is_empty() {
        return Ok(ServerCheck::well("identity", "another server behind the same name would be noticed"));
    }
    Ok(uncertain_identity(&abbreviated(&refused)))
}

fn uncertain_identity(refused: &str) -> ServerCheck {
    ServerCheck::doubtful(
        "identity",
        FindingKind::ServerUnknown,
        format!("the role may not call {refused}: another server behind the same name is harder to notice"),
        "grant the role EXECUTE on these functions",
    )
}

fn locks(client: &Client, catalog: &PgCatalog) -> Result<ServerCheck, QueryError> {
    let LockRoom { room, used } = LockRoom::ask(client)?;
    let free = room - used;
    let needed = needed_locks(catalog);
    let what = format!("a backup needs {needed}; {free} of {room} are free");
    if needed.saturating_add(SPARE_LOCKS.min(room / 10)) <= free {
        return Ok(ServerCheck::well("locks", what));
    }
    let remedy = "raise max_locks_per_transaction there and restart the server";
    Ok(ServerCheck::doubtful("locks", FindingKind::FewLocks { needed, free }, what, remedy))
}

/// The size and use of a server's lock table.
#[derive(Default)]
struct LockRoom {
    room: i64,
    used: i64,
}

impl LockRoom {
    fn ask(client: &Client) -> Result<Self, QueryError> {
        let sql = "SELECT current_setting('max_locks_per_transaction')::bigint
                * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint),
            (SELECT count(*) FROM pg_locks WHERE NOT fastpath)";
        first_row(client, "asking for the size of the lock table", sql, Self::read)
    }

    fn read(fields: &mut RowFields) -> Result<Self, QueryError> {
        Ok(Self { room: fields.parsed()?, used: fields.parsed()? })
    }
}

fn needed_locks(catalog: &PgCatalog) -> i64 {
    catalog.tables.iter().map(|table| table.relations.len().max(1) as i64).sum()
}
