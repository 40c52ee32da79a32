//! Real PostgreSQL servers. Each has its own directory with a unix socket, and stops when its value is dropped.
//! Without PostgreSQL a test prints that it is skipped, unless `SIDEKEEP_TEST_ALL=1` makes that a failure.
//!
//! The server does not run as root: a test run by root runs it as `postgres`. `initdb` runs once per machine, user and
//! version. Each cluster is a copy of that template, so all have the same system identifier unless a test asks for its
//! own. A shell supervises each server: it stops the server and removes its files if the test process dies without
//! doing so.
//!
//! `SIDEKEEP_TEST_PG_BIN` selects the server. `scripts/test` runs the tests of the binary `postgres_versions` once for
//! each version, so that no test names a version, and all other tests with the first version. Nothing here may be
//! called from an async task.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sidekeep::engine::postgres::backup::source::PostgresSource;
use sidekeep::engine::postgres::connect::address::Address;
use sidekeep::engine::postgres::connect::client::Client;
use sidekeep::engine::postgres::connect::host_environment::HostEnvironment;
use sidekeep::engine::postgres::schema::dump::ToolSearch;
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle, Runtime};

/// The role that owns every cluster.
pub const SUPERUSER: &str = "postgres";
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// Runs a server until it ends, or until its input has a line or ends. The input is a pipe that only the test holds. A
/// line means that the test stops the server. If the input ends without a line, the test process is gone, so the shell
/// also removes the files.
const SUPERVISOR: &str = r#"
    exec 3<&0
    "$0" -D "$1/data" </dev/null 3<&- &
    server=$!
    (read -r line <&3; ended=$?; kill -QUIT $server; exit $ended) &
    watcher=$!
    wait $server
    kill $watcher 2>/dev/null
    wait $watcher
    if [ $? = 1 ]; then rm -rf "$1"; fi
"#;

/// How a cluster differs from the default one.
#[derive(Clone, Default)]
pub struct Settings {
    /// Lines of postgresql.conf.
    pub conf: Vec<String>,
    /// Lines of pg_hba.conf, which take precedence over the lines that trust the socket.
    pub hba: Vec<String>,
    pub network: Network,
    pub identity: Identity,
    /// The directory of the server's programs, or `None` for the tests' default.
    pub bin: Option<PathBuf>,
    /// Where its directory is created, or `None` for the directory of temporary files.
    pub place: Option<PathBuf>,
}

/// Whether a cluster listens on TCP.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    #[default]
    SocketOnly,
    /// 127.0.0.1 as well.
    Loopback,
}

/// Which system identifier a cluster has.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Identity {
    /// The template's, which is quick.
    #[default]
    Shared,
    /// Its own, from its own `initdb`.
    Own,
}

/// A running server. Dropping it stops the server and removes its files.
pub struct Cluster {
    child: Option<Child>,
    bin: PathBuf,
    user: Option<User>,
    port: u16,
    runtime: Option<Runtime>,
    dir: TempDir,
}

