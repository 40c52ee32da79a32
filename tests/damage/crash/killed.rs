//! The program itself is stopped from outside: by SIGKILL at any time, and by Ctrl-C.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sidekeep::base::id::Digest;
use sidekeep::base::role::Role;

use crate::support::world::data::{copy, create_service, draw, noise, open};
use crate::support::world::look::assert_sound;
use crate::support::world::{SOURCE, World, times};

/// A repository in a directory, a database, and everything that a host needs to back it up.
struct Host {
    world: World,
    live: PathBuf,
}

impl Host {
    fn new(users: i64) -> Self {
        let world = World::new();
        let live = world.path("live.db");
        create_service(&live, users);
        let key = &world.keys.iter().find(|(role, _)| *role == Role::Operator).expect("an operator").1;
        let file = world.path("operator.key");
        std::fs::write(&file, key).expect("writes");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("sets");
        let config = format!("repo = 'store'\nkey_file = 'operator.key'\n[source.{SOURCE}]\nurl = 'sqlite:live.db'\n");
        std::fs::write(world.path("sidekeep.toml"), config).expect("writes");
        Self { world, live }
    }

    fn backup(&self) -> Child {
        let dir = self.world.dir.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidekeep"));
        command.args(["backup", "--json", "--spill-dir", "."]).current_dir(dir).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", dir).env("TZ", "UTC");
        command.spawn().expect("the program runs")
    }

    /// Runs an undisturbed backup and returns its report.
    fn good_backup(&self) -> serde_json::Value {
        let Output { status, stdout, stderr } = self.backup().wait_with_output().expect("ends");
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        serde_json::from_slice(&stdout).expect("a report")
    }

    fn snapshots(&self) -> Vec<Digest> {
        self.world.ledger(SOURCE).snapshots.iter().map(|record| record.id).collect()
    }
}

#[test]
fn a_backup_killed_at_any_time_leaves_earlier_snapshots_intact() {
    let host = Host::new(60);
    let began = Instant::now();
    host.good_backup();
    let mut usual = began.elapsed();
    let mut snapshots: Vec<(Digest, PathBuf)> = Vec::new();
    let (mut died, mut lived) = (0, 0);
    for round in 0..times(20) as i64 {
        let kept = host.world.path(&format!("kept {round}"));
        let db = open(&host.live);
        db.execute("UPDATE contacts SET name = ?1 WHERE id % 5 = ?2", (format!("n{round}"), round % 5)).expect("a day");
        let photo = (100_000 + round, noise(round as u64, 40_000 + 5000 * round as usize));
        db.execute("INSERT INTO photos VALUES (?1, 1, NULL, ?2)", photo).expect("a photo");
        drop(db);
        copy(&host.live, &kept);
        if snapshots.is_empty() {
            snapshots.push((host.snapshots()[0], PathBuf::new()));
        }

        let mut run = host.backup();
        std::thread::sleep(usual.mul_f64(draw(round, 1100) as f64 / 1000.0));
        run.kill().expect("is ours");
        let output = run.wait_with_output().expect("ends");
        assert_ne!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        assert_sound(&host.world, SOURCE);
        let now = host.snapshots();
        assert!(now.len() <= snapshots.len() + 1, "{now:?}");
        died += u32::from(now.len() == snapshots.len());
        lived += u32::from(now.len() > snapshots.len());
        if now.len() == snapshots.len() && round % 3 == 2 {
            let began = Instant::now();
            host.good_backup();
            usual = began.elapsed();
        }
        let now = host.snapshots();
        if now.len() > snapshots.len() {
            snapshots.push((now[snapshots.len()], kept));
        }
        assert_eq!(now, snapshots.iter().map(|snapshot| snapshot.0).collect::<Vec<_>>());
    }
    println!("{died} runs were killed, {lived} completed; one takes {usual:?}");
    assert!(died > 0, "none was killed in time");
    for (id, kept) in &snapshots[1..] {
        host.world.assert_restores(SOURCE, *id, kept);
    }
    let last = host.good_backup();
    host.world.assert_restores(SOURCE, last["snapshot"].as_str().expect("an id").parse().expect("an id"), &host.live);
}

#[test]
fn a_backup_stopped_by_ctrl_c_exits_with_130_and_the_next_run_resumes() {
    let host = Host::new(5);
    let db = open(&host.live);
    for photo in 0..10_i64 {
        let bytes = noise(photo as u64, 5 << 20);
        db.execute("INSERT INTO photos VALUES (?1, 1, NULL, ?2)", (1000 + photo, bytes)).expect("a photo");
    }
    drop(db);
    let run = host.backup();
    let sessions = host.world.path("store").join(host.world.source(SOURCE).to_string()).join("sessions");
    wait_for(&sessions);
    let pid = run.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let output = run.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(host.snapshots().is_empty() && output.stdout.is_empty(), "{said}");

    let next = host.good_backup();
    let (adopted, packs) = (next["adopted"].as_u64().expect("a count"), next["packs"].as_u64().expect("a count"));
    assert!(adopted >= 1, "{next}");
    let (new, content) =
        (next["new_bytes"].as_u64().expect("a count"), next["content_bytes"].as_u64().expect("a count"));
    assert!(new < content - (15 << 20), "{packs} packs with {new} of {content} bytes");
    host.world.assert_restores(SOURCE, next["snapshot"].as_str().expect("an id").parse().expect("an id"), &host.live);
}

fn wait_for(directory: &Path) {
    let began = Instant::now();
    while !directory.exists() {
        assert!(began.elapsed() < Duration::from_secs(120), "nothing was announced");
        std::thread::sleep(Duration::from_millis(2));
    }
}
