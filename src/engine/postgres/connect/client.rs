//! A blocking connection: each call waits until the server has answered or the operation is cancelled. In the latter
//! case the server is asked to cancel, too.
//!
//! Each session drives its connection in the thread that waits for it. A separate I/O thread would have to be woken for
//! every few kilobytes, which costs more than decoding them. Never call this from an async task.

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

/// How often a wait checks whether it was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);
/// How long we try to send a cancel request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for a session to close.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// A session with a server.
pub struct Client {
    inner: Option<tokio_postgres::Client>,
    /// Used by this session only.
    runtime: Runtime,
    connection: JoinHandle<()>,
    cancel: Cancel,
    tls: Option<MakeRustlsConnect>,
}

impl Client {
    /// Connects without TLS. `place` names the server in messages and must not contain a password.
    /// Fails if the server does not answer, or refuses the session.
    pub fn connect(config: &Config, place: &str) -> Result<Self, PostgresError> {
        let opening = OpenedConnection::open(config, NoTls);
        let opened = Self::open(opening, Cancel::default(), None);
        opened.map_err(|failure| PostgresError::Connect { place: place.to_owned(), reason: failure.reason() })
    }

    /// Runs `opening` in a new runtime, which the session keeps.
    /// Fails if the operating system refuses the runtime, the operation is cancelled, or `opening` fails.
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
        self.inner.as_ref().expect("set until the client is dropped")
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
            // The result does not matter: the server also notices when the session is gone.
            self.runtime.block_on(cancel_query(&token, self.tls.as_ref()));
        }
        PostgresError::stopped(doing)
    }

    /// The rows that a statement returns. `doing` describes its purpose in messages.
    /// Fails if the server refuses the statement, the connection is lost, or the operation is cancelled.
    pub fn query(&self, doing: &str, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PostgresError> {
        logged(sql, || self.wait(doing, self.inner().query(sql, params)))
    }

    /// Like [`Client::query`], with each row converted by `read`.
    /// Fails as [`Client::query`] does.
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

    /// Runs statements whose results are ignored.
    /// Fails if the server refuses a statement, the connection is lost, or the operation is cancelled.
    pub fn execute(&self, doing: &str, sql: &str) -> Result<(), PostgresError> {
        logged(sql, || self.wait(doing, self.inner().batch_execute(sql)))
    }

    /// The rows of all statements in `sql`, each value in the server's text format.
    /// Fails as [`Client::execute`] does, or if a value is not UTF-8, which is possible in an SQL_ASCII session.
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

    /// The single value that a statement returns, as text.
    /// Fails as [`Client::texts`] does, or if there is no row or the value is NULL.
    pub fn value(&self, doing: &str, sql: &str) -> Result<String, PostgresError> {
        let first = self.texts(doing, sql)?.into_iter().next().and_then(|row| row.into_iter().next());
        first.flatten().ok_or_else(|| no_value(doing))
    }

    /// Starts a COPY ... TO STDOUT, whose data is returned message by message.
    /// Fails if the server refuses the COPY, the connection is lost, or the operation is cancelled. After the start,
    /// the same errors arrive as the last item of the iterator.
    pub fn copy_out(&self, doing: &str, sql: &str) -> Result<CopyOut<'_>, PostgresError> {
        let stream = Box::pin(logged(sql, || self.wait(doing, self.inner().copy_out(sql)))?);
        Ok(CopyOut { stream: Some(stream), client: self, doing: doing.to_owned() })
    }

    /// Waits until `work` is done. On cancellation, asks the server to cancel and waits for the server's error.
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

    /// Like [`Client::execute`], but returns the driver's error for callers that inspect it.
    /// Fails if the server refuses a statement, the connection is lost, or the server cancels the statement because the
    /// operation is cancelled.
    pub(crate) fn attempt(&self, sql: &str) -> Result<(), Error> {
        logged(sql, || self.finish_or_cancel(self.inner().batch_execute(sql)))
    }

    /// Runs a statement with parameters. Returns the number of affected rows.
    /// Fails as [`Client::attempt`] does.
    pub(crate) fn attempt_with(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        self.finish_or_cancel(self.inner().execute(sql, params))
    }

    /// Runs a prepared statement. Returns the number of affected rows.
    /// Fails as [`Client::attempt`] does.
    pub(crate) fn attempt_statement(
        &self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Error> {
        self.finish_or_cancel(self.inner().execute(statement, params))
    }

    /// Prepares a statement that is used many times.
    /// Fails as [`Client::attempt`] does.
    pub(crate) fn prepare(&self, sql: &str) -> Result<Statement, Error> {
        logged(sql, || self.finish_or_cancel(self.inner().prepare(sql)))
    }

    /// Starts a prepared COPY ... FROM STDIN. Dropping it before it is finished cancels it.
    /// Fails as [`Client::attempt`] does.
    pub(crate) fn copy_in(&self, statement: &Statement) -> Result<CopyIn<'_>, Error> {
        let sink = self.finish_or_cancel(self.inner().copy_in(statement))?;
        Ok(CopyIn { sink: Box::pin(sink), client: self })
    }
}

