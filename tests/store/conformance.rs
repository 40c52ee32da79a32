//! One suite for every kind of store, tests of directories, and tests of stores and networks that fail.
//! `support/stores/server.rs` describes the real servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::stores::faulty::{ALL, Effect, Fault, Faulty, Plan, Verb};
use crate::support::stores::proxy::{Proxy, Trouble};
use crate::support::stores::recorder::Recorder;
use crate::support::stores::wire::Response;
use crate::support::stores::{damage, gcs, server};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use sidekeep::base::env::Seeded;
use sidekeep::store::{Conditional, Created, Doing, Location, OpenOptions, RetryPolicy, Store, StoreError, probe};

const NAME: &str = "0123456789abcdef0123456789abcdef/packs/00/pack";

fn memory() -> Store {
    Store::from_object_store(Arc::new(InMemory::new()))
}

fn bytes(length: usize, seed: u8) -> Bytes {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8) ^ seed).collect()
}

fn open(location: &str, settings: Vec<(String, String)>) -> Store {
    open_with(location, settings, RetryPolicy::default())
}

fn open_with(location: &str, settings: Vec<(String, String)>, retry_policy: RetryPolicy) -> Store {
    let location = Location::parse(location).expect("a location");
    Store::open_with(&location, &OpenOptions { retry_policy, settings }).expect("opens")
}

/// Waits only briefly, so that tests end soon.
fn impatient() -> RetryPolicy {
    RetryPolicy {
        idle: Duration::from_millis(500),
        bytes_per_second_min: 64 << 10,
        retries_max: 2,
        retry_time_max: Duration::from_secs(5),
        pause: Duration::from_millis(1),
        create_attempts_max: 3,
    }
}

async fn ready(store: &Store) {
    for _ in 0..300 {
        if store.list_prefixes("").await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} did not become ready", store.place());
}

// The suite.

async fn conforms(store: &Store) {
    creates_once(store).await;
    reads_exactly(store).await;
    lists(store).await;
    deletes(store).await;
    wins_races(store).await;
}

async fn creates_once(store: &Store) {
    let (one, two) = (bytes(1000, 1), bytes(1000, 2));
    assert_eq!(store.create("once/a", one.clone()).await, Ok(Created::New));
    assert_eq!(store.create("once/a", one.clone()).await, Ok(Created::Same));
    for other in [two, one.slice(1..), bytes(2000, 1), Bytes::new()] {
        assert_eq!(store.create("once/a", other).await, Err(StoreError::Exists { name: "once/a".to_owned() }));
    }
    assert_eq!(store.get("once/a", 1000).await, Ok(one.clone()));
    assert_eq!(store.create_durable("once/b", one.clone()).await, Ok(Created::New));
    assert_eq!(store.create("once/empty", Bytes::new()).await, Ok(Created::New));
    assert_eq!(store.create("once/empty", Bytes::new()).await, Ok(Created::Same));
    assert_eq!(store.get("once/empty", 0).await, Ok(Bytes::new()));
    assert_eq!(store.create("once/big", bytes(8 << 20, 3)).await, Ok(Created::New));
    assert_eq!(store.get("once/big", 8 << 20).await, Ok(bytes(8 << 20, 3)));
    store.barrier().await.expect("durable");
    assert!(matches!(store.create("../a", one.clone()).await, Err(StoreError::Name { .. })));
    assert!(matches!(store.create("a#1", one).await, Err(StoreError::Name { .. })));
}

