//! Runs `pg_dump` and `pg_dumpall` of a version that knows the server, inside our snapshot, for everything but rows.
//!
//! A password never stands on a command line nor in a message, and no child outlives the call that began it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

use crate::engine::postgres::connect::tool_connection::ToolConnection;

/// How long the tools wait for a lock: behind an ALTER that waits for our own locks they would wait for ever, and
/// everybody else behind him. The server notices only then that a tool that waited was killed.
const LOCK_WAIT_TIMEOUT: &str = "--lock-wait-timeout=3000";
const POLL_PAUSE: Duration = Duration::from_millis(10);
/// Lines of a tool's errors that go into a message.
const ERROR_LINES_MAX: usize = 12;

/// What our own environment says of another server, or of how sessions begin, must not reach this one.
const LIBPQ_VARIABLES: &[&str] = &[
    "HOST",
    "HOSTADDR",
    "PORT",
    "DATABASE",
    "USER",
    "PASSWORD",
    "SERVICE",
    "SERVICEFILE",
    "OPTIONS",
    "APPNAME",
    "REQUIREAUTH",
    "CHANNELBINDING",
    "REQUIREPEER",
    "SSLMODE",
    "REQUIRESSL",
    "SSLNEGOTIATION",
    "SSLCOMPRESSION",
    "SSLCERT",
    "SSLKEY",
    "SSLCERTMODE",
    "SSLROOTCERT",
    "SSLCRL",
    "SSLCRLDIR",
    "SSLSNI",
    "SSLMINPROTOCOLVERSION",
    "SSLMAXPROTOCOLVERSION",
    "GSSENCMODE",
    "GSSDELEGATION",
    "KRBSRVNAME",
    "GSSLIB",
    "CLIENTENCODING",
    "DATESTYLE",
    "TZ",
    "GEQO",
    "TARGETSESSIONATTRS",
    "LOADBALANCEHOSTS",
    "CONNECT_TIMEOUT",
];

/// Why the schema could not be dumped.
#[derive(Debug, Error)]
pub enum DumpError {
    #[error(
        "no pg_dump of version {server_major} or newer is here ({found}): install postgresql-client-{server_major}, \
         or let pg_bin name its directory"
    )]
    NoTool { server_major: u32, found: String },
    #[error("cannot run {tool}")]
    Run { tool: String, source: std::io::Error },
    #[error("{tool} failed: {reason}")]
    Failed { tool: String, reason: String },
    #[error("{tool} was stopped")]
    Cancelled { tool: String },
}

/// Where to look for the tools.
#[derive(Clone, Debug, Default)]
pub struct ToolSearch {
    /// A program or its directory; with it nothing else is looked at.
    pub configured: Option<PathBuf>,
    /// Directories of packages, where each version has one of its own with `bin` in it.
    pub installed: Vec<PathBuf>,
    /// Directories of programs.
    pub path: Vec<PathBuf>,
}

impl ToolSearch {
    /// The places where systems keep them; `path` has the directories of the search path for programs.
    #[must_use]
    pub fn on_this_host(configured: Option<PathBuf>, path: Vec<PathBuf>) -> Self {
        Self { configured, installed: vec!["/usr/lib/postgresql".into(), "/usr/local/lib/postgresql".into()], path }
    }

    fn candidates(&self) -> Vec<PathBuf> {
        if let Some(configured) = &self.configured {
            return vec![if configured.is_dir() { configured.join("pg_dump") } else { configured.clone() }];
        }
        let versions = self.installed.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten();
        let mut installed: Vec<PathBuf> = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
        installed.sort();
        installed.iter().chain(&self.path).map(|dir| dir.join("pg_dump")).filter(|tool| tool.is_file()).collect()
    }
}

/// `pg_dump` and, beside it, `pg_dumpall`.
#[derive(Clone, Debug)]
pub struct DumpTools {
    pg_dump: PathBuf,
    major: u32,
}

