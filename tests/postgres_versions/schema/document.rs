//! The schema document: sufficient to build the database again, and the same bytes for the same schema.

use std::collections::BTreeSet;

use sidekeep::engine::postgres::schema::document::{DumpText, GrantOption, Position, Purpose, SchemaDocument};
use sidekeep::engine::postgres::schema::document_reader;
use sidekeep::engine::postgres::schema::dump::DumpEncoding;

use crate::schema::stage::{DATABASE, build, full, take, take_as};

#[test]
fn a_database_built_from_its_document_has_the_same_document() {
    let Some(cluster) = full() else { return };
    let taken = take(&cluster, DATABASE);
    assert_eq!(taken.gaps, []);
    let document = SchemaDocument::from_bytes(&taken.document.to_bytes()).expect("its own bytes");
    assert_eq!(document, taken.document);
    let classes: BTreeSet<&str> =
        document.pre_data.iter().chain(&document.post_data).map(|statement| statement.class.as_str()).collect();
    assert!(classes.len() > 40, "{classes:?}");

    cluster.create_database("copy", "TEMPLATE template0");
    build(&cluster, &document, "copy");
    let copy = take(&cluster, "copy").document;
    let renamed = |document: &SchemaDocument| -> Vec<Vec<u8>> {
        document.database.iter().map(|statement| statement.in_database("x")).collect()
    };
    assert_eq!(renamed(&copy), renamed(&document));
    for (ours, theirs) in copy.pre_data.iter().zip(&document.pre_data) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(copy.pre_data.len(), document.pre_data.len());
    assert_eq!(copy.post_data, document.post_data);
    assert_eq!((&copy.globals, &copy.settings), (&document.globals, &document.settings));
    assert_eq!((&copy.extensions, &copy.collations), (&document.extensions, &document.collations));
    // PostgreSQL's own pg_dump gives the same result.
    let text = |database: &str| {
        let mut dump = cluster.command("pg_dump");
        dump.args(["-h", cluster.socket_dir().to_str().expect("text"), "-p", &cluster.port().to_string()]);
        let output = dump.args(["-U", "postgres", "--schema-only", "-B", database]).output().expect("pg_dump");
        let text = String::from_utf8(output.stdout).expect("text");
        let lines = text.lines().filter(|line| !line.contains("restrict "));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!(text("copy"), text("nasty; db"));
}

#[test]
fn statements_have_the_right_names_and_purposes() {
    let Some(cluster) = full() else { return };
    let document = take(&cluster, DATABASE).document;
    let all: Vec<_> = document.pre_data.iter().chain(&document.post_data).collect();
    let named = |class: &str, name: &str| all.iter().find(|s| s.class == class && s.name.lossy() == name).is_some();
    assert!(named("TABLE", "-- Name: x; Type: TABLE; Schema: y; Owner: z"));
    assert!(named("FUNCTION", "-- Name: f; Type: TABLE; Schema: a; Owner: b()"));
    assert!(named("TABLE", "123456789_123456789_123456789_123456789_123456789_123456789_123"));
    assert!(!named("TABLE", "fake"));
    let text = |words: &DumpText| words.lossy();
    for statement in &all {
        let sql = text(&statement.sql);
        assert!(!sql.contains("COPY ") && !sql.starts_with('\\'), "{sql}");
        let owns = sql.starts_with("ALTER ") && sql.contains(" OWNER TO ") && statement.class != "COMMENT";
        assert_eq!(owns, statement.purpose == Purpose::Owner, "{sql}");
        let grants = ["GRANT ", "REVOKE ", "ALTER DEFAULT PRIVILEGES ", "SET SESSION ", "RESET "]
            .iter()
            .any(|word| sql.starts_with(word));
        assert_eq!(grants, statement.purpose == Purpose::Privilege, "{sql}");
    }
    let granted = all.iter().any(|statement| text(&statement.sql) == "SET SESSION AUTHORIZATION ps_reader;");
    assert!(granted, "a grant by another role");
    assert!(document.database.iter().all(|statement| text(&statement.sql).contains("\"nasty; db\"")));
    assert_eq!(document.database.len(), 10);
    let roles: Vec<String> = document.globals.iter().map(|statement| text(&statement.sql)).collect();
    assert!(roles.iter().any(|sql| sql.starts_with("ALTER ROLE ps_app WITH") && sql.contains("PASSWORD")), "{roles:?}");
    assert!(roles.iter().any(|sql| sql.starts_with("GRANT ps_group TO ps_app WITH ADMIN OPTION")), "{roles:?}");
    assert!(roles.iter().any(|sql| sql == "ALTER ROLE ps_app SET lock_timeout TO '3s';"), "{roles:?}");
}

#[test]
fn facts_that_statements_lack_are_captured() {
    let Some(cluster) = full() else { return };
    let document = take(&cluster, DATABASE).document;
    assert_eq!(document.server.version / 10_000, cluster.version());
    assert_eq!((document.server.database.as_str(), document.server.owner.as_str()), (DATABASE, "ps_app"));
    assert_eq!((document.server.encoding.as_str(), document.server.collate.as_str()), ("UTF8", "C"));
    let settings: Vec<_> =
        document.settings.iter().map(|setting| (setting.role.as_deref(), &setting.entries[..])).collect();
    assert_eq!(
        settings,
        [
            (None, &["search_path=app, public".to_owned(), "work_mem=7MB".to_owned()][..]),
            (Some("ps \"odd\" role"), &["application_name=it's; odd".to_owned()][..]),
            (Some("ps_app"), &["statement_timeout=5min".to_owned()][..]),
        ]
    );
    let extensions: Vec<&str> = document.extensions.iter().map(|extension| extension.name.as_str()).collect();
    assert_eq!(extensions, ["citext", "hstore", "plpgsql", "postgres_fdw"]);
    assert!(document.collations.iter().any(|collation| collation.name == "folded" && collation.provider == "i"));
    let [one, two] = &document.large_objects[..] else { panic!("{:?}", document.large_objects) };
    assert_eq!((one.oid, one.owner.as_str(), one.comment.as_deref()), (4711, "ps_app", Some("a 'large'; object")));
    let grants = one.grants.as_ref().expect("grants");
    let reader = grants.iter().find(|grant| grant.grantee.as_deref() == Some("ps_reader")).expect("a grant");
    assert_eq!(
        (reader.privilege.as_str(), reader.option, reader.grantor.as_str()),
        ("SELECT", GrantOption::Without, "ps_app")
    );
    assert_eq!((two.oid, &two.grants, &two.comment), (4712, &None, &None));
}

#[test]
fn an_unchanged_schema_has_the_same_bytes() {
    let Some(cluster) = full() else { return };
    let first = take(&cluster, DATABASE).document.to_bytes();
    cluster.sql(DATABASE, "INSERT INTO app.log_lines VALUES ('x'); SELECT nextval('app.counter'); ANALYZE");
    assert!(take(&cluster, DATABASE).document.to_bytes() == first);
    cluster.sql(DATABASE, "ALTER TABLE app.log_lines ADD b int");
    assert!(take(&cluster, DATABASE).document.to_bytes() != first);
}

#[test]
fn the_schema_is_as_of_the_snapshot() {
    let Some(cluster) = full() else { return };
    let client = cluster.client(DATABASE);
    client.execute("begin", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").expect("begin");
    let snapshot = client.texts("export", "SELECT pg_export_snapshot()").expect("a snapshot");
    let before = take(&cluster, DATABASE).document;
    cluster.sql(DATABASE, "CREATE TABLE app.too_late (); COMMENT ON TABLE app.users IS 'later'");
    let (connection, cancelled) = (
        sidekeep::engine::postgres::connect::tool_connection::ToolConnection::of(&cluster.config(DATABASE)),
        Default::default(),
    );
    let request = sidekeep::engine::postgres::schema::dump::DumpRequest {
        connection: &connection,
        snapshot: snapshot[0][0].as_deref(),
        encoding: DumpEncoding::Utf8,
        excluded_tables: &[],
        excluded_sequences: &[],
        cancelled: &cancelled,
    };
    let (document, _) =
        document_reader::read_document(&client, &crate::schema::stage::tools(&cluster), &request).expect("a schema");
    assert!(document == before);
}

#[test]
fn the_positions_of_sequences_are_read() {
    let Some(cluster) = full() else { return };
    cluster.sql(DATABASE, "SELECT setval('app.untouched', 42, false)");
    let (sequences, gaps) = document_reader::read_sequences(&cluster.client(DATABASE)).expect("sequences");
    assert_eq!(gaps, []);
    let found: Vec<(&str, Position)> = sequences.iter().map(|s| (s.name.as_str(), s.position)).collect();
    let expected =
        [("contacts_id_seq", Position::Last(5)), ("counter", Position::Last(3)), ("untouched", Position::Next(42))];
    assert_eq!(found, expected);
}

#[test]
fn other_encodings_and_escaped_strings_are_captured() {
    let Some(cluster) = full() else { return };
    let sql = "CREATE TABLE t (a text DEFAULT 'it\\'s; \\\\'); COMMENT ON TABLE t IS 'café; \\\\'';'";
    for (name, options, encoding) in [
        ("latin", "TEMPLATE template0 ENCODING 'LATIN1'", DumpEncoding::Utf8),
        ("ascii", "TEMPLATE template0 ENCODING 'SQL_ASCII'", DumpEncoding::SqlAscii),
    ] {
        cluster.create_database(name, options);
        cluster.sql(name, &format!("ALTER DATABASE {name} SET standard_conforming_strings = off"));
        let sql = if name == "ascii" { sql.replace('é', "\\351") } else { sql.to_owned() };
        cluster.sql(name, &sql);
        let document = take_as(&cluster, name, "postgres", encoding).document;
        let comment = document.pre_data.iter().find(|statement| statement.class == "COMMENT").expect("a comment");
        match encoding {
            DumpEncoding::Utf8 => assert!(comment.sql.lossy().contains("café; "), "{comment:?}"),
            DumpEncoding::SqlAscii => assert!(matches!(comment.sql, DumpText::Raw { .. }), "{comment:?}"),
        }
        assert_eq!(
            document.pre_data.iter().filter(|statement| statement.class == "TABLE").count(),
            2,
            "CREATE and OWNER TO"
        );
        if encoding == DumpEncoding::Utf8 {
            cluster.create_database("latin copy", options);
            build(&cluster, &document, "latin copy");
            let copy = take_as(&cluster, "latin copy", "postgres", encoding).document;
            assert_eq!(copy.pre_data, document.pre_data);
        }
    }
}
