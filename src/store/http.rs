//! The HTTP client of the cloud stores. `object_store` limits a request together with its body to 30 seconds, which is
//! too short for a pack on a slow link. Here an upload has a deadline that grows with its body, and everything else
//! may take as long as bytes keep arriving.
//!
//! Error pages are reduced to their code and message, because some echo tokens or strings to sign. A status for which
//! `object_store` has no error variant becomes a [`Rejected`]. Each request is an [`Attempt`] in the log.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use thiserror::Error;

use super::counters::Tally;
use super::rejection::{NoCredentials, Rejected};
use super::request_log::Attempt;
use super::retry::RetryPolicy;

/// Maximum bytes read of an error page.
const ERROR_PAGE_BYTES_MAX: usize = 64 << 10;
/// Maximum characters kept of its message.
const MESSAGE_CHARS_MAX: usize = 300;

/// Hosts from which a cloud's machines get credentials if none are configured.
const METADATA_HOSTS: [&str; 2] = ["169.254.169.254", "metadata.google.internal"];

/// No answer within the time allowed for a request of this size.
#[derive(Debug, Error)]
#[error("no answer within {} seconds", limit.as_secs())]
struct Stalled {
    limit: Duration,
}

/// Makes clients with our time limits, whatever options the environment sets.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) retry_policy: RetryPolicy,
    pub(crate) tally: Arc<Tally>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let unlimited = options.clone().with_timeout_disabled();
        // A read timeout starts with the first byte of the request, so it would cut off uploads.
        let limited = unlimited.clone().with_read_timeout(self.retry_policy.idle);
        let connector = ReqwestConnector::default();
        Ok(HttpClient::new(StoreHttpClient {
            reads: connector.connect(&limited)?,
            uploads: connector.connect(&unlimited)?,
            retry_policy: self.retry_policy,
            tally: Arc::clone(&self.tally),
        }))
    }
}

#[derive(Debug)]
struct StoreHttpClient {
    reads: HttpClient,
    uploads: HttpClient,
    retry_policy: RetryPolicy,
    tally: Arc<Tally>,
}

#[async_trait]
impl HttpService for StoreHttpClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.tally.http_requests.add(1);
        let attempt = Attempt::begin(request.method().as_str());
        let result = self.send(request).await;
        attempt.end(&result);
        result
    }
}

impl StoreHttpClient {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if is_for_credentials(&request) {
            // `object_store` knows what a refusal means there.
            return self.reads.execute(request).await.map_err(without_machine);
        }
        self.sort(self.execute(request).await?).await
    }

    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        match request.body().content_length() as u64 {
            0 => self.reads.execute(request).await,
            body_bytes => within(self.retry_policy.transfer(body_bytes), self.upload(request)).await,
        }
    }

    /// Sends a request with a body and receives the whole answer, unless it is an error.
    async fn upload(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.uploads.execute(request).await?;
        if response.status().as_u16() >= 400 {
            return Ok(response);
        }
        in_memory(response).await
    }

    /// Passes on success and the statuses that `object_store` handles itself. Gives all others a type.
    async fn sort(&self, response: HttpResponse) -> Result<HttpResponse, HttpError> {
        let status = response.status().as_u16();
        if status < 400 {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let text = self.error_text(body).await;
        if matches!(status, 404 | 409 | 412) {
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(text)));
        }
        Err(rejection(Rejected { status, text }))
    }

    /// The message of the store's error page. A page that cannot be read gives no text, but there is still the status.
    async fn error_text(&self, body: HttpResponseBody) -> String {
        let page = within(self.retry_policy.idle, error_page(body)).await.unwrap_or_default();
        code_and_message(&String::from_utf8_lossy(&page))
    }
}

fn is_for_credentials(request: &HttpRequest) -> bool {
    let host = request.uri().host();
    host.is_some_and(|host| METADATA_HOSTS.contains(&host))
}

fn rejection(rejected: Rejected) -> HttpError {
    let kind = if rejected.is_passing() { HttpErrorKind::Request } else { HttpErrorKind::Unknown };
    HttpError::new(kind, rejected)
}

