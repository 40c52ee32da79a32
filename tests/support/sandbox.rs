//! Runs the built binary in its own directory, with a clean environment and without a terminal.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Two users with contacts. One contact has no owner.
pub const SERVICE: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE contacts (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id) ON DELETE CASCADE, name TEXT);
    CREATE TABLE settings (name TEXT PRIMARY KEY, value);
    INSERT INTO users VALUES (1, 'Ana'), (2, 'Bo');
    INSERT INTO contacts VALUES (1, 1, 'Ada'), (2, 1, 'Alan'), (3, 2, 'Grace'), (4, NULL, 'Nobody''s');
    INSERT INTO settings VALUES ('theme', 'dark'), ('blob', x'00ff');
";

/// A directory to run in, removed afterwards.
pub struct Sandbox {
    pub dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// The result of a run.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Sandbox {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), variables: Vec::new() }
    }

    /// A sandbox with a repository, its keys in `keys/` and its `sidekeep.toml`, created by `init`.
    pub fn with_repository() -> Self {
        let sandbox = Self::new();
        sandbox.ok(&["init", "repo"]);
        sandbox
    }

    /// Like [`Self::with_repository`], with the small service in `sync.db` as its source.
    pub fn with_service() -> Self {
        let sandbox = Self::new();
        sandbox.sql("sync.db", SERVICE);
        sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
        sandbox
    }

    /// Runs statements in a database.
    pub fn sql(&self, name: &str, statements: &str) {
        let database = rusqlite::Connection::open(self.path(name)).expect("opens");
        database.execute_batch(statements).expect("runs");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("writes");
        path
    }

    pub fn set(&mut self, name: &str, value: impl AsRef<Path>) {
        let value = value.as_ref().to_str().expect("UTF-8").to_owned();
        self.variables.push((name.to_owned(), value));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_sidekeep")), args)
    }

    /// Like [`Self::command`], with a copy of the program or with a program that runs it.
    pub fn command_of(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null()).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("HOME", self.dir.path()).env("TZ", "UTC");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Self::ran(&mut self.command(args))
    }

    /// Runs `command` and returns its result.
    pub fn ran(command: &mut Command) -> Ran {
        let Output { status, stdout, stderr } = command.output().expect("the program runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let ran = Ran { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) };
        assert!(!ran.err.contains("bug in sidekeep"), "{}", ran.err);
        ran
    }

    /// Runs a command that must succeed and print nothing to standard error.
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        ran.out
    }

    /// Like [`Self::ok`] with `--json`, and parses the output.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let out = self.ok(&[args, &["--json"]].concat());
        let document: serde_json::Value = serde_json::from_str(&out).expect("one JSON document");
        assert_eq!(document["schema"], 1);
        document
    }

    /// Runs a command that must fail with `code` and without output. Returns standard error.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{args:?}: {}", ran.err);
        ran.err
    }
}

/// Waits until the process handles SIGINT itself.
pub fn wait_until_listening(child: &Child) {
    let started = Instant::now();
    let status = format!("/proc/{}/status", child.id());
    while started.elapsed() < Duration::from_secs(30) {
        let text = std::fs::read_to_string(&status).expect("the process runs");
        let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask").trim();
        if u64::from_str_radix(mask, 16).expect("hex") & 0b10 != 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("the process does not handle SIGINT");
}

pub fn interrupt(child: &Child) {
    let sent = std::process::Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status();
    assert!(sent.expect("kill runs").success());
}

/// The gaps in the JSON of a backup, which are its warnings.
pub fn gaps_of(report: &serde_json::Value) -> Vec<serde_json::Value> {
    let findings = report["findings"].as_array().expect("findings");
    findings.iter().filter(|found| found["severity"] == "warning").cloned().collect()
}

/// The findings of a kind in the JSON of a command.
pub fn of_kind(report: &serde_json::Value, kind: &str) -> Vec<serde_json::Value> {
    let findings = report["findings"].as_array().expect("findings");
    findings.iter().filter(|found| found["kind"] == kind).cloned().collect()
}
