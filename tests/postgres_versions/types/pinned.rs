//! The cell of each value, which must never change: `docs/format.md` section 4.

use sidekeep::engine::contract::Fold;
use sidekeep::engine::postgres::value::column_type::{Collation, Equality, FormatPreference};
use sidekeep::engine::postgres::value::value_kind::ValueKind;
use sidekeep::format::cell::{Cell, Numeric, OwnedCell};

use crate::support::postgres::cluster::Cluster;
use crate::types::session::Session;

fn finite(negative: bool, scale: u16, exponent: i32, digits: &[u8]) -> Cell<'_> {
    Cell::Numeric(Numeric::Finite { negative, scale, exponent, digits })
}

#[test]
fn cells_of_values_never_change() {
    let Some(cluster) = Cluster::start() else { return };
    let session = Session::open(&cluster, "postgres");
    session.sql("CREATE TYPE public.mood AS ENUM ('sad')");
    let pinned = [
        ("'t'::bool", Cell::Bool(true)),
        ("7::int2", Cell::Integer(7)),
        ("7::int8", Cell::Integer(7)),
        ("4294967295::oid", Cell::Integer(4_294_967_295)),
        ("'-12.34'::money", Cell::Integer(-1234)),
        ("'-0'::float8", Cell::Real(-0.0)),
        ("0.5::float4", Cell::Real32(0.5)),
        ("'-10.50'::numeric", finite(true, 2, -1, b"105")),
        ("120000::numeric", finite(false, 0, 4, b"12")),
        ("'0.00'::numeric", finite(false, 2, 0, b"")),
        ("'NaN'::numeric", Cell::Numeric(Numeric::NaN)),
        ("'a'::text", Cell::Text("a")),
        ("'a'::char(3)", Cell::Text("a  ")),
        ("'a'::name", Cell::Text("a")),
        ("'a'::\"char\"", Cell::Text("a")),
        ("(-2)::\"char\"", Cell::Text("\\376")),
        ("'sad'::public.mood", Cell::Text("sad")),
        ("'\\x00ff'::bytea", Cell::Bytes(&[0, 255])),
        ("'00000000-0000-0000-0000-0000000000ff'::uuid", {
            let mut bytes = [0; 16];
            bytes[15] = 255;
            Cell::Uuid(bytes)
        }),
        ("'1999-12-31'::date", Cell::Date(-1)),
        ("'infinity'::date", Cell::Date(i32::MAX)),
        ("'24:00'::time", Cell::Time(86_400_000_000)),
        ("'01:00+02'::timetz", Cell::TimeZoned(3_600_000_000, -7200)),
        ("'1999-12-31 23:59:59.999999'::timestamp", Cell::Timestamp(-1)),
        ("'2000-01-01 01:00+01'::timestamptz", Cell::Timestamp(0)),
        ("'-infinity'::timestamptz", Cell::Timestamp(i64::MIN)),
        ("'1 year -3 days 00:00:01'::interval", Cell::Interval { months: 12, days: -3, microseconds: 1_000_000 }),
        ("'{\"a\" :1}'::json", Cell::Output(b"{\"a\" :1}")),
        ("'{\"a\" :1}'::jsonb", Cell::Output(b"{\"a\": 1}")),
        ("'{1,2}'::int4[]", Cell::Output(b"{1,2}")),
        ("'1.2.3.4'::inet", Cell::Output(b"1.2.3.4")),
        ("NULL::text", Cell::Null),
    ];
    for (value, expected) in pinned {
        session.sql(&format!("DROP TABLE IF EXISTS public.t; CREATE TABLE public.t AS SELECT {value} AS v"));
        let expected = vec![vec![OwnedCell::new(&expected)]];
        assert_eq!(session.read("public.t", FormatPreference::Binary).as_ref(), Ok(&expected), "{value}");
        assert_eq!(session.read("public.t", FormatPreference::Text).as_ref(), Ok(&expected), "{value}");
    }
}

#[test]
fn types_whose_equal_values_differ_in_bytes_are_recognized() {
    let Some(cluster) = Cluster::start() else { return };
    let session = Session::open(&cluster, "postgres");
    let citext = session.try_sql("CREATE EXTENSION citext SCHEMA public").is_ok();
    let own = if citext { "public.citext" } else { "text" };
    session.sql(&format!("CREATE DOMAIN public.folded AS {own}"));
    session.sql(&format!("CREATE TABLE public.t (a text, b char(3), c int, d {own}, e public.folded)"));
    let columns = session.columns("public.t");
    let of = |at: usize| columns[at].1.equality(Collation::Deterministic);
    assert_eq!(of(0), Equality::Folded(Fold::Exact));
    assert_eq!(of(1), Equality::Folded(Fold::TrailingSpace));
    assert_eq!(of(2), Equality::Folded(Fold::Exact));
    assert_eq!(columns[0].1.equality(Collation::Nondeterministic), Equality::Server);
    if citext {
        assert_eq!((of(3), of(4)), (Equality::Server, Equality::Server));
        assert_eq!((columns[3].1.kind, columns[4].1.kind), (ValueKind::Text, ValueKind::Text));
    }
}