async fn reads_exactly(store: &Store) {
    let object = bytes(200_000, 4);
    store.create("read/a", object.clone()).await.expect("creates");
    let missing = StoreError::NotFound { name: "read/none".to_owned() };
    assert_eq!(store.get("read/none", 10).await, Err(missing.clone()));
    assert_eq!(store.get_range("read/none", 0..1).await, Err(missing.clone()));
    assert_eq!(store.size("read/none").await, Err(missing));
    assert_eq!(store.size("read/a").await, Ok(200_000));
    let too_large = StoreError::TooLarge { name: "read/a".to_owned(), size_bytes: 200_000, limit_bytes: 199_999 };
    assert_eq!(store.get("read/a", 199_999).await, Err(too_large));
    for range in [0..1, 0..200_000, 199_999..200_000, 77_777..77_777, 1000..3000] {
        let part = object.slice(range.start as usize..range.end as usize);
        assert_eq!(store.get_range("read/a", range).await, Ok(part));
    }
    let short = |wanted_bytes, got_bytes| StoreError::Short { name: "read/a".to_owned(), wanted_bytes, got_bytes };
    assert_eq!(store.get_range("read/a", 199_999..200_001).await, Err(short(2, 1)));
    assert_eq!(store.get_range("read/a", 200_000..200_001).await, Err(short(1, 0)));
    assert_eq!(store.get_range("read/a", 300_000..300_007).await, Err(short(7, 0)));

    let before = store.counters();
    let wanted = [150_000..150_010, 10..20, 30_000..30_500, 5..12, 0..0, 190_000..200_000];
    let parts = store.get_ranges("read/a", &wanted).await.expect("reads");
    for (range, part) in wanted.iter().zip(&parts) {
        assert_eq!(*part, object.slice(range.start as usize..range.end as usize));
    }
    let spent = store.counters().since(&before);
    assert_eq!((spent.gets, spent.bytes_received), (3, 30_495 + 10 + 10_000));
    assert_eq!(store.get_ranges("read/a", &[0..10, 199_990..200_010]).await, Err(short(20, 10)));
}

async fn lists(store: &Store) {
    let names: Vec<String> = (0..12).map(|n| format!("list/{}/{n:02}", n % 3)).collect();
    for (length, name) in names.iter().enumerate() {
        store.create(name, bytes(length, 5)).await.expect("creates");
    }
    store.create("list/top", bytes(1, 5)).await.expect("creates");
    store.create("list2/other", bytes(1, 5)).await.expect("creates");
    let listed = store.list_sorted("list").await.expect("lists");
    let mut expected: Vec<&str> = names.iter().map(String::as_str).chain(["list/top"]).collect();
    expected.sort_unstable();
    assert_eq!(listed.iter().map(|listed| listed.name.as_str()).collect::<Vec<_>>(), expected);
    let nine = listed.iter().find(|listed| listed.name == "list/0/09").expect("listed");
    assert_eq!(nine.size_bytes, 9);
    assert!(nine.modified.to_string().starts_with("20"), "{}", nine.modified);
    assert_eq!(store.list_prefixes("list").await.expect("lists"), ["list/0", "list/1", "list/2"]);
    assert_eq!(store.list_sorted("list/1").await.expect("lists").len(), 4);
    assert_eq!(store.list_sorted("nothing").await, Ok(vec![]));
    assert_eq!(store.list_prefixes("nothing").await, Ok(vec![]));
    assert!(store.list_sorted("").await.expect("lists").len() > 13);
    assert!(store.list_prefixes("").await.expect("lists").contains(&"list2".to_owned()));
    assert!(matches!(store.list_sorted("list/").await, Err(StoreError::Name { .. })));
}

async fn deletes(store: &Store) {
    store.create("gone/a", bytes(10, 6)).await.expect("creates");
    store.delete("gone/a").await.expect("deletes");
    assert_eq!(store.get("gone/a", 10).await, Err(StoreError::NotFound { name: "gone/a".to_owned() }));
    store.delete("gone/a").await.expect("a missing object is not an error");
    assert_eq!(store.create("gone/a", bytes(10, 7)).await, Ok(Created::New));
    store.barrier().await.expect("durable");
}

async fn wins_races(store: &Store) {
    let outcome = probe(store, &Seeded::new(7)).await.expect("probes");
    assert_eq!(outcome.conditional, Conditional::Works);
    assert_eq!(outcome.left, None);
    assert_eq!(store.list_sorted("probe").await, Ok(vec![]));
}

#[tokio::test]
async fn memory_conforms() {
    conforms(&memory()).await;
}

#[tokio::test]
async fn a_directory_conforms() {
    let root = tempfile::tempdir().expect("a directory");
    let location = Location::parse(root.path().join("a b/repo").to_str().expect("UTF-8")).expect("a location");
    let store = Store::create_at(&location, &OpenOptions::default()).expect("makes");
    conforms(&store).await;
    let again = Store::create_at(&location, &OpenOptions::default()).expect("an existing directory is not an error");
    assert_eq!(again.size("once/a").await, Ok(1000));
}

