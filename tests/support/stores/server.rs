//! Real servers: SeaweedFS for S3 and Azurite for Azure. Each has its own directory and ports, and stops when its
//! value is dropped. The environment names their programs (`scripts/test-deps` prints the lines). Without a program a
//! test prints that it is skipped, unless `SIDEKEEP_TEST_ALL=1` makes that a failure.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use sidekeep::base::env::{Env, System};
use tempfile::TempDir;

use super::wire::{Request, forward};

/// A running server. Dropping it stops the process.
pub struct Running {
    pub address: SocketAddr,
    /// The settings for opening a store that reaches the server directly.
    pub settings: Vec<(String, String)>,
    child: Child,
    /// Files that the server creates outside its directory.
    litter: Vec<PathBuf>,
    _data: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has already ended.
        self.child.kill().ok();
        self.child.wait().ok();
        for path in &self.litter {
            std::fs::remove_file(path).ok();
        }
    }
}

impl Running {
    /// The settings with another address, such as a proxy's.
    pub fn settings_at(&self, url: &str) -> Vec<(String, String)> {
        let direct = format!("http://{}", self.address);
        let replaced = self.settings.iter().map(|(key, value)| (key.clone(), value.replace(&direct, url)));
        replaced.collect()
    }
}

/// The program named by `variable`, or `None` after printing that the test is skipped.
pub fn program(variable: &str) -> Option<String> {
    if let Ok(path) = std::env::var(variable) {
        return Some(path);
    }
    let all = std::env::var("SIDEKEEP_TEST_ALL").is_ok_and(|value| value == "1");
    assert!(!all, "{variable} is not set: eval \"$(scripts/test-deps)\"");
    eprintln!("skipped: {variable} is not set (eval \"$(scripts/test-deps)\" sets it)");
    None
}

/// A port that is free together with the one 10,000 above it, which SeaweedFS uses for gRPC.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the kernel's ephemeral ports, and different for other test processes.
    let start = (std::process::id() % 500) as u16 * 20;
    for _ in 0..1000 {
        let port = 11_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if [port, port + 10_000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
    panic!("no free port");
}

fn strings(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// SeaweedFS with an empty bucket named `bucket`.
pub async fn seaweedfs() -> Option<Running> {
    let weed = program("SIDEKEEP_TEST_WEED")?;
    let data = TempDir::new().expect("a directory");
    let roles = ["s3", "master", "volume", "filer", "admin"].map(|role| (role, port()));
    let flags = roles.map(|(role, port)| format!("-{role}.port={port}"));
    let litter = roles.iter().flat_map(|(role, port)| {
        let names = [format!("{role}-{port}"), format!("{role}-grpc-{}", port + 10_000)];
        names.map(|name| PathBuf::from(format!("/tmp/seaweedfs-{name}.sock")))
    });
    let litter = litter.collect();
    let child = Command::new(weed)
        .arg("mini")
        .arg(format!("-dir={}", data.path().display()))
        .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=bucket", "-webdav=false", "-admin.ui=false"])
        .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
        .args(flags)
        .env("AWS_ACCESS_KEY_ID", "test-key")
        .env("AWS_SECRET_ACCESS_KEY", "test-secret")
        .current_dir(data.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("SeaweedFS starts");
    let address = SocketAddr::from(([127, 0, 0, 1], roles[0].1));
    let settings = strings(&[
        ("aws_endpoint", &format!("http://{address}")),
        ("aws_region", "us-east-1"),
        ("aws_access_key_id", "test-key"),
        ("aws_secret_access_key", "test-secret"),
        ("allow_http", "true"),
    ]);
    Some(Running { address, settings, child, litter, _data: data })
}

const AZURE_ACCOUNT: &str = "devstoreaccount1";
/// The published key of Azurite's only account.
const AZURE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Azurite with an empty container named `bucket`.
pub async fn azurite() -> Option<Running> {
    let azurite = program("SIDEKEEP_TEST_AZURITE")?;
    let data = TempDir::new().expect("a directory");
    let port = port();
    let child = Command::new(azurite)
        .args(["--blobHost", "127.0.0.1", "--skipApiVersionCheck", "--silent", "--disableTelemetry"])
        .args(["--blobPort", &port.to_string(), "--location"])
        .arg(data.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("Azurite starts");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let settings = strings(&[
        ("azure_storage_endpoint", &format!("http://{address}/{AZURE_ACCOUNT}")),
        ("azure_storage_account_name", AZURE_ACCOUNT),
        ("azure_storage_account_key", AZURE_KEY),
        ("allow_http", "true"),
    ]);
    let running = Running { address, settings, child, litter: Vec::new(), _data: data };
    make_container(address).await;
    Some(running)
}

/// Creates the container with a request signed by hand, because `object_store` cannot create one.
async fn make_container(address: SocketAddr) {
    let now = jiff::Timestamp::from_microsecond(System.now().0).expect("a valid time");
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let headers = format!("x-ms-date:{date}\nx-ms-version:2021-08-06\n");
    let resource = format!("/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/bucket\nrestype:container");
    let key = data_encoding::BASE64.decode(AZURE_KEY.as_bytes()).expect("base64");
    let text = format!("PUT{}{headers}{resource}", "\n".repeat(12));
    let signature = data_encoding::BASE64.encode(&hmac_sha256(&key, text.as_bytes()));
    let head = format!(
        "PUT /{AZURE_ACCOUNT}/bucket?restype=container HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\
         x-ms-date: {date}\r\nx-ms-version: 2021-08-06\r\nAuthorization: SharedKey {AZURE_ACCOUNT}:{signature}"
    );
    let (method, target) = (String::new(), String::new());
    let request = Request { method, target, headers: Vec::new(), body: bytes::Bytes::new(), head };
    let mut answer = Vec::new();
    for _ in 0..200 {
        match forward(address, &request).await {
            Ok(bytes) if !bytes.is_empty() => {
                answer = bytes;
                break;
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 201"), "Azurite did not create the container: {answer}");
}

/// HMAC-SHA-256 (RFC 2104).
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new_with_prefix(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new_with_prefix(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}
