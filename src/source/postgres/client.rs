//! A connection as plain threads use it: each call blocks until the server has answered.
//!
//! Never call from an async task.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, CopyInSink, CopyOutStream, NoTls, Row, SimpleQueryMessage, Statement};

use crate::source::postgres::error::{PostgresError, said};

/// A session of a server.
pub struct Client {
    inner: tokio_postgres::Client,
    runtime: Handle,
}

impl Client {
    /// Connects without TLS. `place` names the server in messages, without a password.
    pub fn connect(config: &Config, place: &str, runtime: &Handle) -> Result<Self, PostgresError> {
        let connected = runtime.block_on(config.connect(NoTls));
        let (inner, connection) =
            connected.map_err(|error| PostgresError::Connect { place: place.to_owned(), reason: said(&error) })?;
        // Its errors are those of the request under way.
        runtime.spawn(connection);
        Ok(Self::new(inner, runtime))
    }

    /// A session whose connection `runtime` drives already.
    pub(super) fn new(inner: tokio_postgres::Client, runtime: &Handle) -> Self {
        Self { inner, runtime: runtime.clone() }
    }

    /// The rows that a statement gives; `doing` says in messages what it is for.
    pub fn query(&self, doing: &str, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PostgresError> {
        self.runtime.block_on(self.inner.query(sql, params)).map_err(|error| PostgresError::failed(doing, &error))
    }

    /// Runs statements that give nothing.
    pub fn execute(&self, doing: &str, sql: &str) -> Result<(), PostgresError> {
        self.runtime.block_on(self.inner.batch_execute(sql)).map_err(|error| PostgresError::failed(doing, &error))
    }

    /// The rows of all of `sql`'s statements, each value as the server writes it.
    pub fn texts(&self, doing: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, PostgresError> {
        let answers = self.runtime.block_on(self.inner.simple_query(sql));
        let answers = answers.map_err(|error| PostgresError::failed(doing, &error))?;
        let mut rows = Vec::new();
        for answer in &answers {
            let SimpleQueryMessage::Row(row) = answer else { continue };
            // In a session of SQL_ASCII, what comes need not be UTF-8.
            let texts = (0..row.len()).map(|at| Ok(row.try_get(at)?.map(ToOwned::to_owned)));
            let texts: Result<_, tokio_postgres::Error> = texts.collect();
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
        let stream = self.runtime.block_on(self.inner.copy_out(sql));
        let stream = Box::pin(stream.map_err(|error| PostgresError::failed(doing, &error))?);
        Ok(CopyOut { stream, runtime: &self.runtime, doing: doing.to_owned() })
    }

    /// [`Client::execute`] with the driver's own error, for those to whom it tells more than a message.
    pub(super) fn attempt(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.inner.batch_execute(sql))
    }

    /// Runs a statement with parameters; gives the number of rows that it touched.
    pub(super) fn attempt_with(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, tokio_postgres::Error> {
        self.runtime.block_on(self.inner.execute(sql, params))
    }

    /// Runs a prepared statement; gives the number of rows that it touched.
    pub(super) fn attempt_statement(
        &self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, tokio_postgres::Error> {
        self.runtime.block_on(self.inner.execute(statement, params))
    }

    /// Lets the server read a statement once for many uses.
    pub(super) fn prepare(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        self.runtime.block_on(self.inner.prepare(sql))
    }

    /// Begins a prepared COPY ... FROM STDIN; dropping it before its end undoes it.
    pub(super) fn copy_in(&self, statement: &Statement) -> Result<CopyIn<'_>, tokio_postgres::Error> {
        let sink = self.runtime.block_on(self.inner.copy_in(statement))?;
        Ok(CopyIn { sink: Box::pin(sink), runtime: &self.runtime })
    }
}

/// The sending side of a COPY.
pub(super) struct CopyIn<'a> {
    sink: std::pin::Pin<Box<CopyInSink<Bytes>>>,
    runtime: &'a Handle,
}

impl CopyIn<'_> {
    /// Sends data, cut anywhere. An error of the server shows at the end.
    pub(super) fn send(&mut self, data: Bytes) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.sink.send(data))
    }

    /// Ends the data; gives the number of rows.
    pub(super) fn finish(mut self) -> Result<u64, tokio_postgres::Error> {
        self.runtime.block_on(self.sink.as_mut().finish())
    }
}

/// Messages of a COPY.
pub struct CopyOut<'a> {
    stream: std::pin::Pin<Box<CopyOutStream>>,
    runtime: &'a Handle,
    doing: String,
}

impl Iterator for CopyOut<'_> {
    type Item = Result<Bytes, PostgresError>;

    fn next(&mut self) -> Option<Self::Item> {
        let message = self.runtime.block_on(self.stream.next())?;
        Some(message.map_err(|error| PostgresError::failed(self.doing.as_str(), &error)))
    }
}