#[tokio::test]
async fn google_cloud_storage_conforms() {
    let server = gcs::start().await;
    let store = open("gs://bucket", gcs::settings(&server.url()));
    conforms(&store).await;
    let below = open("gs://bucket/deep/pre.fix/", gcs::settings(&server.url()));
    conforms(&below).await;
    let outside = store.list_sorted("deep/pre.fix").await.expect("lists");
    let inside = below.list_sorted("").await.expect("lists");
    assert_eq!(outside.len(), inside.len());
    assert!(outside.iter().zip(&inside).all(|(a, b)| a.name == format!("deep/pre.fix/{}", b.name)));
}

#[tokio::test]
async fn seaweedfs_conforms() {
    let Some(server) = server::seaweedfs().await else { return };
    let store = open("s3://bucket/re/po", server.settings.clone());
    ready(&store).await;
    conforms(&store).await;
    conforms(&open("s3://bucket", server.settings.clone())).await;
    lists_more_than_a_page(&store).await;
}

async fn lists_more_than_a_page(store: &Store) {
    let names = (0..1_050).map(|n| format!("pages/{n:04}"));
    let creates = names.map(|name| async move { store.create(&name, Bytes::from_static(b"x")).await });
    futures_util::stream::iter(creates).buffer_unordered(16).try_collect::<Vec<_>>().await.expect("creates");
    let before = store.counters();
    assert_eq!(store.list_sorted("pages").await.expect("lists").len(), 1_050);
    let spent = store.counters().since(&before);
    assert_eq!((spent.lists, spent.http_requests), (1, 2));
}

#[tokio::test]
async fn azurite_conforms() {
    let Some(server) = server::azurite().await else { return };
    let store = open("az://bucket/re/po", server.settings.clone());
    ready(&store).await;
    conforms(&store).await;
    conforms(&open("az://bucket", server.settings.clone())).await;
}

/// Tests any store named by SIDEKEEP_TEST_STORE, with its credentials in their usual places, so that you can check
/// your own store before you trust it with backups. It must be empty, and the test deletes its objects again.
#[tokio::test]
async fn a_store_of_your_own_conforms() {
    let Ok(url) = std::env::var("SIDEKEEP_TEST_STORE") else { return };
    let store = open(&url, Vec::new());
    assert_eq!(store.list_sorted("").await.expect("lists"), [], "{url} is not empty");
    conforms(&store).await;
    lists_more_than_a_page(&store).await;
    for listed in store.list_sorted("").await.expect("lists") {
        store.delete(&listed.name).await.expect("deletes");
    }
}

#[tokio::test]
async fn a_store_prints_no_secret() {
    let settings = [("aws_access_key_id", "hunter1"), ("aws_secret_access_key", "hunter2")];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    assert_eq!(format!("{:?}", open("s3://bucket/a", settings)), "Store(\"s3://bucket/a\")");
}

// Directories.

