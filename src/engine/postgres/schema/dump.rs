//! Runs `pg_dump` and `pg_dumpall` of a version that supports the server, in our snapshot, for everything but rows.
//!
//! A password never appears on a command line or in a message, and no child process outlives the call that started it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

use crate::engine::postgres::connect::tool_connection::ToolConnection;

/// How long the tools wait for a lock. Behind an ALTER that waits for our own locks they would wait forever, and block
/// everybody after them. When a waiting tool is killed, the server notices only after this time.
const LOCK_WAIT_TIMEOUT: &str = "--lock-wait-timeout=3000";
const POLL_PAUSE: Duration = Duration::from_millis(10);
/// Lines of a tool's error output that are shown in a message.
const ERROR_LINES_MAX: usize = 12;

/// Removed from the tools' environment (with the prefix PG), because they may name another server or change the
/// session.
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
        "no pg_dump of version {server_major} or newer was found ({found}): install \
         postgresql-client-{server_major}, or set pg_bin to its directory"
    )]
    NoTool { server_major: u32, found: String },
    #[error("cannot run {tool}")]
    Run { tool: String, source: std::io::Error },
    #[error("{tool} failed: {reason}")]
    Failed { tool: String, reason: String },
    #[error("{tool} was cancelled")]
    Cancelled { tool: String },
}

/// Where to look for the tools.
#[derive(Clone, Debug, Default)]
pub struct ToolSearch {
    /// A program or its directory. If set, nothing else is searched.
    pub configured: Option<PathBuf>,
    /// Directories of packages, which contain a directory per version with `bin` in it.
    pub installed: Vec<PathBuf>,
    /// Directories of programs.
    pub path: Vec<PathBuf>,
}

impl ToolSearch {
    /// The usual package directories. `path` contains the directories of the PATH variable.
    #[must_use]
    pub fn on_this_host(configured: Option<PathBuf>, path: Vec<PathBuf>) -> Self {
        Self { configured, installed: vec!["/usr/lib/postgresql".into(), "/usr/local/lib/postgresql".into()], path }
    }

    fn candidates(&self) -> Vec<PathBuf> {
        match &self.configured {
            Some(dir) if dir.is_dir() => vec![dir.join("pg_dump")],
            Some(program) => vec![program.clone()],
            None => self.programs(),
        }
    }

    /// Every `pg_dump` in the directories.
    fn programs(&self) -> Vec<PathBuf> {
        let dirs = self.installed_dirs();
        dirs.iter().chain(&self.path).map(|dir| dir.join("pg_dump")).filter(|pg_dump| pg_dump.is_file()).collect()
    }

    /// The `bin` directory of each version, sorted.
    fn installed_dirs(&self) -> Vec<PathBuf> {
        let mut dirs = Vec::new();
        for versions in self.installed.iter().filter_map(|dir| std::fs::read_dir(dir).ok()) {
            dirs.extend(versions.flatten().map(|version| version.path().join("bin")));
        }
        dirs.sort();
        dirs
    }

    /// Describes the tools that were found when none of them supports the server.
    fn describe(&self, found: &[DumpTools]) -> String {
        match &self.configured {
            Some(path) if found.is_empty() => format!("none in {}", path.display()),
            None if found.is_empty() => "none found".to_owned(),
            _ => descriptions(found),
        }
    }
}

/// `pg_dump`, and `pg_dumpall` in the same directory.
#[derive(Clone, Debug)]
pub struct DumpTools {
    pg_dump: PathBuf,
    major: u32,
}

/// A section of a dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DumpSection {
    /// What must exist before the rows.
    PreData,
    /// What is created after the rows.
    PostData,
}

impl DumpSection {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::PreData => &["--section=pre-data", "--create"],
            Self::PostData => &["--section=post-data"],
        }
    }
}

/// The encoding of a dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DumpEncoding {
    Utf8,
    /// The bytes as stored, because the server cannot convert them.
    SqlAscii,
}

