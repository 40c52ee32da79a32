//! A service that keeps writing while it is backed up. Its invariants must hold in every snapshot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::postgres::live::{Live, Taken};
use crate::support::postgres::restored::build;

const ACCOUNTS: i64 = 200;
const AMOUNT: i64 = 1000;
const SNAPSHOTS: usize = 4;
const WRITERS: u64 = 4;

/// Money moves between accounts, and each move is recorded on both sides. Each pair is inserted into both `lefts` and
/// `rights`.
const SERVICE: &str = "
    CREATE TABLE accounts (id int PRIMARY KEY, amount bigint NOT NULL, padding text) WITH (fillfactor = 50);
    INSERT INTO accounts SELECT n, 1000, repeat('x', 500) FROM generate_series(1, 200) AS n;
    CREATE TABLE moves (id bigserial PRIMARY KEY, account int NOT NULL REFERENCES accounts, amount bigint NOT NULL);
    CREATE TABLE lefts (pair uuid PRIMARY KEY DEFAULT gen_random_uuid(), n bigserial, padding text);
    CREATE TABLE rights (pair uuid PRIMARY KEY REFERENCES lefts, n bigint NOT NULL);
    -- Large tables in between, so that reading takes a while.
    CREATE TABLE mail (id bigserial, body text); CREATE TABLE odds (id bigserial, body text);
    INSERT INTO mail (body) SELECT repeat(md5(n::text), 30) FROM generate_series(1, 20000) AS n;
    INSERT INTO odds (body) SELECT repeat(md5(n::text), 30) FROM generate_series(1, 20000) AS n;
";

/// The work of one session. `seed` determines which accounts it uses.
fn write(live: &Live, seed: u64, stop: &AtomicBool, done: &AtomicU64) {
    let client = live.cluster.client("service");
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: i64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(state >> 33).expect("31 bits") % below
    };
    while !stop.load(Ordering::Relaxed) {
        let (first, distance, sum) = (draw(ACCOUNTS - 1), draw(ACCOUNTS), draw(50) - 25);
        // In ascending order, otherwise two sessions could deadlock.
        let (from, to) = (1 + first, (2 + first + distance).min(ACCOUNTS));
        let sql = format!(
            "BEGIN; UPDATE accounts SET amount = amount - {sum} WHERE id = {from};
            INSERT INTO moves (account, amount) VALUES ({from}, -({sum})), ({to}, {sum});
            UPDATE accounts SET amount = amount + {sum} WHERE id = {to};
            WITH made AS (INSERT INTO lefts (padding) VALUES (repeat('y', 100)) RETURNING pair, n)
                INSERT INTO rights SELECT pair, n FROM made;
            COMMIT"
        );
        client.execute("working", &sql).expect("works");
        done.fetch_add(1, Ordering::Relaxed);
        // Still enough is written, and reading gets a chance on a busy machine.
        std::thread::sleep(Duration::from_millis(3));
    }
}

fn assert_true(taken: &Taken) {
    let (accounts, moves) = (taken.table("public.accounts"), taken.table("public.moves"));
    let amounts = accounts.integers("amount");
    assert_eq!(amounts.iter().sum::<i64>(), ACCOUNTS * AMOUNT, "money appeared or vanished");
    let mut moved: BTreeMap<i64, i64> = BTreeMap::new();
    for (account, amount) in moves.integers("account").into_iter().zip(moves.integers("amount")) {
        *moved.entry(account).or_default() += amount;
    }
    for (id, amount) in accounts.integers("id").into_iter().zip(amounts) {
        assert_eq!(amount, AMOUNT + moved.get(&id).copied().unwrap_or(0), "account {id}");
    }
    let sorted = |table: &str| {
        let mut numbers = taken.table(table).integers("n");
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(sorted("public.lefts"), sorted("public.rights"));
}

#[test]
fn invariants_of_a_busy_service_hold_in_every_snapshot() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("service", "");
    live.cluster.sql("service", SERVICE);
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        for seed in 1..=WRITERS {
            let (live, stop, done) = (&live, &stop, &done);
            scope.spawn(move || write(live, seed, stop, done));
        }
        // A failed snapshot must not leave the writers running forever.
        let snapshots = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..SNAPSHOTS {
                let before = done.load(Ordering::Relaxed);
                let taken = live.taken("service");
                assert_true(&taken);
                seen.push(taken.table("public.lefts").rows.len());
                assert!(done.load(Ordering::Relaxed) > before, "nothing was written meanwhile");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(failure) = snapshots {
            std::panic::resume_unwind(failure);
        }
    });
    assert!(seen.is_sorted() && seen.first() < seen.last(), "{seen:?}");

    // Sequences are read after the rows, so no row contains a value that a sequence returns next.
    let taken = live.restored();
    build(&live.cluster, &taken, "service back");
    for sequence in &taken.document.sequences {
        let sidekeep::engine::postgres::schema::document::Position::Last(last) = sequence.position else { continue };
        let (table, column) = match sequence.name.as_str() {
            "moves_id_seq" => ("public.moves", "id"),
            "lefts_n_seq" => ("public.lefts", "n"),
            _ => continue,
        };
        let largest = taken.table(table).integers(column).into_iter().max().unwrap_or(0);
        assert!(last >= largest, "the position of {} is {last}, but {largest} is in use", sequence.name);
    }
}
