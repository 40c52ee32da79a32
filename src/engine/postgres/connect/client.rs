//! A connection as plain threads use it: each call blocks until the server has answered, or somebody wishes to stop;
//! then the server is asked to stop too.
//!
//! Each session drives its connection itself, in the thread that waits for it: a thread between would have to be woken
//! for every few kilobytes, which costs more than decoding them. Never call from an async task.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{
    CancelToken, Config, CopyInSink, CopyOutStream, Error, NoTls, Row, SimpleQueryMessage, SimpleQueryRow, Socket,
    Statement,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::base::cancel::Cancel;
use crate::engine::postgres::connect::error::{PostgresError, server_message};
use crate::engine::postgres::connect::statement_log::logged;

/// How often a wait looks whether it is to stop.
const CANCEL_POLL: Duration = Duration::from_millis(50);
/// How long we try to tell a server that we stop.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a server may take to hear that a session ends.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// A session of a server.
pub struct Client {
    inner: Option<tokio_postgres::Client>,
    /// Of this session alone.
    runtime: Runtime,
    connection: JoinHandle<()>,
    cancel: Cancel,
    tls: Option<MakeRustlsConnect>,
}

impl Client {
    /// Connects without TLS. `place` names the server in messages, without a password.
    pub fn connect(config: &Config, place: &str) -> Result<Self, PostgresError> {
        let opening = OpenedConnection::open(config, NoTls);
        let opened = Self::open(opening, Cancel::default(), None);
        opened.map_err(|failure| PostgresError::Connect { place: place.to_owned(), reason: failure.reason() })
    }

    /// A session, opened by `opening` in a runtime of its own.
    pub(crate) fn open<E>(
        opening: impl Future<Output = Result<OpenedConnection, E>>,
        cancel: Cancel,
        tls: Option<MakeRustlsConnect>,
    ) -> Result<Self, OpenFailure<E>> {
        let runtime = new_runtime().map_err(OpenFailure::Runtime)?;
        let opened = runtime.block_on(unless_cancelled(&cancel, opening)).map_err(|_| OpenFailure::Stopped)?;
        let OpenedConnection { inner, connection } = opened.map_err(OpenFailure::Opening)?;
        Ok(Self { inner: Some(inner), runtime, connection, cancel, tls })
    }

    fn inner(&self) -> &tokio_postgres::Client {
        self.inner.as_ref().expect("only a client that is dropped has none")
    }