/// A part of a schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DumpSection {
    /// What must be there before the rows.
    PreData,
    /// What is made after them.
    PostData,
}

/// The encoding that a dump is wanted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DumpEncoding {
    Utf8,
    /// Bytes as the server keeps them, which it cannot convert.
    SqlAscii,
}

/// Whether the digests of passwords may be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RolePasswords {
    Included,
    /// The role may not read them.
    LeftOut,
}

/// What is to be dumped.
#[derive(Clone, Copy)]
pub struct DumpRequest<'a> {
    pub place: &'a ToolConnection,
    /// An exported snapshot.
    pub snapshot: Option<&'a str>,
    pub encoding: DumpEncoding,
    /// Tables to leave out, quoted for SQL: those that the role may not read would stop the tool.
    pub excluded: &'a [String],
    /// Sequences not to look into, quoted for SQL: the tool reads where they stand though nobody asks.
    pub closed: &'a [String],
    /// Set by whoever wants the tool stopped.
    pub cancelled: &'a AtomicBool,
}

/// What a tool wrote.
#[derive(Debug)]
pub struct DumpOutput {
    pub text: Vec<u8>,
    /// What it said beside that, a line each.
    pub warnings: Vec<String>,
}

impl DumpTools {
    /// The oldest that knows the server: the nearest to it, and the same when newer ones are installed.
    pub fn find(search: &ToolSearch, server_major: u32) -> Result<Self, DumpError> {
        let mut found: Vec<Self> = Vec::new();
        for pg_dump in search.candidates() {
            let Some(major) = version_of(&pg_dump) else { continue };
            let tool = Self { pg_dump, major };
            // None is nearer, and each costs a process.
            if major == server_major {
                return Ok(tool);
            }
            found.push(tool);
        }
        let all: Vec<String> =
            found.iter().map(|tool| format!("{} is {}", tool.pg_dump.display(), tool.major)).collect();
        let mut able: Vec<Self> = found.into_iter().filter(|tool| tool.major >= server_major).collect();
        able.sort_by_key(|tool| tool.major);
        let none = match (&search.configured, all.is_empty()) {
            (Some(path), true) => format!("none in {}", path.display()),
            (None, true) => "none found".to_owned(),
            (_, false) => all.join(", "),
        };
        able.into_iter().next().ok_or(DumpError::NoTool { server_major, found: none })
    }

    /// Where `pg_dump` is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.pg_dump
    }

    /// The major version of the tools.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// One section of the schema. Only the first says what the database itself is.
    pub fn section(&self, request: &DumpRequest<'_>, section: DumpSection) -> Result<DumpOutput, DumpError> {
        let mut command = command(&self.pg_dump, request.place);
        command.args(["--format=plain", "-B", LOCK_WAIT_TIMEOUT]);
        match section {
            DumpSection::PreData => command.args(["--section=pre-data", "--create"]),
            DumpSection::PostData => command.arg("--section=post-data"),
        };
        command.arg(match request.encoding {
            DumpEncoding::Utf8 => "--encoding=UTF8",
            DumpEncoding::SqlAscii => "--encoding=SQL_ASCII",
        });
        command.args(request.snapshot.map(|snapshot| format!("--snapshot={snapshot}")));
        command.args(request.excluded.iter().map(|table| format!("--exclude-table={table}")));
        command.args(request.closed.iter().map(|sequence| format!("--exclude-table-data={sequence}")));
        run(command, "pg_dump", request.place, request.cancelled)
    }

    /// Roles, memberships and tablespaces of the whole cluster, which no snapshot holds still.
    pub fn globals(
        &self,
        place: &ToolConnection,
        passwords: RolePasswords,
        cancelled: &AtomicBool,
    ) -> Result<DumpOutput, DumpError> {
        let mut command = command(&self.pg_dump.with_file_name("pg_dumpall"), place);
        command.args(["--globals-only", "--encoding=UTF8", LOCK_WAIT_TIMEOUT]);
        // Else it goes to another database, where the role may have other rights or none.
        command.args(place.database().map(|database| format!("--database={database}")));
        if passwords == RolePasswords::LeftOut {
            command.arg("--no-role-passwords");
        }
        run(command, "pg_dumpall", place, cancelled)
    }
}

