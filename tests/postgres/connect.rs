//! Connecting to a server in all supported ways, and the messages when that fails.

use std::fs::{Permissions, set_permissions, write};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sidekeep::engine::postgres::connect::address::Address;
use sidekeep::engine::postgres::connect::host_environment::HostEnvironment;
use sidekeep::engine::postgres::connect::login::connect;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::postgres::cluster::{Cluster, Network, Settings, has_tls, programs};

const SECRET: &str = "s3cret:pass\\word";

/// Connects and returns the current user and database. An error is the whole message.
fn sign_in(url: &str, variables: &[(&str, &str)]) -> Result<String, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let signed_in = Address::parse(url, &HostEnvironment::new(variables)).and_then(|address| {
        let client = connect(&address)?;
        let row = &client.texts("asking", "SELECT current_user || '/' || current_database()")?[0];
        Ok(row[0].clone().expect("a value"))
    });
    signed_in.map_err(|error| {
        let message = error.to_string();
        assert!(!message.contains(SECRET) && !format!("{error:?}").contains(SECRET), "{error:?}");
        message
    })
}

/// A server that asks for a SCRAM password over TCP, with a role `app` that has one.
fn scram(conf: &[&str], hba: &str) -> Option<Cluster> {
    let settings = Settings {
        conf: conf.iter().map(|line| (*line).to_owned()).collect(),
        hba: vec![hba.to_owned()],
        network: Network::Loopback,
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&settings)?;
    let password = SECRET.replace('\'', "''");
    let role = format!("SET password_encryption = 'scram-sha-256'; CREATE ROLE app LOGIN PASSWORD '{password}'");
    cluster.sql("postgres", &role);
    Some(cluster)
}

fn assert_error_contains(result: Result<String, String>, parts: &[&str]) {
    let message = result.expect_err("refused");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn a_test_can_start_a_server() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.create_database("odd \"name\"", "ENCODING 'LATIN1' TEMPLATE template0");
    let rows = cluster.sql("odd \"name\"", "SELECT current_setting('server_encoding'), NULL; SELECT 2");
    assert_eq!(rows, [vec![Some("LATIN1".to_owned()), None], vec![Some("2".to_owned())]]);
}

/// Starts itself a second time, as the test that is killed.
#[test]
fn a_killed_test_leaves_no_server() {
    const HOLD: &str = "SIDEKEEP_TEST_HOLD_A_SERVER";
    if std::env::var_os(HOLD).is_some() {
        let cluster = Cluster::start().expect("a server");
        println!("\nheld {}", cluster.socket_dir().display());
        std::thread::sleep(Duration::from_secs(600));
    }
    let Some(_) = programs() else { return };
    let mut holder = Command::new(std::env::current_exe().expect("a path"));
    holder.args(["--exact", "connect::a_killed_test_leaves_no_server", "--nocapture"]).env(HOLD, "1");
    let mut holder = holder.stdout(Stdio::piped()).spawn().expect("it runs");
    let lines = BufReader::new(holder.stdout.take().expect("a pipe")).lines();
    let held = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("held ").map(PathBuf::from));
    let held = held.expect("a server was started");
    let process = std::fs::read_to_string(held.join("data/postmaster.pid")).expect("a server runs");
    let process = Path::new("/proc").join(process.lines().next().expect("a number"));
    assert!(process.exists());
    holder.kill().expect("killed");
    holder.wait().expect("killed");
    let begun = Instant::now();
    while process.exists() || held.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{} or {} stayed", process.display(), held.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_socket_several_hosts_and_environment_variables_work() {
    let Some(cluster) = Cluster::start() else { return };
    assert_eq!(sign_in(&cluster.dsn("template1"), &[]).as_deref(), Ok("postgres/template1"));
    let dir = cluster.socket_dir().display();
    let second = format!("postgres:///postgres?user=postgres&host=127.0.0.1,{dir}&port=1,5432");
    assert_eq!(sign_in(&second, &[]).as_deref(), Ok("postgres/postgres"));
    let host = dir.to_string();
    let around = [("PGHOST", host.as_str()), ("PGUSER", "postgres"), ("PGAPPNAME", "odd ' \\ name")];
    assert_eq!(sign_in("postgres://", &around).as_deref(), Ok("postgres/postgres"));
}