    fn wait<T>(&self, doing: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, PostgresError> {
        match self.runtime.block_on(unless_cancelled(&self.cancel, work)) {
            Ok(done) => done.map_err(|error| PostgresError::failed(doing, &error)),
            Err(stopped) => Err(self.stop(doing, stopped)),
        }
    }

    fn stop(&self, doing: &str, stopped: Stopped) -> PostgresError {
        if stopped == Stopped::Within {
            let token = self.inner().cancel_token();
            // Whether it hears us or not, it notices that the session is gone.
            self.runtime.block_on(cancel_query(&token, self.tls.as_ref()));
        }
        PostgresError::stopped(doing)
    }

    /// The rows that a statement gives; `doing` says in messages what it is for.
    pub fn query(&self, doing: &str, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PostgresError> {
        logged(sql, || self.wait(doing, self.inner().query(sql, params)))
    }

    /// The same, with each row read by `read`.
    pub(crate) fn query_as<T>(
        &self,
        doing: &str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        read: impl Fn(&Row) -> T,
    ) -> Result<Vec<T>, PostgresError> {
        let rows = self.query(doing, sql, params)?;
        Ok(rows.iter().map(read).collect())
    }

    /// Runs statements that give nothing.
    pub fn execute(&self, doing: &str, sql: &str) -> Result<(), PostgresError> {
        logged(sql, || self.wait(doing, self.inner().batch_execute(sql)))
    }

    /// The rows of all of `sql`'s statements, each value as the server writes it.
    pub fn texts(&self, doing: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, PostgresError> {
        let answers = logged(sql, || self.wait(doing, self.inner().simple_query(sql)))?;
        let mut rows = Vec::new();
        for answer in &answers {
            if let SimpleQueryMessage::Row(row) = answer {
                rows.push(row_texts(row).map_err(|error| PostgresError::failed(doing, &error))?);
            }
        }
        Ok(rows)
    }

    /// The one value that a statement gives, as text.
    pub fn value(&self, doing: &str, sql: &str) -> Result<String, PostgresError> {
        let first = self.texts(doing, sql)?.into_iter().next().and_then(|row| row.into_iter().next());
        first.flatten().ok_or_else(|| no_value(doing))
    }

    /// The data of a COPY ... TO STDOUT, a message at a time.
    pub fn copy_out(&self, doing: &str, sql: &str) -> Result<CopyOut<'_>, PostgresError> {
        let stream = Box::pin(logged(sql, || self.wait(doing, self.inner().copy_out(sql)))?);
        Ok(CopyOut { stream: Some(stream), client: self, doing: doing.to_owned() })
    }

    /// Waits to the end. When somebody wishes to stop, the server is asked to end what takes longer than a moment; its
    /// error says so.
    fn finish_or_cancel<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.runtime.block_on(async {
            let mut work = pin!(work);
            loop {
                if let Ok(done) = tokio::time::timeout(CANCEL_POLL, work.as_mut()).await {
                    return done;
                }
                if self.cancel.is_cancelled() {
                    break;
                }
            }
            let token = self.inner().cancel_token();
            cancel_query(&token, self.tls.as_ref()).await;
            work.await
        })
    }

    /// [`Client::execute`] with the driver's own error, for those to whom it tells more than a message.
    pub(crate) fn attempt(&self, sql: &str) -> Result<(), Error> {
        logged(sql, || self.finish_or_cancel(self.inner().batch_execute(sql)))
    }

    /// Runs a statement with parameters; gives the number of rows that it touched.
    pub(crate) fn attempt_with(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        self.finish_or_cancel(self.inner().execute(sql, params))
    }

    /// Runs a prepared statement; gives the number of rows that it touched.
    pub(crate) fn attempt_statement(
        &self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Error> {
        self.finish_or_cancel(self.inner().execute(statement, params))
    }

    /// Lets the server read a statement once for many uses.
    pub(crate) fn prepare(&self, sql: &str) -> Result<Statement, Error> {
        logged(sql, || self.finish_or_cancel(self.inner().prepare(sql)))
    }

    /// Begins a prepared COPY ... FROM STDIN; dropping it before its end undoes it.
    pub(crate) fn copy_in(&self, statement: &Statement) -> Result<CopyIn<'_>, Error> {
        let sink = self.finish_or_cancel(self.inner().copy_in(statement))?;
        Ok(CopyIn { sink: Box::pin(sink), client: self })
    }
}

/// What opens a session.
pub(crate) struct OpenedConnection {
    pub(crate) inner: tokio_postgres::Client,
    /// Drives it; its errors are those of the request under way.
    pub(crate) connection: JoinHandle<()>,
}

impl OpenedConnection {
    pub(crate) async fn open<T>(config: &Config, tls: T) -> Result<Self, Error>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (inner, connection) = config.connect(tls).await?;
        Ok(Self { inner, connection: tokio::spawn(connection.map(|_| ())) })
    }
}

/// Why there is no session.
pub(crate) enum OpenFailure<E> {
    /// The system refuses what a session needs here.
    Runtime(std::io::Error),
    /// Somebody wished to stop.
    Stopped,
    Opening(E),
}

impl OpenFailure<Error> {
    fn reason(&self) -> String {
        match self {
            Self::Runtime(error) => error.to_string(),
            Self::Stopped => "stopped".to_owned(),
            Self::Opening(error) => server_message(error),
        }
    }
}

