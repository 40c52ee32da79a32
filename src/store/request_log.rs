//! Logs requests to the store: each call with its object, size, duration and outcome, and each HTTP request of a call
//! that failed or was retried. Contains only names, numbers and statuses: no address, no header.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, Stream};
use object_store::client::{HttpError, HttpResponse};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::error::{Doing, StoreError};
use super::rejection::Rejected;
use crate::base::pipeline::lock;

tokio::task_local! {
    /// The HTTP requests of the current call.
    static ATTEMPTS: Arc<Attempts>;
}

/// Runs `work`, one call of the store, and logs its outcome.
/// Fails with the error of `work`.
pub(super) async fn logged<T>(
    doing: Doing,
    name: &str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let log = RequestLog::begin(doing, name);
    let work = ATTEMPTS.scope(Arc::clone(&log.attempts), work);
    let result = work.instrument(log.span.clone()).await;
    log.log_end(result.as_ref().err());
    result
}

/// Wraps a listing of the objects below `prefix` so that its end is logged, also if it fails. Items and errors pass
/// through unchanged.
pub(super) fn log_listing<T: 'static>(
    prefix: &str,
    objects: BoxStream<'static, Result<T, StoreError>>,
) -> BoxStream<'static, Result<T, StoreError>> {
    let log = RequestLog::begin(Doing::Listing, prefix);
    LoggedListing { log, objects, listed: 0 }.boxed()
}

/// A call of the store.
struct RequestLog {
    span: Span,
    started: Instant,
    attempts: Arc<Attempts>,
}

impl RequestLog {
    fn begin(doing: Doing, name: &str) -> Self {
        let span = tracing::info_span!("request", doing = doing.phrase(), object = name, bytes = Empty);
        Self { span, started: Instant::now(), attempts: Arc::default() }
    }

    fn log_end(&self, error: Option<&StoreError>) {
        let _entered = self.span.enter();
        let duration_ms = millis(self.started.elapsed());
        match error {
            None => tracing::debug!(duration_ms, "request ends"),
            Some(error) if is_answer(error) => {
                tracing::debug!(duration_ms, outcome = error.to_string(), "request ends");
            }
            Some(error) => {
                tracing::warn!(duration_ms, error = error.to_string(), "request fails");
            }
        }
    }

    fn log_listing_end(&self, objects: u64) {
        self.span.in_scope(|| tracing::debug!(objects, "listing ends"));
        self.log_end(None);
    }
}

/// Whether the object exists is an answer, not a failure.
fn is_answer(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound { .. } | StoreError::Exists { .. })
}

/// Records how many bytes of an object the current call sends or has received.
pub(super) fn record_bytes(bytes: u64) {
    Span::current().record("bytes", bytes);
}

/// Logs that the current call waits and then makes another attempt.
pub(super) fn log_retry(failed_attempt: u32, wait: Duration, reason: &str) {
    tracing::warn!(failed_attempt, wait_ms = millis(wait), reason, "trying again");
}

/// A listing whose end is logged.
struct LoggedListing<T> {
    log: RequestLog,
    objects: BoxStream<'static, Result<T, StoreError>>,
    listed: u64,
}

impl<T> Stream for LoggedListing<T> {
    type Item = Result<T, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let attempts = Arc::clone(&this.log.attempts);
        let objects = &mut this.objects;
        let next = ATTEMPTS.sync_scope(attempts, || this.log.span.in_scope(|| objects.poll_next_unpin(cx)));
        this.note(&next);
        next
    }
}

impl<T> LoggedListing<T> {
    fn note(&mut self, next: &Poll<Option<Result<T, StoreError>>>) {
        match next {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) => self.listed += 1,
            Poll::Ready(Some(Err(error))) => self.log.log_end(Some(error)),
            Poll::Ready(None) => self.log.log_listing_end(self.listed),
        }
    }
}

/// Attempts at one HTTP request. The client library makes another one after each failure that may be temporary.
#[derive(Default)]
struct Attempts(Mutex<AttemptCount>);

#[derive(Default)]
struct AttemptCount {
    /// Attempts since the last one that succeeded.
    made: u32,
    last_failure: Option<AttemptFailure>,
}

struct AttemptFailure {
    at: Instant,
    reason: String,
}

impl AttemptFailure {
    /// Logs the reason for the next attempt, in that attempt's span.
    fn log_retry(self, next_attempt: &Span) {
        let waited_ms = millis(self.at.elapsed());
        next_attempt.in_scope(|| tracing::warn!(waited_ms, reason = self.reason, "trying again"));
    }
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, AttemptCount> {
        lock(&self.0)
    }
}

/// One attempt at an HTTP request.
pub(super) struct Attempt {
    span: Span,
    started: Instant,
    /// The attempts of the call that it belongs to. A request outside any call has its own.
    attempts: Arc<Attempts>,
}

impl Attempt {
    /// Begins an attempt with this HTTP method. Logs why it is needed if an attempt of the same call failed before it.
    pub(super) fn begin(method: &str) -> Self {
        let attempts = ATTEMPTS.try_with(Arc::clone).unwrap_or_default();
        let mut count = attempts.lock();
        count.made += 1;
        let span = tracing::info_span!("attempt", number = count.made, method);
        if let Some(failure) = count.last_failure.take() {
            failure.log_retry(&span);
        }
        drop(count);
        Self { span, started: Instant::now(), attempts }
    }

    /// Ends the attempt, and logs the status or the reason of the failure.
    pub(super) fn end(&self, result: &Result<HttpResponse, HttpError>) {
        match result {
            Ok(response) => self.succeed(response.status().as_u16()),
            Err(error) => self.fail(reason(error)),
        }
    }

    fn succeed(&self, status: u16) {
        let duration_ms = millis(self.started.elapsed());
        self.span.in_scope(|| tracing::debug!(status, duration_ms, "answer"));
        *self.attempts.lock() = AttemptCount::default();
    }

    fn fail(&self, reason: String) {
        let duration_ms = millis(self.started.elapsed());
        self.span.in_scope(|| tracing::info!(reason, duration_ms, "attempt fails"));
        self.attempts.lock().last_failure = Some(AttemptFailure { at: Instant::now(), reason });
    }
}

/// Why there was no usable answer. Errors of the client may print addresses, so only their kind is logged.
fn reason(error: &HttpError) -> String {
    match Rejected::among_causes(error) {
        Some(rejected) => rejected.to_string(),
        None => format!("{:?}", error.kind()),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