#[test]
fn a_scram_password_comes_from_url_environment_passfile_or_service() {
    let Some(cluster) = scram(&[], "host all all 127.0.0.1/32 scram-sha-256") else { return };
    let dir = TempDir::new().expect("a directory");
    let port = cluster.port();
    let url = format!("postgres://app@127.0.0.1:{port}/postgres");
    let in_url = format!("postgres://app:s3cret%3apass%5Cword@127.0.0.1:{port}/postgres");
    assert_eq!(sign_in(&in_url, &[]).as_deref(), Ok("app/postgres"));
    assert_eq!(sign_in(&url, &[("PGPASSWORD", SECRET)]).as_deref(), Ok("app/postgres"));

    let passfile = private(&dir, "pgpass", &format!("127.0.0.1:{port}:*:app:s3cret\\:pass\\\\word\n"));
    let by_file = [("PGPASSFILE", passfile.to_str().expect("a path"))];
    assert_eq!(sign_in(&url, &by_file).as_deref(), Ok("app/postgres"));
    set_permissions(&passfile, Permissions::from_mode(0o644)).expect("a mode");
    assert_error_contains(sign_in(&url, &by_file), &["others may read it; chmod 600", "PGPASSWORD"]);

    let service = format!("[night]\nhost=127.0.0.1\nport={port}\ndbname=template1\nuser=app\npassword={SECRET}\n");
    let service = private(&dir, "services", &service);
    let by_service = [("PGSERVICEFILE", service.to_str().expect("a path")), ("PGSERVICE", "night")];
    assert_eq!(sign_in("postgresql://", &by_service).as_deref(), Ok("app/template1"));
    let home = [("HOME", dir.path().to_str().expect("a path"))];
    std::fs::rename(&service, dir.path().join(".pg_service.conf")).expect("renames");
    assert_eq!(sign_in("postgres://?service=night", &home).as_deref(), Ok("app/template1"));

    let place = format!("the database postgres on 127.0.0.1:{port} as app");
    assert_error_contains(
        sign_in(&url, &[("PGPASSWORD", "wrong")]),
        &[&place, "password authentication failed", "PGPASS"],
    );
    assert_error_contains(sign_in(&url, &[]), &[&place, "password missing", "PGPASSWORD"]);
}

#[test]
fn a_missing_server_database_or_role_is_named() {
    let Some(cluster) = Cluster::start() else { return };
    let dir = cluster.socket_dir().display().to_string();
    let nowhere = "postgres://app:s3cret%3apass%5Cword@127.0.0.1:1/db";
    assert_error_contains(
        sign_in(nowhere, &[]),
        &["db on 127.0.0.1:1 as app", "refused", "check that the server runs"],
    );
    let socket = format!("postgres:///db?user=app&host={dir}&port=5");
    assert_error_contains(sign_in(&socket, &[]), &[&dir, "check that the server runs"]);
    assert_error_contains(sign_in(&cluster.dsn("missing"), &[]), &["\"missing\" does not exist", "psql -l"]);
    let role = cluster.dsn("postgres").replace("postgres@", "nobody@");
    assert_error_contains(sign_in(&role, &[]), &["role \"nobody\" does not exist", "may log in"]);
}

#[test]
fn a_server_that_does_not_answer_times_out() {
    let Some(cluster) = Cluster::start() else { return };
    let listener = cluster.runtime().block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let url = format!("postgres://app@127.0.0.1:{port}/db?connect_timeout=1");
    assert_error_contains(sign_in(&url, &[]), &["no answer within 1 s"]);
}