impl Drop for Client {
    /// Tells the server, which would complain of a lost connection else.
    fn drop(&mut self) {
        drop(self.inner.take());
        let connection = &mut self.connection;
        self.runtime.block_on(async { tokio::time::timeout(CLOSE_TIMEOUT, connection).await.ok() });
    }
}

/// The sending side of a COPY.
pub(crate) struct CopyIn<'a> {
    sink: std::pin::Pin<Box<CopyInSink<Bytes>>>,
    client: &'a Client,
}

impl CopyIn<'_> {
    /// Sends data, cut anywhere. An error of the server shows at the end.
    pub(crate) fn send(&mut self, data: Bytes) -> Result<(), Error> {
        self.client.finish_or_cancel(self.sink.send(data))
    }

    /// Ends the data; gives the number of rows.
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        self.client.finish_or_cancel(self.sink.as_mut().finish())
    }
}

/// Messages of a COPY.
pub struct CopyOut<'a> {
    /// None after an error, which the stream would repeat for ever.
    stream: Option<std::pin::Pin<Box<CopyOutStream>>>,
    client: &'a Client,
    doing: String,
}

impl Iterator for CopyOut<'_> {
    type Item = Result<Bytes, PostgresError>;

    fn next(&mut self) -> Option<Self::Item> {
        let message = self.next_message()?;
        if message.is_err() {
            self.stream = None;
        }
        Some(message)
    }
}

impl CopyOut<'_> {
    fn next_message(&mut self) -> Option<Result<Bytes, PostgresError>> {
        let stream = self.stream.as_mut()?;
        // Many messages come at once.
        let next = match stream.next().now_or_never() {
            Some(message) => Ok(message),
            None => self.client.runtime.block_on(unless_cancelled(&self.client.cancel, stream.next())),
        };
        match next {
            Ok(message) => {
                Some(message?.map_err(|error| row_too_long(PostgresError::failed(self.doing.as_str(), &error))))
            }
            Err(_) => Some(Err(self.client.stop(&self.doing, Stopped::Within))),
        }
    }
}

fn new_runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn no_value(doing: &str) -> PostgresError {
    let reason = "the server gave no value".to_owned();
    PostgresError::Failed { doing: doing.to_owned(), reason, state: None }
}

/// Says what the server means when it has no room for a whole row in one message.
fn row_too_long(error: PostgresError) -> PostgresError {
    match error {
        PostgresError::Failed { doing, reason, state } if state.as_deref() == Some("54000") => {
            let reason = format!("a row is longer than the gigabyte that a server can send at once ({reason})");
            PostgresError::Failed { doing, reason, state }
        }
        other => other,
    }
}

/// When somebody's wish to stop was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stopped {
    /// Nothing had been asked of the server.
    Before,
    Within,
}

/// What comes of `work`, unless somebody wishes to stop before it is done.
async fn unless_cancelled<T>(cancel: &Cancel, work: impl Future<Output = T>) -> Result<T, Stopped> {
    let mut work = pin!(work);
    let mut stopped = Stopped::Before;
    while !cancel.is_cancelled() {
        if let Ok(done) = tokio::time::timeout(CANCEL_POLL, work.as_mut()).await {
            return Ok(done);
        }
        stopped = Stopped::Within;
    }
    Err(stopped)
}

/// Asks the server to end what a session does. Whether that fails or takes too long does not matter.
async fn cancel_query(token: &CancelToken, tls: Option<&MakeRustlsConnect>) {
    let asked = async {
        match tls {
            Some(tls) => token.cancel_query(tls.clone()).await,
            None => token.cancel_query(NoTls).await,
        }
    };
    tokio::time::timeout(CANCEL_TIMEOUT, asked).await.ok();
}

/// In a session of SQL_ASCII, what comes need not be UTF-8.
fn row_texts(row: &SimpleQueryRow) -> Result<Vec<Option<String>>, Error> {
    (0..row.len()).map(|at| Ok(row.try_get(at)?.map(ToOwned::to_owned))).collect()
}
