//! Restores of chosen tables, and tables that are restored first.

use sidekeep::base::finding::Finding;
use sidekeep::engine::contract::{BatchTarget, EngineError, Loader, Mark, RestoreContent, Target};
use sidekeep::engine::postgres::restore::TargetOptions;

use crate::support::postgres::stage::{DATABASE, Stage, refused};

#[test]
fn chosen_tables_are_restored_with_what_they_need() {
    let Some(stage) = Stage::nasty() else { return };
    stage.cluster.create_database("some", "TEMPLATE template0");
    let tables = ["app.contacts", "app.events", "app.derived", "app.no_key"];
    let mut target = stage.target(&stage.cluster, "some", TargetOptions::default());
    let report = stage.restore(&mut target, &tables).expect("a restore");
    let lines = refused(&report);
    let absent =
        |name: &str| format!("fk constraint app.contacts {name}: it refers to app.users, which is not restored");
    assert_eq!(lines[..2], ["contacts_friend_fkey", "contacts_user_id_fkey"].map(absent));
    assert_eq!(lines[2..], ["rule app.no_key two: relation \"app.log_lines\" does not exist"]);
    let sql = |database: &str, sql: &str| stage.cluster.sql(database, sql);
    for table in ["contacts", "events", "derived", "no_key"] {
        let rows = format!(
            "SELECT md5(string_agg(t::text, ',' ORDER BY t::text COLLATE \"C\")) FROM {}app.{table} t",
            if table == "events" { "" } else { "ONLY " }
        );
        assert_eq!(sql("some", &rows), sql(DATABASE, &rows), "{table}");
    }
    let made = "SELECT relname FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') ORDER BY 1";
    let made: Vec<String> = sql("some", made).into_iter().flatten().flatten().collect();
    assert_eq!(
        made,
        [
            "base",
            "contacts",
            "contacts_id_seq",
            "derived",
            "events",
            "events_new",
            "events_new_0",
            "events_new_1",
            "events_old",
            "no_key",
            "untouched"
        ]
    );
    let facts = "SELECT conname, contype FROM pg_constraint WHERE conrelid IN ('app.contacts'::regclass, 'app.events'::regclass) ORDER BY 1; \
                 SELECT polname FROM pg_policy; SELECT tgname FROM pg_trigger WHERE NOT tgisinternal; SELECT indisvalid FROM pg_index WHERE indrelid = 'app.events'::regclass";
    let facts: Vec<String> = sql("some", facts).into_iter().flatten().flatten().collect();
    for fact in ["contacts_pkey", "contacts_boss_fkey", "events_pkey", "own; rows", "never", "t"] {
        assert!(facts.iter().any(|found| found == fact), "{fact} in {facts:?}");
    }
}

/// Looks at the database after each stage of tables is loaded.
struct Watching<'a> {
    inner: sidekeep::engine::postgres::restore::PostgresTarget,
    seen: Vec<String>,
    look: &'a (dyn Fn() -> String + Sync),
}

impl Target for Watching<'_> {
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), EngineError> {
        self.inner.begin(content)
    }
    fn batches(&mut self) -> Option<&mut dyn BatchTarget> {
        Some(self)
    }
    fn table(&mut self, table: usize) -> Result<(), EngineError> {
        self.inner.table(table)
    }
    fn row(&mut self, cells: &[sidekeep::format::cell::Cell<'_>]) -> Result<(), EngineError> {
        self.inner.row(cells)
    }
    fn finish(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.inner.finish()
    }
}

impl BatchTarget for Watching<'_> {
    fn stages(&self) -> Vec<Vec<usize>> {
        self.inner.stages()
    }
    fn has(&self, table: usize, mark: &Mark) -> bool {
        self.inner.has(table, mark)
    }
    fn loaders(&mut self) -> Result<Vec<Box<dyn Loader>>, EngineError> {
        self.inner.loaders()
    }
    fn loaded(&mut self, tables: &[usize]) -> Result<(), EngineError> {
        self.inner.loaded(tables)?;
        self.seen.push((self.look)());
        Ok(())
    }
}

#[test]
fn first_tables_are_usable_before_the_others_have_rows() {
    let Some(stage) = Stage::nasty() else { return };
    stage.cluster.create_database("copy", "TEMPLATE template0");
    let first = vec!["app.contacts".to_owned(), "app.events".to_owned()];
    let look = || {
        let sql = "SELECT (SELECT count(*) FROM app.contacts), (SELECT count(*) FROM app.events), (SELECT count(*) FROM app.users),
            (SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE relnamespace = 'app'::regnamespace),
            (SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relkind = 'r' AND reltuples > 0)";
        let row = stage.cluster.sql("copy", sql).remove(0);
        row.into_iter().map(|value| value.unwrap_or_default()).collect::<Vec<_>>().join(", ")
    };
    let options = TargetOptions { first, ..TargetOptions::default() };
    let mut target = Watching { inner: stage.target(&stage.cluster, "copy", options), seen: Vec::new(), look: &look };
    let report = stage.restore(&mut target, &[]).expect("a restore");
    assert_eq!(refused(&report), [""; 0]);
    assert_eq!(
        target.seen[..2],
        [
            "1205, 0, 0, contacts_pkey, contacts",
            "1205, 3000, 0, contacts_pkey events_new_0_pkey events_new_1_pkey events_new_pkey events_old_pkey events_pkey, contacts events_new_0 events_new_1 events_old",
        ]
    );
    assert_eq!(target.seen.len(), 3);
    let Err(error) = stage.restore(
        &mut stage.target(
            &stage.cluster,
            "x",
            TargetOptions { first: vec!["app.none".to_owned()], ..TargetOptions::default() },
        ),
        &[],
    ) else {
        panic!("a missing table must be refused")
    };
    assert!(error.to_string().contains("app.none"), "{error}");
}
