//! Random values are written to a real server and read back: no cell changes.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sidekeep::engine::postgres::value::column_type::FormatPreference;
use sidekeep::format::cell::{Cell, Numeric, OwnedCell};

use crate::support::postgres::cluster::Cluster;
use crate::types::session::Session;

const EARLIEST: i64 = -211_813_488_000_000_000;
const LATEST: i64 = 9_223_371_331_199_999_999;

fn numeric() -> impl Strategy<Value = OwnedCell> {
    let digits = prop_oneof!["", "[1-9]", "[1-9][0-9]{0,40}[1-9]", "[1-9][0-9]{300,900}[1-9]"];
    let places = (0u16..400, -400i32..400);
    (any::<bool>(), digits, places).prop_map(|(negative, digits, (scale, exponent))| {
        let is_zero = digits.is_empty();
        let exponent = if is_zero { 0 } else { exponent.max(-i32::from(scale)) };
        let negative = negative && !is_zero;
        OwnedCell::new(&Cell::Numeric(Numeric::Finite { negative, scale, exponent, digits: digits.as_bytes() }))
    })
}

fn text() -> impl Strategy<Value = OwnedCell> {
    let character = any::<char>().prop_filter("PostgreSQL has no zero bytes", |c| *c != '\0');
    let odd = prop::sample::select(vec!['\\', '\t', '\n', '\r', 'N', '.', '"', ',', '{']);
    let text = prop::collection::vec(prop_oneof![character, odd], 0..20);
    text.prop_map(|text| OwnedCell::new(&Cell::Text(&text.into_iter().collect::<String>())))
}

fn row() -> impl Strategy<Value = Vec<OwnedCell>> {
    let real = any::<u64>().prop_map(f64::from_bits).prop_map(|real| if real.is_nan() { f64::NAN } else { real });
    let real32 = any::<u32>().prop_map(f32::from_bits).prop_map(|real| if real.is_nan() { f32::NAN } else { real });
    let interval = (any::<i32>(), any::<i32>(), -(1i64 << 62)..1 << 62);
    let moment = prop_oneof![EARLIEST..=LATEST, Just(i64::MIN), Just(i64::MAX), -1_000_000i64..1_000_000];
    (
        numeric(),
        interval.prop_map(|(months, days, microseconds)| Cell::Interval { months, days, microseconds }),
        (moment.clone(), moment).prop_map(|(a, b)| (Cell::Timestamp(a), Cell::Timestamp(b))),
        (real.prop_map(Cell::Real), real32.prop_map(Cell::Real32)),
        text(),
        (-2_451_545i32..2_145_031_949).prop_map(Cell::Date),
        (0i64..=86_400_000_000, -57_599i32..=57_599).prop_map(|(time, west)| Cell::TimeZoned(time, west)),
        any::<i64>().prop_map(Cell::Integer),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| OwnedCell::new(&Cell::Bytes(&bytes))),
    )
        .prop_map(|(numeric, interval, moments, reals, text, date, time, money, bytes)| {
            let cell = |cell| OwnedCell::new(&cell);
            let (early, late) = (cell(moments.0), cell(moments.1));
            let (real, real32) = (cell(reals.0), cell(reals.1));
            vec![numeric, cell(interval), early, late, real, real32, text, cell(date), cell(time), cell(money), bytes]
        })
}

#[test]
fn random_values_are_restored() {
    let Some(cluster) = Cluster::start() else { return };
    let session = Session::open(&cluster, "postgres");
    session.sql(
        "CREATE TABLE public.t (n int, a numeric, b interval, c timestamp, d timestamptz, e float8, f float4, g text,
         h date, i timetz, j money, k bytea)",
    );
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let rows = prop::collection::vec(row(), 1..150);
    let law = runner.run(&rows, |mut rows| {
        session.sql("TRUNCATE public.t");
        for (at, row) in rows.iter_mut().enumerate() {
            row.insert(0, OwnedCell::new(&Cell::Integer(i64::try_from(at).expect("few"))));
        }
        session.write("public.t", &rows).map_err(TestCaseError::fail)?;
        for preference in [FormatPreference::Binary, FormatPreference::Text] {
            let read = session.read("public.t", preference).map_err(TestCaseError::fail)?;
            for (written, read) in rows.iter().zip(&read) {
                prop_assert!(
                    written == read,
                    "{:?} became {:?}",
                    written.iter().map(OwnedCell::get).collect::<Vec<_>>(),
                    read.iter().map(OwnedCell::get).collect::<Vec<_>>()
                );
            }
            prop_assert_eq!(rows.len(), read.len());
        }
        Ok(())
    });
    if let Err(error) = law {
        panic!("{error}");
    }
}

#[test]
fn extreme_numbers_are_restored_on_every_version() {
    let Some(cluster) = Cluster::start() else { return };
    let session = Session::open(&cluster, "postgres");
    session.sql("CREATE TABLE public.t (n int, a interval, b int8, c money)");
    let ends = [
        (i32::MAX, i32::MAX, i64::MAX),
        (i32::MIN, i32::MIN, i64::MIN),
        (i32::MIN, i32::MAX, i64::MIN),
        (i32::MAX, i32::MIN, i64::MAX),
        (0, 0, i64::MIN),
    ];
    let row = |(at, (months, days, microseconds)): (usize, (i32, i32, i64))| {
        let interval = Cell::Interval { months, days, microseconds };
        let at = Cell::Integer(i64::try_from(at).expect("few"));
        [at, interval, Cell::Integer(microseconds), Cell::Integer(microseconds)]
            .map(|cell| OwnedCell::new(&cell))
            .to_vec()
    };
    let rows: Vec<Vec<OwnedCell>> = ends.into_iter().enumerate().map(row).collect();
    session.write("public.t", &rows).expect("written");
    assert_eq!(session.read("public.t", FormatPreference::Binary).as_ref(), Ok(&rows));
    let by_text = session.read("public.t", FormatPreference::Text);
    // Before version 15 a server can store such intervals but not write them as text.
    match by_text {
        Err(error) if session.version < 15 => assert!(error.contains("interval out of range"), "{error}"),
        by_text => assert_eq!(by_text.as_ref(), Ok(&rows)),
    }
}