/// The parts of an open session.
pub(crate) struct OpenedConnection {
    pub(crate) inner: tokio_postgres::Client,
    /// The task that drives the session. Its errors are reported by the request in progress.
    pub(crate) connection: JoinHandle<()>,
}

impl OpenedConnection {
    /// Opens a session and spawns the task that drives it.
    /// Fails if no host of `config` accepts the connection and the login.
    pub(crate) async fn open<T>(config: &Config, tls: T) -> Result<Self, Error>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (inner, connection) = config.connect(tls).await?;
        Ok(Self { inner, connection: tokio::spawn(connection.map(|_| ())) })
    }
}

/// Why a session could not be opened.
pub(crate) enum OpenFailure<E> {
    /// The operating system refused to create the runtime.
    Runtime(std::io::Error),
    /// The operation was cancelled.
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
    /// Closes the session properly. Otherwise the server would log a lost connection.
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
    /// Sends data, which may be split anywhere. The server's errors may only appear in [`CopyIn::finish`].
    /// Fails if the connection is lost or the server has ended the COPY.
    pub(crate) fn send(&mut self, data: Bytes) -> Result<(), Error> {
        self.client.finish_or_cancel(self.sink.send(data))
    }

    /// Finishes the COPY. Returns the number of rows.
    /// Fails if the server refuses a row that was sent, the connection is lost, or the server cancels the COPY because
    /// the operation is cancelled.
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        self.client.finish_or_cancel(self.sink.as_mut().finish())
    }
}

/// The messages of a COPY ... TO STDOUT.
pub struct CopyOut<'a> {
    /// None after an error, which the stream would otherwise repeat forever.
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
        // Messages often arrive together, so one may be ready.
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
    let reason = "the server returned no value".to_owned();
    PostgresError::Failed { doing: doing.to_owned(), reason, state: None }
}

/// Explains the server's error for a row that is too long for one message.
fn row_too_long(error: PostgresError) -> PostgresError {
    match error {
        PostgresError::Failed { doing, reason, state } if state.as_deref() == Some("54000") => {
            let reason = format!("a row is longer than 1 GB, the most that a server can send at once ({reason})");
            PostgresError::Failed { doing, reason, state }
        }
        other => other,
    }
}

/// When a cancellation was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stopped {
    /// Before anything was sent to the server.
    Before,
    Within,
}

/// The result of `work`, unless the operation is cancelled first.
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

/// Asks the server to cancel what a session does. It does not matter whether this fails or times out.
async fn cancel_query(token: &CancelToken, tls: Option<&MakeRustlsConnect>) {
    let asked = async {
        match tls {
            Some(tls) => token.cancel_query(tls.clone()).await,
            None => token.cancel_query(NoTls).await,
        }
    };
    tokio::time::timeout(CANCEL_TIMEOUT, asked).await.ok();
}

/// Fails if a value is not UTF-8, which is possible in a SQL_ASCII session.
fn row_texts(row: &SimpleQueryRow) -> Result<Vec<Option<String>>, Error> {
    (0..row.len()).map(|at| Ok(row.try_get(at)?.map(ToOwned::to_owned))).collect()
}