fn without_machine(error: HttpError) -> HttpError {
    match error.kind() {
        HttpErrorKind::Connect | HttpErrorKind::Timeout => {
            HttpError::new(HttpErrorKind::Unknown, NoCredentials { reason: error.to_string() })
        }
        _ => error,
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, HttpError>>) -> Result<T, HttpError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(HttpError::new(HttpErrorKind::Timeout, Stalled { limit })),
    }
}

async fn error_page(body: HttpResponseBody) -> Result<Vec<u8>, HttpError> {
    let mut pieces = body.bytes_stream();
    let mut page = Vec::new();
    while page.len() < ERROR_PAGE_BYTES_MAX
        && let Some(piece) = pieces.try_next().await?
    {
        add_while_room(&mut page, &piece);
    }
    Ok(page)
}

/// Receives the whole body.
async fn in_memory(response: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (parts, body) = response.into_parts();
    let body = HttpResponseBody::from(body.bytes().await?);
    Ok(HttpResponse::from_parts(parts, body))
}

/// Appends `piece`, up to the maximum size of an error page.
fn add_while_room(page: &mut Vec<u8>, piece: &[u8]) {
    let room = ERROR_PAGE_BYTES_MAX - page.len();
    page.extend_from_slice(&piece[..piece.len().min(room)]);
}

/// `Code: Message` from an error page: XML from the stores, JSON from the token services.
fn code_and_message(page: &str) -> String {
    let json = serde_json::from_str(page).unwrap_or_default();
    let words: Vec<&str> = code(page, &json).into_iter().chain(message(page, &json)).collect();
    start_of(&words.join(": "))
}

/// The part of `text` that an error shows, on one line.
fn start_of(text: &str) -> String {
    text.chars().map(without_control).take(MESSAGE_CHARS_MAX).collect()
}

fn code<'p>(page: &'p str, json: &'p serde_json::Value) -> Option<&'p str> {
    element(page, "Code").or_else(|| first_text(json, ["error", "code"]))
}

fn message<'p>(page: &'p str, json: &'p serde_json::Value) -> Option<&'p str> {
    element(page, "Message").or_else(|| first_text(json, ["error_description", "message"]))
}

/// The first of `names` that is a string member of a JSON object.
fn first_text<'a>(json: &'a serde_json::Value, names: [&str; 2]) -> Option<&'a str> {
    names.iter().find_map(|name| json.get(name)?.as_str())
}

fn without_control(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

fn element<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use object_store::client::{HttpError, HttpErrorKind};

    use super::{code_and_message, without_machine};
    use crate::store::failure::{FailureKind, StoreFailure};

    #[test]
    fn a_machine_without_credentials_is_refused_without_retries() {
        let timeout = std::io::Error::from(std::io::ErrorKind::TimedOut);
        let error = without_machine(HttpError::new(HttpErrorKind::Timeout, timeout));
        assert_eq!(error.kind(), HttpErrorKind::Unknown);
        let failure = StoreFailure::of(&object_store::Error::Generic { store: "test", source: Box::new(error) });
        assert_eq!(failure.kind, FailureKind::Refused);
        assert!(failure.reason.starts_with("no credentials are set"), "{}", failure.reason);
    }

    #[test]
    fn only_code_and_message_of_an_error_page_are_kept() {
        let page = "<?xml version=\"1.0\"?><Error><Code>ExpiredToken</Code><Message>The provided token\nhas expired.</Message>\
                    <Token-0>hunter2</Token-0></Error>";
        assert_eq!(code_and_message(page), "ExpiredToken: The provided token has expired.");
        let page = r#"{"error": "invalid_grant", "error_description": "Bad Request", "assertion": "hunter2"}"#;
        assert_eq!(code_and_message(page), "invalid_grant: Bad Request");
        assert_eq!(code_and_message("<html>hunter2</html>"), "");
        assert_eq!(code_and_message(""), "");
    }
}
