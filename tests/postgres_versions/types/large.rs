//! Values as large as a server accepts. These tests need several gigabytes of memory and run with `scripts/test --all`.

use sidekeep::engine::postgres::value::column_type::FormatPreference;

use crate::support::postgres::cluster::Cluster;
use crate::types::session::{Session, Ways};

#[test]
#[ignore = "needs several gigabytes of memory and of disk"]
fn values_close_to_1_gb_are_restored() {
    let Some(cluster) = Cluster::start() else { return };
    let session = Session::open(&cluster, "postgres");
    session.sql(
        "CREATE TABLE public.t (n int, b bytea, v text); ALTER TABLE public.t ALTER b SET STORAGE EXTERNAL;
         INSERT INTO public.t SELECT 1, string_agg(part, ''), NULL
            FROM (SELECT decode(repeat('ab', 100000000), 'hex') FROM generate_series(1, 10)) AS parts(part);
         INSERT INTO public.t SELECT 2, '', string_agg(part, '')
            FROM (SELECT repeat(E'\\\\\n', 50000000) FROM generate_series(1, 9)) AS parts(part);
         CREATE TABLE public.c (LIKE public.t)",
    );
    let cells = session.read("public.t", FormatPreference::Binary).expect("cells");
    assert_eq!(session.write("public.c", &cells), Ok(Ways { copied: 0, inserted: 2 }));
    let equal = "SELECT count(*)::text FROM public.t JOIN public.c USING (n) \
                 WHERE t.b = c.b AND t.v IS NOT DISTINCT FROM c.v AND length(t.b) + coalesce(length(t.v), 0) > 899999999";
    assert_eq!(session.texts(equal), [[Some("2".to_owned())]]);
}
