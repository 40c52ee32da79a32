//! The work of a restore with unusual rows is counted: it must grow linearly with their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sidekeep::base::finding::Finding;
use sidekeep::engine::contract::{Batch, BatchTarget, EngineError, Loader, Mark, RestoreContent, Target};
use sidekeep::engine::postgres::restore::{PostgresTarget, TargetOptions};
use sidekeep::format::cell::Cell;

use crate::support::postgres::stage::{Stage, refused};

const ROWS: u64 = 6000;

/// A target that counts the rows that its loaders request.
struct Counted {
    inner: PostgresTarget,
    asked: Arc<AtomicU64>,
}

struct CountedLoader {
    inner: Box<dyn Loader>,
    asked: Arc<AtomicU64>,
}

struct CountedBatch<'a> {
    inner: &'a dyn Batch,
    asked: &'a AtomicU64,
}

impl Target for Counted {
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), EngineError> {
        self.inner.begin(content)
    }

    fn batches(&mut self) -> Option<&mut dyn BatchTarget> {
        Some(self)
    }

    fn table(&mut self, table: usize) -> Result<(), EngineError> {
        self.inner.table(table)
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), EngineError> {
        self.inner.row(cells)
    }

    fn finish(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.inner.finish()
    }
}

impl BatchTarget for Counted {
    fn stages(&self) -> Vec<Vec<usize>> {
        self.inner.stages()
    }

    fn has(&self, table: usize, mark: &Mark) -> bool {
        self.inner.has(table, mark)
    }

    fn loaders(&mut self) -> Result<Vec<Box<dyn Loader>>, EngineError> {
        let loader = |inner| Box::new(CountedLoader { inner, asked: Arc::clone(&self.asked) }) as Box<dyn Loader>;
        Ok(self.inner.loaders()?.into_iter().map(loader).collect())
    }

    fn loaded(&mut self, tables: &[usize]) -> Result<(), EngineError> {
        self.inner.loaded(tables)
    }
}

impl Loader for CountedLoader {
    fn load(&mut self, batch: &dyn Batch) -> Result<u64, EngineError> {
        self.inner.load(&CountedBatch { inner: batch, asked: &self.asked })
    }
}

impl Batch for CountedBatch<'_> {
    fn table(&self) -> usize {
        self.inner.table()
    }

    fn marks(&self) -> &[Mark] {
        self.inner.marks()
    }

    fn rows(&self, each: &mut dyn FnMut(&[Cell<'_>]) -> Result<(), EngineError>) -> Result<(), EngineError> {
        self.inner.rows(&mut |cells| {
            self.asked.fetch_add(1, Ordering::Relaxed);
            each(cells)
        })
    }
}

/// Returns the number of rows requested by loaders, the number of restored rows, and what was refused.
fn counted(stage: &Stage) -> (u64, u64, Vec<String>) {
    stage.cluster.create_database("copy", "TEMPLATE template0");
    let asked = Arc::new(AtomicU64::new(0));
    let inner = stage.target(&stage.cluster, "copy", TargetOptions::default());
    let report = stage.restore(&mut Counted { inner, asked: Arc::clone(&asked) }, &[]).expect("a restore");
    let restored = report.tables.iter().map(|table| table.restored).sum();
    (asked.load(Ordering::Relaxed), restored, refused(&report))
}

#[test]
fn a_batch_with_refused_rows_is_decoded_at_most_twice() {
    let Some(stage) = Stage::of(&format!(
        "CREATE FUNCTION public.most() RETURNS int LANGUAGE sql AS 'SELECT 1000000';
        CREATE TABLE numbers (n int PRIMARY KEY, CHECK (n < public.most() AND n % 3 <> public.most() / 1000));
        INSERT INTO numbers SELECT generate_series(1, {ROWS});
        CREATE OR REPLACE FUNCTION public.most() RETURNS int LANGUAGE sql AS 'SELECT 2000'"
    )) else {
        return;
    };
    let (asked, restored, lines) = counted(&stage);
    // The numbers below 2000 whose remainder modulo 3 is not 2.
    assert_eq!(restored, 1333, "{lines:#?}");
    assert_eq!(lines.len(), 21, "{lines:#?}");
    assert!(lines.contains(&format!("public.numbers: {} more rows were refused", ROWS - 1333 - 20)), "{lines:#?}");
    assert!(asked <= 2 * ROWS, "{asked} rows requested");
}

#[test]
fn a_batch_with_rows_that_copy_cannot_carry_is_decoded_at_most_twice() {
    // Servers before version 16 cannot read a "char" that is not ASCII from text.
    let Some(stage) = Stage::of(&format!(
        "CREATE TABLE odd (n int PRIMARY KEY, v tsvector, c \"char\");
        INSERT INTO odd SELECT n, 'a', 'é' FROM generate_series(1, {ROWS}) n"
    )) else {
        return;
    };
    let (asked, restored, lines) = counted(&stage);
    assert_eq!((restored, lines), (ROWS, Vec::new()));
    assert!(asked <= 2 * ROWS, "{asked} rows requested");
    let sum = "SELECT sum(n), count(*), min(ascii(c::text)) FROM odd";
    assert_eq!(stage.cluster.sql("copy", sum), stage.cluster.sql("service", sum));
}