impl DumpEncoding {
    fn argument(self) -> &'static str {
        match self {
            Self::Utf8 => "--encoding=UTF8",
            Self::SqlAscii => "--encoding=SQL_ASCII",
        }
    }
}

/// Whether password hashes are included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RolePasswords {
    Included,
    /// The role may not read them.
    LeftOut,
}

/// What to dump, and how.
#[derive(Clone, Copy)]
pub struct DumpRequest<'a> {
    pub connection: &'a ToolConnection,
    /// The name of an exported snapshot.
    pub snapshot: Option<&'a str>,
    pub encoding: DumpEncoding,
    /// Tables to leave out, as patterns. A table that the role may not read would make the tool fail.
    pub excluded_tables: &'a [String],
    /// Sequences not to read, as patterns. The tool always reads the positions of sequences otherwise.
    pub excluded_sequences: &'a [String],
    /// Set to stop the tool.
    pub cancelled: &'a AtomicBool,
}

/// The output of a tool.
#[derive(Debug)]
pub struct DumpOutput {
    pub text: Vec<u8>,
    /// Lines of the standard error output.
    pub warnings: Vec<String>,
}

impl DumpTools {
    /// The oldest version that supports the server, so that the choice stays the same when newer ones are installed.
    /// `server_major` is the server's major version, such as 15.
    /// Fails if no `pg_dump` of that version or a newer one is found.
    pub fn find(search: &ToolSearch, server_major: u32) -> Result<Self, DumpError> {
        let mut found: Vec<Self> = Vec::new();
        for pg_dump in search.candidates() {
            let Some(major) = version_of(&pg_dump) else { continue };
            let tool = Self { pg_dump, major };
            // An exact match cannot be beaten, and each version check costs a process.
            if major == server_major {
                return Ok(tool);
            }
            found.push(tool);
        }
        let described = search.describe(&found);
        let able = found.into_iter().filter(|tool| tool.major >= server_major);
        able.min_by_key(|tool| tool.major).ok_or(DumpError::NoTool { server_major, found: described })
    }

    fn description(&self) -> String {
        format!("{} is {}", self.pg_dump.display(), self.major)
    }

    /// The path of `pg_dump`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.pg_dump
    }

    /// The major version of the tools.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Dumps one section of the schema. Only the first contains the statements about the database itself.
    /// Fails if `pg_dump` cannot be run, is cancelled, or exits with an error, for example because a table's lock is
    /// not granted within 3 s.
    pub fn section(&self, request: &DumpRequest<'_>, section: DumpSection) -> Result<DumpOutput, DumpError> {
        let mut command = command(&self.pg_dump, request.connection);
        command.args(["--format=plain", "-B", LOCK_WAIT_TIMEOUT]);
        command.args(section.arguments());
        command.arg(request.encoding.argument());
        command.args(request.snapshot.map(|snapshot| format!("--snapshot={snapshot}")));
        command.args(request.excluded_tables.iter().map(|table| format!("--exclude-table={table}")));
        command.args(request.excluded_sequences.iter().map(|sequence| format!("--exclude-table-data={sequence}")));
        run(command, "pg_dump", request.connection, request.cancelled)
    }

    /// Dumps roles, memberships and tablespaces of the whole cluster. They are not part of any snapshot.
    /// Fails if `pg_dumpall` cannot be run, is cancelled, or exits with an error, for example because the role lacks a
    /// privilege.
    pub fn globals(
        &self,
        connection: &ToolConnection,
        passwords: RolePasswords,
        cancelled: &AtomicBool,
    ) -> Result<DumpOutput, DumpError> {
        let mut command = command(&self.pg_dump.with_file_name("pg_dumpall"), connection);
        command.args(["--globals-only", "--encoding=UTF8", LOCK_WAIT_TIMEOUT]);
        // Without it, the tool would connect to another database, where the role may have different privileges or none.
        command.args(connection.database().map(|database| format!("--database={database}")));
        if passwords == RolePasswords::LeftOut {
            command.arg("--no-role-passwords");
        }
        run(command, "pg_dumpall", connection, cancelled)
    }
}