#[tokio::test]
async fn a_missing_directory_is_refused() {
    let root = tempfile::tempdir().expect("a directory");
    let missing = root.path().join("missing");
    let error =
        Store::open(&Location::parse(missing.to_str().expect("UTF-8")).expect("a location")).expect_err("missing");
    assert!(matches!(error, StoreError::NoPlace { .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("no repository at {}", missing.display())), "{error}");
    std::fs::write(&missing, b"").expect("writes");
    let error =
        Store::open(&Location::parse(missing.to_str().expect("UTF-8")).expect("a location")).expect_err("a file");
    assert!(matches!(error, StoreError::NoPlace { .. }), "{error}");
}

#[tokio::test]
async fn a_barrier_syncs_each_object_once() {
    let root = tempfile::tempdir().expect("a directory");
    let store = open(root.path().to_str().expect("UTF-8"), vec![]);
    for n in 0..10 {
        store.create(&format!("a/b{n}/c"), bytes(10, n)).await.expect("creates");
    }
    assert_eq!(store.counters().files_synced, 0);
    store.barrier().await.expect("durable");
    assert_eq!(store.counters().files_synced, 10);
    store.barrier().await.expect("durable");
    assert_eq!(store.counters().files_synced, 10);
    // Another writer created it, perhaps without a barrier. It must be durable for us as well.
    assert_eq!(store.create_durable("a/b0/c", bytes(10, 0)).await, Ok(Created::Same));
    assert_eq!(store.counters().files_synced, 11);
}

#[tokio::test]
async fn leftovers_of_a_crash_are_not_objects() {
    let root = tempfile::tempdir().expect("a directory");
    let store = open(root.path().to_str().expect("UTF-8"), vec![]);
    store.create("a/b", bytes(10, 1)).await.expect("creates");
    for name in ["a/b#1", "a/c#1", "a/c#2"] {
        std::fs::write(root.path().join(name), b"half").expect("writes");
    }
    let names = |listed: Vec<sidekeep::store::ListedObject>| listed.into_iter().map(|l| l.name).collect::<Vec<_>>();
    assert_eq!(names(store.list_sorted("").await.expect("lists")), ["a/b"]);
    assert_eq!(store.create("a/c", bytes(10, 2)).await, Ok(Created::New));
    assert_eq!(names(store.list_sorted("a").await.expect("lists")), ["a/b", "a/c"]);
    assert_eq!(store.get("a/c", 10).await, Ok(bytes(10, 2)));
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_without_write_permission_is_reported() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().expect("a directory");
    let store = open(root.path().to_str().expect("UTF-8"), vec![]);
    store.create("a", bytes(10, 1)).await.expect("creates");
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o555)).expect("sets");
    let answer = store.create("b", bytes(10, 1)).await;
    let below = store.create("c/d", bytes(10, 1)).await;
    let deleted = store.delete("a").await;
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).expect("sets");
    if answer.is_ok() {
        eprintln!("skipped: permissions do not apply to the superuser");
        return;
    }
    assert!(matches!(answer, Err(StoreError::Refused { doing: Doing::Creating, .. })), "{answer:?}");
    assert!(matches!(below, Err(StoreError::Refused { .. })), "{below:?}");
    assert!(matches!(deleted, Err(StoreError::Refused { doing: Doing::Deleting, .. })), "{deleted:?}");
}

// Stores that fail, simulated by a decorator.

fn faulty(verbs: &'static [Verb], times: u64, fault: Fault) -> (Store, Arc<Faulty>) {
    let faulty = Faulty::new(Arc::new(InMemory::new()), Plan { verbs, prefix: "a/", first: 1, times, fault });
    (Store::from_object_store(Arc::<Faulty>::clone(&faulty)), faulty)
}

#[tokio::test]
async fn a_lost_answer_is_resolved_by_reading_back() {
    let (store, _) = faulty(&[Verb::Put], 1, Fault::Lost(Effect::Applied));
    assert_eq!(store.create("a/x", bytes(100, 1)).await, Ok(Created::Same));
    assert_eq!(store.counters().requests(), 2);

    let (store, _) = faulty(&[Verb::Put], 1, Fault::Lost(Effect::NotApplied));
    assert_eq!(store.create("a/x", bytes(100, 1)).await, Ok(Created::New));
    assert_eq!(store.counters().creates, 2);

    let (store, faulty) = faulty(&[Verb::Put], u64::MAX, Fault::Lost(Effect::NotApplied));
    let error = store.create("a/x", bytes(100, 1)).await.expect_err("never stored");
    assert!(matches!(error, StoreError::Uncertain { attempts: 4, .. }), "{error}");
    assert_eq!(faulty.calls(), 4);

    // Nothing can be reached at all, which is just as uncertain.
    let (store, _) = self::faulty(ALL, u64::MAX, Fault::Lost(Effect::NotApplied));
    let error = store.create("a/x", bytes(100, 1)).await.expect_err("not reached");
    assert!(matches!(error, StoreError::Uncertain { .. }), "{error}");
    let error = store.get("a/x", 1).await.expect_err("not reached");
    assert!(matches!(error, StoreError::Unreachable { doing: Doing::Reading, .. }), "{error}");
}

