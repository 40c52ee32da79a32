//! A connection as plain threads use it: each call blocks until the server has answered, or somebody wishes to stop;
//! then the server is asked to stop too.
//!
//! Never call from an async task.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CancelToken, Config, CopyOutStream, Error, NoTls, Row, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::base::cancel::Cancel;
use crate::source::postgres::error::{PostgresError, said};

/// How often whoever waits looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// How long we try to tell a server that we stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A session of a server.
pub struct Client {
    inner: tokio_postgres::Client,
    runtime: Handle,
    cancel: Cancel,
    tls: Option<MakeRustlsConnect>,
}

impl Client {
    /// Connects without TLS. `place` names the server in messages, without a password.
    pub fn connect(config: &Config, place: &str, runtime: &Handle) -> Result<Self, PostgresError> {
        let connected = runtime.block_on(config.connect(NoTls));
        let (inner, connection) =
            connected.map_err(|error| PostgresError::Connect { place: place.to_owned(), reason: said(&error) })?;
        // Its errors are those of the request under way.
        runtime.spawn(connection);
        Ok(Self::new(inner, runtime, Cancel::default(), None))
    }

    /// A session whose connection `runtime` drives already, over `tls` if that is given.
    pub(super) fn new(
        inner: tokio_postgres::Client,
        runtime: &Handle,
        cancel: Cancel,
        tls: Option<MakeRustlsConnect>,
    ) -> Self {
        Self { inner, runtime: runtime.clone(), cancel, tls }
    }

    fn wait<T>(&self, doing: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, PostgresError> {
        match self.runtime.block_on(heeding(&self.cancel, work)) {
            Ok(done) => done.map_err(|error| PostgresError::failed(doing, &error)),
            Err(stopped) => Err(self.stop(doing, stopped)),
        }
    }

    fn stop(&self, doing: &str, stopped: Stopped) -> PostgresError {
        if stopped == Stopped::Within {
            let token = self.inner.cancel_token();
            // Whether it hears us or not, it notices that the session is gone.
            self.runtime.block_on(async {
                tokio::time::timeout(STOP_PATIENCE, tell(&token, self.tls.as_ref())).await.ok();
            });
        }
        PostgresError::stopped(doing)
    }

    /// The rows that a statement gives; `doing` says in messages what it is for.
    pub fn query(&self, doing: &str, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PostgresError> {
        self.wait(doing, self.inner.query(sql, params))
    }

    /// Runs statements that give nothing.
    pub fn execute(&self, doing: &str, sql: &str) -> Result<(), PostgresError> {
        self.wait(doing, self.inner.batch_execute(sql))
    }

    /// The rows of all of `sql`'s statements, each value as the server writes it.
    pub fn texts(&self, doing: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, PostgresError> {
        let answers = self.wait(doing, self.inner.simple_query(sql))?;
        let mut rows = Vec::new();
        for answer in &answers {
            let SimpleQueryMessage::Row(row) = answer else { continue };
            // In a session of SQL_ASCII, what comes need not be UTF-8.
            let texts = (0..row.len()).map(|at| Ok(row.try_get(at)?.map(ToOwned::to_owned)));
            let texts: Result<_, Error> = texts.collect();
            rows.push(texts.map_err(|error| PostgresError::failed(doing, &error))?);
        }
        Ok(rows)
    }

    /// The one value that a statement gives, as text.
    pub fn value(&self, doing: &str, sql: &str) -> Result<String, PostgresError> {
        let first = self.texts(doing, sql)?.into_iter().next().and_then(|row| row.into_iter().next());
        first.flatten().ok_or_else(|| PostgresError::Failed {
            doing: doing.to_owned(),
            reason: "the server gave no value".to_owned(),
            state: None,
        })
    }

    /// The data of a COPY ... TO STDOUT, a message at a time.
    pub fn copy_out(&self, doing: &str, sql: &str) -> Result<CopyOut<'_>, PostgresError> {
        let stream = Box::pin(self.wait(doing, self.inner.copy_out(sql))?);
        Ok(CopyOut { stream, client: self, doing: doing.to_owned() })
    }
}

/// Messages of a COPY.
pub struct CopyOut<'a> {
    stream: std::pin::Pin<Box<CopyOutStream>>,
    client: &'a Client,
    doing: String,
}

impl Iterator for CopyOut<'_> {
    type Item = Result<Bytes, PostgresError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = heeding(&self.client.cancel, self.stream.next());
        match self.client.runtime.block_on(next) {
            Ok(message) => Some(message?.map_err(|error| PostgresError::failed(self.doing.as_str(), &error))),
            Err(_) => Some(Err(self.client.stop(&self.doing, Stopped::Within))),
        }
    }
}

/// When somebody's wish to stop was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stopped {
    /// Nothing had been asked of the server.
    Before,
    Within,
}

/// What comes of `work`, unless somebody wishes to stop before it is done.
pub(super) async fn heeding<T>(cancel: &Cancel, work: impl Future<Output = T>) -> Result<T, Stopped> {
    let mut work = pin!(work);
    let mut stopped = Stopped::Before;
    while !cancel.is_cancelled() {
        if let Ok(done) = tokio::time::timeout(LOOK, work.as_mut()).await {
            return Ok(done);
        }
        stopped = Stopped::Within;
    }
    Err(stopped)
}

async fn tell(token: &CancelToken, tls: Option<&MakeRustlsConnect>) -> Result<(), Error> {
    match tls {
        Some(tls) => token.cancel_query(tls.clone()).await,
        None => token.cancel_query(NoTls).await,
    }
}