/// The user that runs the server's programs if the tests run as root.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Cluster {
    /// The default server, or `None` after printing that the test is skipped.
    pub fn start() -> Option<Self> {
        Self::start_with(&Settings::default())
    }

    /// A server with these settings, or `None` after printing that the test is skipped.
    pub fn start_with(settings: &Settings) -> Option<Self> {
        let bin = settings.bin.clone().or_else(programs)?;
        let user = server_user();
        let dir = directory(settings.place.clone(), user);
        let data = dir.path().join("data");
        match settings.identity {
            Identity::Shared => {
                let template = template(&bin, user);
                run(Command::new("cp").arg("-a").arg(template).arg(&data), "copying the template");
            }
            Identity::Own => initdb(&bin, user, &data),
        }
        let hba = format!("{}\nlocal all all trust\nlocal replication all trust\n", settings.hba.join("\n"));
        fs::write(data.join("pg_hba.conf"), hba).expect("pg_hba.conf");
        Some(Self::begin(bin, user, dir, settings))
    }

    /// A hot standby of this server with its own lines of postgresql.conf.
    pub fn standby(&self, conf: &[&str]) -> Self {
        let dir = directory(None, self.user);
        let data = dir.path().join("data");
        let mut backup = self.command("pg_basebackup");
        backup.arg("-h").arg(self.dir.path()).args(["-p", &self.port.to_string(), "-U", SUPERUSER]);
        run(backup.args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-D"]).arg(&data), "pg_basebackup");
        let conf = conf.iter().map(|line| (*line).to_owned()).collect();
        Self::begin(self.bin.clone(), self.user, dir, &Settings { conf, ..Settings::default() })
    }

    fn begin(bin: PathBuf, user: Option<User>, dir: TempDir, settings: &Settings) -> Self {
        let (port, addresses) = match settings.network {
            Network::SocketOnly => (5432, ""),
            Network::Loopback => (free_port(), "127.0.0.1"),
        };
        let own = format!(
            "\nlisten_addresses = '{addresses}'\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\n\
             full_page_writes = off\nshared_buffers = '32MB'\nmax_connections = 40\n\
             autovacuum = off\npassword_encryption = 'scram-sha-256'\nlog_min_messages = warning\ntimezone = 'UTC'\n{}\n",
            dir.path().display(),
            settings.conf.join("\n"),
        );
        let path = dir.path().join("data/postgresql.conf");
        let conf = fs::read_to_string(&path).expect("postgresql.conf") + &own;
        fs::write(&path, conf).expect("postgresql.conf");
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let mut cluster = Self { child: None, bin, user, port, runtime: Some(runtime), dir };
        cluster.start_server();
        cluster
    }

    /// Starts the server, possibly after [`Cluster::stop`], and waits until it answers.
    pub fn start_server(&mut self) {
        assert!(self.child.is_none(), "it is already running");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log");
        let mut command = prepared("/bin/sh", self.user);
        command.args(["-c", SUPERVISOR]).arg(self.bin.join("postgres")).arg(self.dir.path());
        // In its own process group: a signal to the test's group must not stop the shell from cleaning up.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("a shell starts"));
        let begun = Instant::now();
        loop {
            let error = match Client::connect(&self.config(SUPERUSER), "the test's server") {
                Ok(_) => return,
                Err(error) => error,
            };
            let ended = self.child.as_mut().expect("begun").try_wait().expect("a status").is_some();
            assert!(!ended && begun.elapsed() < START_TIME_MAX, "no server: {error:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server like an immediate shutdown: no checkpoint, connections are cut.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The server may have ended by itself.
            child.stdin.take().map(|mut shell| shell.write_all(b"stop\n"));
            child.wait().ok();
        }
    }

    /// The directory of the client programs: the server's, or one with newer programs that support this server.
    pub fn client_bin(&self) -> PathBuf {
        program_dir(&self.bin, "pg_dump")
    }

    /// The major version.
    pub fn version(&self) -> u32 {
        let text = fs::read_to_string(self.data().join("PG_VERSION")).expect("PG_VERSION");
        text.trim().parse().expect("a number")
    }

    /// One of the server's programs, run as the server's user.
    pub fn command(&self, program: &str) -> Command {
        command(&self.bin, self.user, program)
    }

    /// The directory of the unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A new directory for a tablespace, owned by the server's user.
    pub fn tablespace_dir(&self) -> PathBuf {
        let dir = self.dir.path().join("space");
        fs::create_dir(&dir).expect("a directory");
        give(&dir, self.user);
        dir
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The content of the server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Writes a file next to the data that only the server's user may read.
    pub fn write_private(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        give(&path, self.user);
        path
    }

    /// A URL of this database over the socket, as the superuser.
    pub fn dsn(&self, database: &str) -> String {
        let host = self.dir.path().display().to_string().replace('/', "%2F");
        format!("postgres://{SUPERUSER}@{host}:{}/{database}", self.port)
    }

    /// This database as a source, read as this role.
    pub fn source(&self, database: &str, role: &str) -> PostgresSource {
        let host = escaped(&self.dir.path().display().to_string());
        let url = format!("postgres://{}@{host}:{}/{}", escaped(role), self.port, escaped(database));
        let address = Address::parse(&url, &HostEnvironment::new([])).expect("an address");
        PostgresSource::new(address, ToolSearch::on_this_host(Some(self.client_bin()), Vec::new()))
    }

    pub fn config(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.dir.path()).port(self.port).user(SUPERUSER).dbname(database);
        config
    }

    /// A session as the superuser.
    pub fn client(&self, database: &str) -> Client {
        Client::connect(&self.config(database), "the test's server").expect("a session")
    }

    /// Runs statements in their own session. Returns the rows of all of them, as text.
    pub fn sql(&self, database: &str, text: &str) -> Vec<Vec<Option<String>>> {
        match self.client(database).texts("running a test's statements", text) {
            Ok(rows) => rows,
            Err(error) => panic!("{error}: {text}"),
        }
    }

    /// Creates a database. `options` follow its name, such as `ENCODING 'LATIN1' TEMPLATE template0`.
    pub fn create_database(&self, name: &str, options: &str) {
        let name = name.replace('"', "\"\"");
        self.sql(SUPERUSER, &format!("CREATE DATABASE \"{name}\" {options}"));
    }

    /// The runtime that drives sessions. It ends with the cluster.
    pub fn runtime(&self) -> Handle {
        self.runtime.as_ref().expect("kept until the end").handle().clone()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
        // Does not wait, because a failed test may still hold a session.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Escaped as part of a URL.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The directory of the server's programs, or `None` after printing that the test is skipped.
pub fn programs() -> Option<PathBuf> {
    let found = std::env::var_os("SIDEKEEP_TEST_PG_BIN").map(PathBuf::from).or_else(newest);
    if found.is_none() {
        let all = std::env::var("SIDEKEEP_TEST_ALL").is_ok_and(|value| value == "1");
        assert!(!all, "no PostgreSQL server: eval \"$(scripts/test-deps)\"");
        eprintln!("skipped: no PostgreSQL server (eval \"$(scripts/test-deps)\" installs one)");
    }
    found
}

/// Whether the server was built with TLS. If not, prints that the test is skipped.
pub fn has_tls() -> bool {
    let Some(bin) = programs() else { return false };
    let built = Command::new(bin.join("pg_config")).arg("--configure").output();
    // A server without pg_config comes from a distribution, which builds with TLS.
    let built = built.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let has =
        built.is_ok_and(|words| words.is_empty() || words.contains("--with-openssl") || words.contains("--with-ssl"));
    if !has {
        eprintln!("skipped: this server was built without TLS");
    }
    has
}

fn newest() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let bin = entry.path().join("bin");
        bin.join("postgres").exists().then_some((version, bin))
    });
    versions.max().map(|(_, bin)| bin)
}