#[tokio::test]
async fn clear_failures_are_not_retried() {
    for (fault, words) in [(Fault::Refused, "was refused"), (Fault::Full, "is full")] {
        let (store, faulty) = faulty(&[Verb::Put], u64::MAX, fault);
        let error = store.create("a/x", bytes(100, 1)).await.expect_err("fails");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().starts_with("creating a/x"), "{error}");
        assert_eq!(faulty.calls(), 1);
    }
}

#[tokio::test]
async fn a_short_answer_is_an_error() {
    let (store, _) = faulty(&[Verb::Get], u64::MAX, Fault::Short);
    store.create("a/x", bytes(100, 1)).await.expect("creates");
    // An error of the transfer, not of the object, which must not be reported as damaged.
    let broke_off = |answer: Result<Bytes, StoreError>, wanted: u64| match answer {
        Err(StoreError::Unreachable { reason, .. }) => {
            assert!(reason.contains(&format!("{} of {wanted} bytes", wanted - 1)), "{reason}");
        }
        other => panic!("{other:?}"),
    };
    broke_off(store.get("a/x", 100).await, 100);
    broke_off(store.get_range("a/x", 10..20).await, 10);
    broke_off(store.get_ranges("a/x", &[10..20, 15..25]).await.map(|_| Bytes::new()), 15);
}

#[tokio::test]
async fn after_a_crash_nothing_changes() {
    for effect in [Effect::NotApplied, Effect::Applied] {
        let below = Arc::new(InMemory::new());
        let crashing = Faulty::new(Arc::<InMemory>::clone(&below), Plan::crash(2, effect));
        let store = Store::from_object_store(Arc::<Faulty>::clone(&crashing));
        store.create("a", bytes(1, 1)).await.expect("before the crash");
        assert!(store.create("b", bytes(1, 1)).await.is_err());
        assert!(store.create("c", bytes(1, 1)).await.is_err() && store.get("a", 1).await.is_err());
        assert!(crashing.is_frozen());
        let expected: &[&str] = if effect == Effect::Applied { &["a", "b"] } else { &["a"] };
        assert_eq!(damage::names(&*below).await, expected);
    }
}

#[tokio::test]
async fn the_recorder_records_calls_and_damage_is_applied() {
    let below: Arc<InMemory> = Arc::default();
    let recorder = Recorder::new(Arc::<InMemory>::clone(&below));
    let store = Store::from_object_store(Arc::<Recorder>::clone(&recorder));
    store.create("a", bytes(10, 1)).await.expect("creates");
    store.create("b", bytes(10, 2)).await.expect("creates");
    store.get_range("a", 2..4).await.expect("reads");
    assert_eq!(recorder.names(Verb::Put), ["a", "b"]);
    assert_eq!(recorder.calls()[2].range, Some(2..4));
    recorder.clear();

    damage::flip_bit(&*below, "a", 9).await;
    assert_eq!(store.get("a", 10).await.expect("reads")[1], bytes(10, 1)[1] ^ 2);
    damage::swap(&*below, "a", "b").await;
    assert_eq!(store.get("a", 10).await, Ok(bytes(10, 2)));
    damage::truncate(&*below, "a", 3).await;
    damage::extend(&*below, "b", b"more").await;
    assert_eq!((store.size("a").await, store.size("b").await), (Ok(3), Ok(14)));
    damage::rename(&*below, "a", "c").await;
    damage::delete(&*below, "b").await;
    assert_eq!(damage::names(&*below).await, ["c"]);
}

// Networks and servers that fail.

async fn troubled() -> (crate::support::stores::wire::Server, Proxy, Store) {
    let server = gcs::start().await;
    let proxy = Proxy::start(server.address).await;
    let store = open_with("gs://bucket", gcs::settings(&proxy.url()), impatient());
    (server, proxy, store)
}

#[tokio::test]
async fn a_cut_connection_does_not_lose_or_duplicate_an_object() {
    let (_server, proxy, store) = troubled().await;
    proxy.trouble("PUT", 1, Trouble::CutAfter);
    assert_eq!(store.create("a/after", bytes(1000, 1)).await, Ok(Created::Same));
    proxy.trouble("PUT", 1, Trouble::CutBefore);
    assert_eq!(store.create("a/before", bytes(1000, 2)).await, Ok(Created::New));
    proxy.trouble("PUT", 1, Trouble::Stall);
    assert_eq!(store.create("a/stalled", bytes(1000, 3)).await, Ok(Created::New));
    for (name, seed) in [("a/after", 1), ("a/before", 2), ("a/stalled", 3)] {
        assert_eq!(store.get(name, 1000).await, Ok(bytes(1000, seed)));
    }
    proxy.trouble("PUT", 1, Trouble::CutAfter);
    let exists = StoreError::Exists { name: "a/after".to_owned() };
    assert_eq!(store.create("a/after", bytes(1000, 4)).await, Err(exists));
}

