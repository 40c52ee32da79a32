//! Databases that are not UTF-8: their bytes are restored unchanged, and a database with another encoding accepts what
//! it can represent.

use sidekeep::engine::postgres::value::column_type::FormatPreference;
use sidekeep::format::cell::{Cell, Encoding, OwnedCell};

use crate::support::postgres::cluster::Cluster;
use crate::types::session::{Rows, Session};

/// All bytes but zero, as single characters and in one text, also inside of other types.
const ALL_BYTES: &str = "
    CREATE TYPE public.pair AS (a text, b text);
    CREATE TABLE public.t (n int, v text, f char(3), a text[], p public.pair, j json);
    INSERT INTO public.t SELECT i, chr(i), chr(i), ARRAY[chr(i), NULL], ROW(chr(i), '')::public.pair, to_json(chr(i))
        FROM generate_series(1, 255) i;
    INSERT INTO public.t SELECT 256, string_agg(chr(i), '' ORDER BY i) FROM generate_series(1, 255) i;
    CREATE TABLE public.c (LIKE public.t)";

fn there_and_back(session: &Session) -> Rows {
    let cells = session.read("public.t", FormatPreference::Binary).expect("cells");
    assert_eq!(cells.len(), 256);
    assert!(cells == session.read("public.t", FormatPreference::Text).expect("cells"), "the formats differ");
    session.write("public.c", &cells).expect("written");
    let sent = |table: &str| session.copy(&format!("SELECT * FROM {table} ORDER BY n")).expect("a copy");
    assert!(sent("public.t") == sent("public.c"), "the restored table differs");
    cells
}

#[test]
fn a_database_without_an_encoding_keeps_its_bytes() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.create_database("ascii", "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    let session = Session::open(&cluster, "ascii");
    session.sql(ALL_BYTES);
    let cells = there_and_back(&session);
    assert_eq!(cells[64][1], OwnedCell::new(&Cell::Text("A")));
    assert_eq!(cells[232][1], OwnedCell::new(&Cell::Encoded(Encoding::SqlAscii, b"\xe9")));
    assert_eq!(cells[232][3], OwnedCell::new(&Cell::Output(b"{\xe9,NULL}")));
}

#[test]
fn a_latin1_database_is_read_as_utf8_and_restored_anywhere() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.create_database("latin", "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    let session = Session::open(&cluster, "latin");
    session.sql(ALL_BYTES);
    let cells = there_and_back(&session);
    assert_eq!(cells[232][1], OwnedCell::new(&Cell::Text("é")));
    assert_eq!(cells[232][2], OwnedCell::new(&Cell::Text("é  ")));
    assert_eq!(cells[232][3], OwnedCell::new(&Cell::Output("{é,NULL}".as_bytes())));

    let utf8 = Session::open(&cluster, "postgres");
    utf8.sql("CREATE TABLE public.t (n int, v text, f char(3))");
    let latin: Rows = vec![vec![
        OwnedCell::new(&Cell::Integer(1)),
        OwnedCell::new(&Cell::Encoded(Encoding::Latin1, b"\xe9\\\xff")),
        OwnedCell::new(&Cell::Null),
    ]];
    utf8.write("public.t", &latin).expect("written");
    assert_eq!(utf8.texts("SELECT v FROM public.t"), [[Some("é\\ÿ".to_owned())]]);
}

#[test]
fn a_text_that_the_database_cannot_store_is_an_error() {
    let Some(cluster) = Cluster::start() else { return };
    let session = Session::open(&cluster, "postgres");
    session.sql("CREATE TABLE public.t (n int, v text)");
    for cell in [Cell::Text("a\0b"), Cell::Encoded(Encoding::Utf16Le, b"a\0"), Cell::Absent] {
        let rows = vec![vec![OwnedCell::new(&Cell::Integer(1)), OwnedCell::new(&cell)]];
        assert!(session.write("public.t", &rows).is_err(), "{cell:?}");
    }
    let invalid =
        vec![vec![OwnedCell::new(&Cell::Integer(1)), OwnedCell::new(&Cell::Encoded(Encoding::Utf8Invalid, b"\xff"))]];
    let error = session.write("public.t", &invalid).expect_err("the server refuses it");
    assert!(error.contains("22021"), "{error}");
}