fn version_of(tool: &Path) -> Option<u32> {
    let output = Command::new(tool).arg("--version").stdin(Stdio::null()).output().ok()?;
    parse_version(std::str::from_utf8(&output.stdout).ok()?)
}

/// `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `… 18beta1`
fn parse_version(text: &str) -> Option<u32> {
    let number = text.strip_prefix("pg_dump (PostgreSQL) ")?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

fn command(tool: &Path, place: &ToolConnection) -> Command {
    let mut command = Command::new(tool);
    for name in LIBPQ_VARIABLES {
        command.env_remove(format!("PG{name}"));
    }
    command.env("LC_ALL", "C");
    if let Some(password) = &place.password {
        command.env("PGPASSWORD", password.as_str());
    }
    command.arg("--no-password").arg(format!("--dbname={}", place.conninfo()));
    command
}

fn run(
    mut command: Command,
    tool: &str,
    place: &ToolConnection,
    cancelled: &AtomicBool,
) -> Result<DumpOutput, DumpError> {
    let failed = |source| DumpError::Run { tool: tool.to_owned(), source };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running(command.spawn().map_err(failed)?);
    let (mut stdout, mut stderr) = (child.0.stdout.take(), child.0.stderr.take());
    let (status, text, said) = std::thread::scope(|scope| {
        let text = scope.spawn(|| drain(&mut stdout));
        let said = scope.spawn(|| drain(&mut stderr));
        let status = child.wait(cancelled);
        // Without the child both ends are closed.
        (status, text.join().expect("reading a pipe"), said.join().expect("reading a pipe"))
    });
    let status = status.map_err(failed)?.ok_or_else(|| DumpError::Cancelled { tool: tool.to_owned() })?;
    let text = text.map_err(failed)?;
    let lines = said_lines(&said.map_err(failed)?, place);
    if !status.success() {
        let lines: Vec<&str> = lines.iter().map(String::as_str).take(ERROR_LINES_MAX).collect();
        let reason = if lines.is_empty() { status.to_string() } else { lines.join("; ") };
        return Err(DumpError::Failed { tool: tool.to_owned(), reason });
    }
    Ok(DumpOutput { text, warnings: lines })
}

fn drain(pipe: &mut Option<impl Read>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn said_lines(said: &[u8], place: &ToolConnection) -> Vec<String> {
    let mut said = String::from_utf8_lossy(said).into_owned();
    if let Some(password) = place.password.as_ref().filter(|password| !password.is_empty()) {
        said = said.replace(password.as_str(), "***");
    }
    let lines = said.lines().map(|line| line.trim_start_matches("pg_dump: ").trim_start_matches("pg_dumpall: ").trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A child that does not outlive this value.
struct Running(Child);

impl Running {
    /// `None`: it was stopped.
    fn wait(&mut self, cancelled: &AtomicBool) -> std::io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if cancelled.load(Ordering::Relaxed) {
                self.0.kill()?;
                self.0.wait()?;
                return Ok(None);
            }
            std::thread::sleep(POLL_PAUSE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;
    use tokio_postgres::Config;

    use super::*;

    fn tool(dir: &Path, name: &str, script: &str) -> PathBuf {
        fs::create_dir_all(dir).unwrap();
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn place() -> ToolConnection {
        let mut config = Config::new();
        config.host("h").port(5).user("o'b\\x").dbname("d b").password("geheim");
        ToolConnection::of(&config).with("sslmode", "verify-full")
    }

    fn request<'a>(place: &'a ToolConnection, cancelled: &'a AtomicBool) -> DumpRequest<'a> {
        DumpRequest {
            place,
            snapshot: Some("0-1"),
            encoding: DumpEncoding::Utf8,
            excluded: &[],
            closed: &[],
            cancelled,
        }
    }

    #[test]
    fn the_nearest_version_is_taken() {
        let dir = TempDir::new().unwrap();
        let installed = dir.path().join("lib");
        let path = dir.path().join("path");
        let say = |version: &str| format!("echo 'pg_dump (PostgreSQL) {version} (Some System)'");
        for version in ["13", "15", "16"] {
            tool(&installed.join(version).join("bin"), "pg_dump", &say(&format!("{version}.2")));
        }
        tool(&path, "pg_dump", &say("18beta1"));
        let asked = dir.path().join("asked");
        tool(&path.join("late"), "pg_dump", &format!("touch {}; {}", asked.display(), say("15.9")));
        let search = ToolSearch {
            configured: None,
            installed: vec![installed.clone()],
            path: vec![path.clone(), path.join("late")],
        };
        assert_eq!(DumpTools::find(&search, 15).unwrap().path(), installed.join("15/bin/pg_dump"));
        assert!(!asked.exists(), "the version of the server was found already");
        let majors = [12, 14, 15, 17].map(|server| DumpTools::find(&search, server).unwrap().major());
        assert_eq!(majors, [13, 15, 15, 18]);
        let error = DumpTools::find(&search, 19).unwrap_err().to_string();
        assert!(error.contains("install postgresql-client-19") && error.contains("16/bin/pg_dump is 16"), "{error}");
        let configured = ToolSearch { configured: Some(installed.join("13/bin")), ..search };
        assert_eq!(DumpTools::find(&configured, 13).unwrap().major(), 13);
        assert!(DumpTools::find(&configured, 14).is_err(), "the configured one alone counts");
        let none = ToolSearch { configured: Some(dir.path().join("nothing")), ..ToolSearch::default() };
        assert!(DumpTools::find(&none, 14).unwrap_err().to_string().contains("none in "));
        assert!(DumpTools::find(&ToolSearch::default(), 14).unwrap_err().to_string().contains("none found"));
    }

    #[test]
    fn secrets_are_in_no_argument_and_no_message() {
        let dir = TempDir::new().unwrap();
        let pg_dump = tool(dir.path(), "pg_dump", "printf '%s\\n' \"$* $PGPASSWORD\" >&2; echo text");
        let (tools, place, cancelled) = (DumpTools { pg_dump, major: 15 }, place(), AtomicBool::new(false));
        let dumped = tools.section(&request(&place, &cancelled), DumpSection::PreData).unwrap();
        assert_eq!(dumped.text, b"text\n");
        let [said] = &dumped.warnings[..] else { panic!("{:?}", dumped.warnings) };
        assert!(said.ends_with(" ***") && !said.contains("geheim"), "{said}");
        assert!(said.contains(r"host='h' port='5' user='o\'b\\x' dbname='d b' sslmode='verify-full'"), "{said}");
        assert!(said.contains("--snapshot=0-1") && said.contains("--create"), "{said}");
    }

    #[test]
    fn a_failure_says_why_and_a_stop_stops() {
        let dir = TempDir::new().unwrap();
        let (place, cancelled) = (place(), AtomicBool::new(false));
        let pg_dump = tool(dir.path(), "pg_dump", "echo 'pg_dump: error: no geheim table' >&2; exit 1");
        let tools = DumpTools { pg_dump, major: 15 };
        let error = tools.section(&request(&place, &cancelled), DumpSection::PostData).unwrap_err();
        assert_eq!(error.to_string(), "pg_dump failed: error: no *** table");
        let error = tools.globals(&place, RolePasswords::LeftOut, &cancelled).unwrap_err();
        assert_eq!(error.to_string(), "cannot run pg_dumpall");
        tool(dir.path(), "pg_dump", "exec sleep 1000");
        cancelled.store(true, Ordering::Relaxed);
        let error = tools.section(&request(&place, &cancelled), DumpSection::PostData).unwrap_err();
        assert_eq!(error.to_string(), "pg_dump was stopped");
    }
}