#[tokio::test]
async fn temporary_failures_are_retried_and_lasting_ones_reported() {
    let (_server, proxy, store) = troubled().await;
    for status in [500, 503, 429, 408, 409] {
        let name = format!("passing/{status}");
        proxy.trouble("PUT", 2, Trouble::Answer(Response::error(status, "SomeCode")));
        assert_eq!(store.create(&name, bytes(10, 1)).await, Ok(Created::New), "{status}");
        proxy.calm();
        if status != 409 {
            proxy.trouble("GET", 2, Trouble::Answer(Response::error(status, "SomeCode")));
        }
        assert_eq!(store.get(&name, 10).await, Ok(bytes(10, 1)), "{status}");
    }
    proxy.trouble("PUT", 1000, Trouble::Answer(Response::error(503, "Outage")));
    let error = store.create("lasting/put", bytes(10, 1)).await.expect_err("lasts");
    assert!(matches!(&error, StoreError::Uncertain { reason, .. } if reason.contains("503: Outage")), "{error}");
    for (status, code) in [(429, "TooMany"), (503, "SlowDown")] {
        proxy.calm();
        proxy.trouble("GET", 1000, Trouble::Answer(Response::error(status, code)));
        proxy.trouble("PUT", 1000, Trouble::Answer(Response::error(status, code)));
        for answer in [store.get("lasting/get", 10).await.err(), store.create("lasting/put", bytes(1, 1)).await.err()] {
            assert!(matches!(answer, Some(StoreError::Throttled { .. })), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn refusals_name_operation_object_and_code_only() {
    let (_server, proxy, store) = troubled().await;
    store.create("a/x", bytes(10, 1)).await.expect("creates");
    for status in [401, 403] {
        let page = "<Error><Code>ExpiredToken</Code><Message>expired</Message><Token-0>hunter2</Token-0></Error>";
        for method in ["PUT", "GET", "HEAD", "DELETE"] {
            proxy.trouble(method, 9, Trouble::Answer(Response::new(status, page)));
        }
        let errors = [
            store.create("a/y", bytes(10, 1)).await.err(),
            store.get("a/x", 10).await.err(),
            store.size("a/x").await.err(),
            store.delete("a/x").await.err(),
            store.list_prefixes("a").await.err(),
            store.list_sorted("a").await.err(),
        ];
        for error in errors {
            let error = error.expect("refused");
            assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let error = store.get("a/x", 10).await.expect_err("refused").to_string();
        assert!(error.starts_with("reading a/x was refused: ") && error.ends_with("ExpiredToken: expired"), "{error}");
        proxy.calm();
    }
    let elsewhere = open_with("gs://no-bucket", gcs::settings(&proxy.url()), impatient());
    for error in [elsewhere.get("a/x", 10).await.err(), elsewhere.create("a/x", bytes(1, 1)).await.err()] {
        assert!(matches!(error, Some(StoreError::NoPlace { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn slow_transfers_succeed_and_stalled_ones_fail() {
    let (_server, proxy, store) = troubled().await;
    let object = bytes(256 << 10, 1);
    // Longer than the allowed silence, but within the deadline of the upload.
    proxy.trouble("PUT", 1, Trouble::Late(Duration::from_millis(1200)));
    assert_eq!(store.create("a/x", object.clone()).await, Ok(Created::New));
    let pause = Duration::from_millis(100);
    proxy.trouble("GET", 1, Trouble::Slow { piece_bytes: 20 << 10, pause });
    assert_eq!(store.get("a/x", 256 << 10).await, Ok(object));
    assert_eq!(store.counters().gets, 1);

    let begun = Instant::now();
    proxy.trouble("GET", 1000, Trouble::Stall);
    let error = store.get("a/x", 256 << 10).await.expect_err("stalls");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    proxy.calm();
    // One byte at a time is never silent.
    proxy.trouble("GET", 1000, Trouble::Slow { piece_bytes: 4, pause });
    let error = store.get_range("a/x", 0..1000).await.expect_err("trickles");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_body_that_ends_early_is_retried_or_an_error() {
    let (_server, proxy, store) = troubled().await;
    let object = bytes(100_000, 1);
    store.create("a/x", object.clone()).await.expect("creates");
    proxy.trouble("GET", 1, Trouble::Short { missing_bytes: 10_000 });
    assert_eq!(store.get("a/x", 100_000).await, Ok(object.clone()));
    proxy.trouble("GET", 1, Trouble::Short { missing_bytes: 10 });
    assert_eq!(store.get_range("a/x", 500..1000).await, Ok(object.slice(500..1000)));
    proxy.trouble("GET", 1000, Trouble::Short { missing_bytes: 1 });
    let error = store.get("a/x", 100_000).await.expect_err("always short");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_listening_is_unreachable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let store = open_with("gs://bucket", gcs::settings(&format!("http://{port}")), impatient());
    let error = store.get("a/x", 10).await.expect_err("nobody");
    assert!(matches!(&error, StoreError::Unreachable { reason, .. } if reason.contains("refused")), "{error}");
}

#[tokio::test]
async fn s3_survives_a_failing_network() {
    let Some(server) = server::seaweedfs().await else { return };
    let proxy = Proxy::start(server.address).await;
    ready(&open("s3://bucket", server.settings.clone())).await;
    let store = open_with("s3://bucket/re.po", server.settings_at(&proxy.url()), impatient());
    proxy.trouble("PUT", 1, Trouble::CutAfter);
    assert_eq!(store.create(NAME, bytes(100_000, 1)).await, Ok(Created::Same));
    proxy.trouble("PUT", 2, Trouble::Answer(Response::error(503, "SlowDown")));
    assert_eq!(store.create("b", bytes(100_000, 2)).await, Ok(Created::New));
    proxy.trouble("GET", 1, Trouble::Short { missing_bytes: 50_000 });
    assert_eq!(store.get("b", 100_000).await, Ok(bytes(100_000, 2)));
    assert_eq!(probe(&store, &Seeded::new(1)).await.expect("probes").conditional, Conditional::Works);

    let mut settings = server.settings.clone();
    settings.retain(|(key, _)| key != "aws_secret_access_key");
    settings.push(("aws_secret_access_key".to_owned(), "hunter2".to_owned()));
    let wrong = open_with("s3://bucket", settings, impatient());
    let error = wrong.create("c", bytes(10, 1)).await.expect_err("a wrong key");
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2") && !format!("{error:?}").contains("test-key"), "{error:?}");
}

// Stores that break the promise of conditional creates.

#[tokio::test]
async fn a_store_that_ignores_the_condition_is_detected() {
    let server = gcs::start().await;
    let upstream = server.address;
    let ignoring = crate::support::stores::wire::Server::start(move |mut request| {
        Box::pin(async move {
            let kept = request.head.split("\r\n").filter(|line| !line.contains("generation-match"));
            request.head = kept.collect::<Vec<_>>().join("\r\n");
            crate::support::stores::wire::Reply::Raw(
                crate::support::stores::wire::forward(upstream, &request).await.expect("answers"),
            )
        })
    })
    .await;
    let store = open_with("gs://bucket", gcs::settings(&ignoring.url()), impatient());
    let outcome = probe(&store, &Seeded::new(3)).await.expect("probes");
    assert!(matches!(outcome.conditional, Conditional::Ignored { .. }), "{outcome:?}");

    let settings = [
        ("aws_conditional_put", "disabled"),
        ("aws_endpoint", "http://127.0.0.1:9"),
        ("aws_access_key_id", "k"),
        ("aws_secret_access_key", "s"),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let store = open_with("s3://bucket", settings, impatient());
    let outcome = probe(&store, &Seeded::new(4)).await.expect("probes");
    assert!(matches!(outcome.conditional, Conditional::Unsupported { .. }), "{outcome:?}");
    assert_eq!(store.counters().http_requests, 0);
}