#[test]
fn each_sslmode_checks_what_it_promises() {
    let Some(certificates) = Certificates::make() else { return };
    let hba = "hostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl all all 127.0.0.1/32 reject";
    let Some(mut cluster) = scram(&[], hba) else { return };
    let port = cluster.port();
    let at = |host: &str, more: &str| format!("postgres://app@{host}:{port}/postgres?{more}");
    let password = [("PGPASSWORD", SECRET)];
    let home = [("PGPASSWORD", SECRET), ("HOME", certificates.dir.path().to_str().expect("a path"))];
    assert_error_contains(
        sign_in(&at("127.0.0.1", "sslmode=require"), &password),
        &["does not support TLS", "sslmode"],
    );

    certificates.install(&mut cluster);
    let root = format!("sslrootcert={}", certificates.path("ca.crt"));
    let other = format!("sslrootcert={}", certificates.path("other.crt"));
    let yes = Ok("app/postgres");
    assert_eq!(sign_in(&at("127.0.0.1", "sslmode=prefer"), &password).as_deref(), yes);
    assert_eq!(sign_in(&at("127.0.0.1", "sslmode=require"), &password).as_deref(), yes);
    assert_error_contains(sign_in(&at("127.0.0.1", "sslmode=disable"), &password), &["pg_hba.conf"]);
    let full = |host: &str, root: &str| at(host, &format!("sslmode=verify-full&{root}"));
    assert_eq!(sign_in(&full("localhost", &root), &password).as_deref(), yes);
    // The certificate must be for `host`. `hostaddr` is only where to connect.
    let named = full("db.example", &format!("{root}&hostaddr=127.0.0.1"));
    assert_error_contains(sign_in(&named, &password), &["db.example", "certificate", "the names"]);
    assert_error_contains(sign_in(&full("127.0.0.1", &root), &password), &["not valid for", "sslrootcert"]);
    let chain = |root: &str| at("127.0.0.1", &format!("sslmode=verify-ca&{root}"));
    assert_eq!(sign_in(&chain(&root), &password).as_deref(), yes);
    assert_error_contains(sign_in(&chain(&other), &password), &["UnknownIssuer"]);
    assert_error_contains(
        sign_in(&at("127.0.0.1", &format!("sslmode=require&{other}")), &password),
        &["UnknownIssuer"],
    );
    assert_error_contains(sign_in(&full("localhost", "sslrootcert=system"), &password), &["UnknownIssuer"]);
    assert_error_contains(sign_in(&full("localhost", "sslrootcert=/no/file"), &password), &["/no/file"]);
    assert_error_contains(
        sign_in(&at("h", "sslmode=verify-full"), &password),
        &["set sslrootcert to a file with its authority"],
    );

    // The default files below the home directory.
    let files = certificates.dir.path().join(".postgresql");
    std::fs::create_dir(&files).expect("a directory");
    std::fs::copy(certificates.path("ca.crt"), files.join("root.crt")).expect("a copy");
    assert_eq!(sign_in(&at("localhost", "sslmode=verify-full"), &home).as_deref(), yes);
}

#[test]
fn a_client_certificate_authenticates() {
    let Some(certificates) = Certificates::make() else { return };
    let Some(mut cluster) = scram(&[], "hostssl all app 127.0.0.1/32 cert") else { return };
    certificates.install(&mut cluster);
    let (certificate, key) = (certificates.path("app.crt"), certificates.path("app.key"));
    let url = format!("postgres://app@localhost:{}/postgres?sslmode=require&sslcert={certificate}", cluster.port());
    assert_eq!(sign_in(&format!("{url}&sslkey={key}"), &[]).as_deref(), Ok("app/postgres"));
    assert_error_contains(sign_in(&url, &[]), &["sslcert also needs sslkey"]);
    set_permissions(&key, Permissions::from_mode(0o644)).expect("a mode");
    assert_error_contains(sign_in(&format!("{url}&sslkey={key}"), &[]), &["chmod 600"]);
}

fn private(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    write(&path, text).expect("a file");
    set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
    path
}

