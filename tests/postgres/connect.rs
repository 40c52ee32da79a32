//! The ways to a server, and what is said when there is none.

use crate::common_postgres::Cluster;

#[test]
fn a_server_starts_for_a_test() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.create_database("odd \"name\"", "ENCODING 'LATIN1' TEMPLATE template0");
    let rows = cluster.sql("odd \"name\"", "SELECT current_setting('server_encoding'), NULL; SELECT 2");
    assert_eq!(rows, [vec![Some("LATIN1".to_owned()), None], vec![Some("2".to_owned())]]);
}