fn descriptions(tools: &[DumpTools]) -> String {
    let descriptions: Vec<String> = tools.iter().map(DumpTools::description).collect();
    descriptions.join(", ")
}

fn version_of(tool: &Path) -> Option<u32> {
    let output = Command::new(tool).arg("--version").stdin(Stdio::null()).output().ok()?;
    parse_version(std::str::from_utf8(&output.stdout).ok()?)
}

/// `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `pg_dump (PostgreSQL) 18beta1`
fn parse_version(text: &str) -> Option<u32> {
    let number = text.strip_prefix("pg_dump (PostgreSQL) ")?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

fn command(tool: &Path, connection: &ToolConnection) -> Command {
    let mut command = Command::new(tool);
    for name in LIBPQ_VARIABLES {
        command.env_remove(format!("PG{name}"));
    }
    command.env("LC_ALL", "C");
    if let Some(password) = &connection.password {
        command.env("PGPASSWORD", password.as_str());
    }
    command.arg("--no-password").arg(format!("--dbname={}", connection.connection_string()));
    command
}

fn run(
    command: Command,
    tool: &str,
    connection: &ToolConnection,
    cancelled: &AtomicBool,
) -> Result<DumpOutput, DumpError> {
    let finished = wait_for_output(command, cancelled);
    let finished = finished.map_err(|source| DumpError::Run { tool: tool.to_owned(), source })?;
    let output = finished.ok_or_else(|| DumpError::Cancelled { tool: tool.to_owned() })?;
    let lines = message_lines(&output.stderr, connection);
    match output.status.success() {
        true => Ok(DumpOutput { text: output.stdout, warnings: lines }),
        false => Err(tool_failed(tool, output.status, &lines)),
    }
}

fn tool_failed(tool: &str, status: ExitStatus, lines: &[String]) -> DumpError {
    let reason = if lines.is_empty() { status.to_string() } else { first_lines(lines) };
    DumpError::Failed { tool: tool.to_owned(), reason }
}

fn first_lines(lines: &[String]) -> String {
    lines[..lines.len().min(ERROR_LINES_MAX)].join("; ")
}

/// Runs a command until it ends. None if it was cancelled.
fn wait_for_output(mut command: Command, cancelled: &AtomicBool) -> std::io::Result<Option<Output>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = ToolProcess(command.spawn()?);
    let mut stdout = process.0.stdout.take();
    let mut stderr = process.0.stderr.take();
    let (status, stdout, stderr) = std::thread::scope(|scope| {
        let stdout = scope.spawn(|| drain(&mut stdout));
        let stderr = scope.spawn(|| drain(&mut stderr));
        let status = process.wait(cancelled);
        // Both pipes are closed once the child has ended.
        (status, stdout.join().expect("reading a pipe"), stderr.join().expect("reading a pipe"))
    });
    let Some(status) = status? else { return Ok(None) };
    Ok(Some(Output { status, stdout: stdout?, stderr: stderr? }))
}

fn drain(pipe: &mut Option<impl Read>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// The lines that a tool wrote to standard error, without the password.
fn message_lines(stderr: &[u8], connection: &ToolConnection) -> Vec<String> {
    let text = without_password(String::from_utf8_lossy(stderr).into_owned(), connection);
    let lines = text.lines().map(without_tool_name).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

fn without_password(text: String, connection: &ToolConnection) -> String {
    match connection.password.as_ref().filter(|password| !password.is_empty()) {
        Some(password) => text.replace(password.as_str(), "***"),
        None => text,
    }
}

fn without_tool_name(line: &str) -> &str {
    line.trim_start_matches("pg_dump: ").trim_start_matches("pg_dumpall: ").trim()
}

/// A child process that does not outlive this value.
struct ToolProcess(Child);

impl ToolProcess {
    /// None if it was cancelled.
    fn wait(&mut self, cancelled: &AtomicBool) -> std::io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if cancelled.load(Ordering::Relaxed) {
                self.stop()?;
                return Ok(None);
            }
            std::thread::sleep(POLL_PAUSE);
        }
    }

    fn stop(&mut self) -> std::io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }
}