/// Certificates of servers without an authority: one made as `docs/postgresql.md` says, one made as in common recipes.
#[test]
fn a_self_signed_certificate_works_unless_it_is_a_ca() {
    let Some(certificates) = Certificates::make() else { return };
    let hba = "hostssl all all 127.0.0.1/32 scram-sha-256";
    let Some(mut cluster) = scram(&[], hba) else { return };
    let url = |root: &str| {
        let root = certificates.path(root);
        format!("postgres://app@localhost:{}/postgres?sslmode=verify-full&sslrootcert={root}", cluster.port())
    };
    let (own, other, bare) = (url("alone.crt"), url("other.crt"), url("recipe.crt"));
    let password = [("PGPASSWORD", SECRET)];
    certificates.install_as(&mut cluster, "alone");
    assert_eq!(sign_in(&own, &password).as_deref(), Ok("app/postgres"));
    assert_error_contains(sign_in(&other, &password), &["UnknownIssuer", "that certificate if it is self-signed"]);
    certificates.install_as(&mut cluster, "recipe");
    assert_error_contains(sign_in(&bare, &password), &["CaUsedAsEndEntity", "docs/postgresql.md", "sslmode=require"]);
}

/// An authority with a server certificate (localhost) and a client certificate (app), and an unrelated authority.
struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// Returns `None` if the test must be skipped, after printing why.
    fn make() -> Option<Self> {
        if !has_tls() {
            return None;
        }
        if Command::new("openssl").arg("version").output().is_err() {
            eprintln!("skipped: openssl, which creates the certificates, is not installed");
            return None;
        }
        let this = Self { dir: TempDir::new().expect("a directory") };
        for name in ["ca", "other"] {
            this.openssl(&format!("req -x509 -days 2 -subj /CN={name} -out {name}.crt"), name);
        }
        for (name, alternative) in [("localhost", "subjectAltName=DNS:localhost"), ("app", "subjectAltName=DNS:app")] {
            let basic = "-addext basicConstraints=CA:FALSE -CA ca.crt -CAkey ca.key";
            let request = format!("req -x509 -days 2 -subj /CN={name} -addext {alternative} {basic} -out {name}.crt");
            this.openssl(&request, name);
        }
        let alone = "req -x509 -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost";
        this.openssl(&format!("{alone} -addext basicConstraints=CA:FALSE -out alone.crt"), "alone");
        this.openssl(&format!("{alone} -out recipe.crt"), "recipe");
        Some(this)
    }

    fn openssl(&self, words: &str, name: &str) {
        let key = ["-newkey", "rsa:2048", "-noenc", "-keyout"];
        let key_file = format!("{name}.key");
        let output = Command::new("openssl")
            .args(words.split(' '))
            .args(key)
            .arg(&key_file)
            .current_dir(self.dir.path())
            .output()
            .expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        set_permissions(self.dir.path().join(key_file), Permissions::from_mode(0o600)).expect("a mode");
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Makes the server offer TLS.
    fn install(&self, cluster: &mut Cluster) {
        self.install_as(cluster, "localhost");
    }

    /// Like [`Self::install`], with the certificate of this name.
    fn install_as(&self, cluster: &mut Cluster, name: &str) {
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).expect("a file");
        let file = |path: &Path| path.display().to_string();
        let certificate = file(&cluster.write_private("server.crt", &read(&format!("{name}.crt"))));
        let key = file(&cluster.write_private("server.key", &read(&format!("{name}.key"))));
        let authority = file(&cluster.write_private("ca.crt", &read("ca.crt")));
        for (name, value) in [("ssl_cert_file", certificate), ("ssl_key_file", key), ("ssl_ca_file", authority)] {
            cluster.sql("postgres", &format!("ALTER SYSTEM SET {name} = '{value}'"));
        }
        cluster.sql("postgres", "ALTER SYSTEM SET ssl = on");
        cluster.stop();
        cluster.start_server();
    }
}