/// `None` means the current user. Root must not run a server.
fn server_user() -> Option<User> {
    if fs::metadata("/proc/self").expect("a process").uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("a user named postgres");
    let mut numbers = line.split(':').skip(2).map(|field| field.parse().expect("a number"));
    let (uid, gid) = (numbers.next().expect("a uid"), numbers.next().expect("a gid"));
    Some(User { uid, gid })
}

/// The directory of this program: the server's, or the one with newer client programs.
fn program_dir(bin: &Path, program: &str) -> PathBuf {
    match std::env::var_os("SIDEKEEP_TEST_PG_CLIENT_BIN") {
        Some(newer) if !bin.join(program).exists() => newer.into(),
        _ => bin.to_owned(),
    }
}

fn command(bin: &Path, user: Option<User>, program: &str) -> Command {
    prepared(program_dir(bin, program).join(program), user)
}

fn prepared(program: impl AsRef<OsStr>, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    if let Some(User { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
    // Tests read the server's messages, so the locale and settings of the caller's session must not affect it.
    command.env("LC_ALL", "C").current_dir("/");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    command
}

fn give(path: &Path, user: Option<User>) {
    if let Some(User { uid, gid }) = user {
        chown(path, Some(uid), Some(gid)).expect("an owner");
    }
}

/// A directory owned by the server's user.
fn directory(place: Option<PathBuf>, user: Option<User>) -> TempDir {
    let place = place.unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::Builder::new().prefix("sidekeep-pg-").tempdir_in(place).expect("a directory");
    give(dir.path(), user);
    dir
}

/// The template cluster. The first test that needs it creates it.
fn template(bin: &Path, user: Option<User>) -> PathBuf {
    let version = Command::new(bin.join("postgres")).arg("--version").output().expect("a version");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let version: String = version.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    let uid = user.map_or_else(|| fs::metadata("/proc/self").expect("a process").uid(), |user| user.uid);
    let root = std::env::temp_dir().join(format!("sidekeep-test-{version}-{uid}"));
    fs::create_dir_all(&root).expect("a directory");
    give(&root, user);
    let lock = File::create(root.join("lock")).expect("a lock");
    lock.lock().expect("a lock");
    let template = root.join("template");
    if !template.exists() {
        let unfinished = root.join("unfinished");
        fs::remove_dir_all(&unfinished).ok();
        initdb(bin, user, &unfinished);
        fs::rename(&unfinished, &template).expect("renames");
    }
    template
}

fn initdb(bin: &Path, user: Option<User>, data: &Path) {
    let mut initdb = command(bin, user, "initdb");
    initdb.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--wal-segsize=1"]);
    run(initdb.args(["--username", SUPERUSER, "-D"]).arg(data), "initdb");
}

fn run(command: &mut Command, what: &str) {
    let output = command.stdin(Stdio::null()).output().expect(what);
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}