impl Drop for ToolProcess {
    fn drop(&mut self) {
        // Both fail only if the child has already ended and been waited for.
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

    fn connection() -> ToolConnection {
        let mut config = Config::new();
        config.host("h").port(5).user("o'b\\x").dbname("d b").password("geheim");
        ToolConnection::of(&config).with("sslmode", "verify-full")
    }

    fn request<'a>(connection: &'a ToolConnection, cancelled: &'a AtomicBool) -> DumpRequest<'a> {
        DumpRequest {
            connection,
            snapshot: Some("0-1"),
            encoding: DumpEncoding::Utf8,
            excluded_tables: &[],
            excluded_sequences: &[],
            cancelled,
        }
    }

    #[test]
    fn the_nearest_supporting_version_is_used() {
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
        assert!(!asked.exists(), "an exact version was already found");
        let majors = [12, 14, 15, 17].map(|server| DumpTools::find(&search, server).unwrap().major());
        assert_eq!(majors, [13, 15, 15, 18]);
        let error = DumpTools::find(&search, 19).unwrap_err().to_string();
        assert!(error.contains("install postgresql-client-19") && error.contains("16/bin/pg_dump is 16"), "{error}");
        let configured = ToolSearch { configured: Some(installed.join("13/bin")), ..search };
        assert_eq!(DumpTools::find(&configured, 13).unwrap().major(), 13);
        assert!(DumpTools::find(&configured, 14).is_err(), "only the configured tool is used");
        let none = ToolSearch { configured: Some(dir.path().join("nothing")), ..ToolSearch::default() };
        assert!(DumpTools::find(&none, 14).unwrap_err().to_string().contains("none in "));
        assert!(DumpTools::find(&ToolSearch::default(), 14).unwrap_err().to_string().contains("none found"));
    }

    #[test]
    fn arguments_and_messages_contain_no_password() {
        let dir = TempDir::new().unwrap();
        let pg_dump = tool(dir.path(), "pg_dump", "printf '%s\\n' \"$* $PGPASSWORD\" >&2; echo text");
        let tools = DumpTools { pg_dump, major: 15 };
        let connection = connection();
        let cancelled = AtomicBool::new(false);
        let dumped = tools.section(&request(&connection, &cancelled), DumpSection::PreData).unwrap();
        assert_eq!(dumped.text, b"text\n");
        let [said] = &dumped.warnings[..] else { panic!("{:?}", dumped.warnings) };
        assert!(said.ends_with(" ***") && !said.contains("geheim"), "{said}");
        assert!(said.contains(r"host='h' port='5' user='o\'b\\x' dbname='d b' sslmode='verify-full'"), "{said}");
        assert!(said.contains("--snapshot=0-1") && said.contains("--create"), "{said}");
    }

    #[test]
    fn a_tool_reports_its_failure_and_can_be_cancelled() {
        let dir = TempDir::new().unwrap();
        let connection = connection();
        let cancelled = AtomicBool::new(false);
        let pg_dump = tool(dir.path(), "pg_dump", "echo 'pg_dump: error: no geheim table' >&2; exit 1");
        let tools = DumpTools { pg_dump, major: 15 };
        let error = tools.section(&request(&connection, &cancelled), DumpSection::PostData).unwrap_err();
        assert_eq!(error.to_string(), "pg_dump failed: error: no *** table");
        let error = tools.globals(&connection, RolePasswords::LeftOut, &cancelled).unwrap_err();
        assert_eq!(error.to_string(), "cannot run pg_dumpall");
        tool(dir.path(), "pg_dump", "exec sleep 1000");
        cancelled.store(true, Ordering::Relaxed);
        let error = tools.section(&request(&connection, &cancelled), DumpSection::PostData).unwrap_err();
        assert_eq!(error.to_string(), "pg_dump was cancelled");
    }
}
