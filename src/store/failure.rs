//! Sorts the libraries' errors into kinds of failure, and formats them without possible secrets.

use std::error::Error as StdError;
use std::io::ErrorKind;

use object_store::client::HttpError;

use super::error::{Doing, StoreError};
use super::rejection::{NoCredentials, Rejected};
use crate::base::causes::causes;

/// Codes and messages of stores whose bucket or container does not exist.
const NO_PLACE_CODES: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];

/// The kinds of failure that this layer distinguishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FailureKind {
    Missing,
    NoPlace,
    /// A precondition failed or writers collided. After a create, read back what is stored.
    Exists,
    Refused,
    /// No answer, or one that does not show whether the request was carried out.
    Unclear,
    Throttled,
    Full,
    ReadOnly,
    OutOfRange,
    Unsupported,
    Other,
}

/// A library's error: its kind, and a text that is safe to print.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StoreFailure {
    pub(crate) kind: FailureKind,
    pub(crate) reason: String,
}

impl StoreFailure {
    /// Sorts an error of `object_store`.
    pub(crate) fn of(error: &object_store::Error) -> Self {
        let reason = describe(error);
        let kind = refine(kind_of(error), &reason);
        Self { kind, reason }
    }

    /// Sorts an error of the file system.
    pub(crate) fn of_io(error: &std::io::Error) -> Self {
        Self { kind: kind_of_io(error).unwrap_or(FailureKind::Other), reason: error.to_string() }
    }

    /// The error for a person. `place` is the location of the repository.
    pub(crate) fn into_error(self, doing: Doing, name: &str, place: &str) -> StoreError {
        let name = name.to_owned();
        let reason = self.reason;
        match self.kind {
            FailureKind::Missing if matches!(doing, Doing::Creating | Doing::Listing) => {
                StoreError::NoPlace { place: place.to_owned(), reason }
            }
            FailureKind::Missing => StoreError::NotFound { name },
            FailureKind::NoPlace => StoreError::NoPlace { place: place.to_owned(), reason },
            FailureKind::Refused => StoreError::Refused { doing, name, reason },
            FailureKind::Unclear => StoreError::Unreachable { doing, name, reason },
            FailureKind::Throttled => StoreError::Throttled { doing, name, reason },
            FailureKind::Full => StoreError::Full { doing, name, reason },
            FailureKind::ReadOnly => StoreError::ReadOnly { doing, name, reason },
            FailureKind::Unsupported => StoreError::Unsupported { doing, name, reason },
            FailureKind::Exists | FailureKind::OutOfRange | FailureKind::Other => {
                StoreError::Other { doing, name, reason }
            }
        }
    }
}

fn kind_of(error: &object_store::Error) -> FailureKind {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => FailureKind::Missing,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => FailureKind::Refused,
        E::NotImplemented { .. } | E::NotSupported { .. } => FailureKind::Unsupported,
        error if is_of_state(error) => FailureKind::Exists,
        error => causes(error).find_map(kind_of_cause).unwrap_or(FailureKind::Other),
    }
}

/// The kind according to the store's message, if the status alone does not show it.
fn refine(kind: FailureKind, reason: &str) -> FailureKind {
    let names_no_place = NO_PLACE_CODES.iter().any(|code| reason.contains(code));
    match kind {
        FailureKind::Missing | FailureKind::Other if names_no_place => FailureKind::NoPlace,
        // S3 answers a bulk deletion with 200 and one code per object.
        FailureKind::Other if reason.contains("(code: AccessDenied)") => FailureKind::Refused,
        kind => kind,
    }
}

fn kind_of_cause(cause: &(dyn StdError + 'static)) -> Option<FailureKind> {
    if let Some(error) = cause.downcast_ref::<HttpError>() {
        return Some(kind_of_http(error));
    }
    cause.downcast_ref::<std::io::Error>().and_then(kind_of_io)
}

fn kind_of_http(error: &HttpError) -> FailureKind {
    if causes(error).any(|cause| cause.is::<NoCredentials>()) {
        return FailureKind::Refused;
    }
    match Rejected::among_causes(error) {
        Some(rejected) => kind_of_status(rejected),
        None => FailureKind::Unclear,
    }
}

fn kind_of_status(rejected: &Rejected) -> FailureKind {
    match rejected.status {
        401 | 403 => FailureKind::Refused,
        429 => FailureKind::Throttled,
        503 if rejected.text.contains("SlowDown") => FailureKind::Throttled,
        507 => FailureKind::Full,
        416 => FailureKind::OutOfRange,
        408 | 500..=599 => FailureKind::Unclear,
        _ if rejected.is_passing() => FailureKind::Unclear,
        _ => FailureKind::Other,
    }
}

fn kind_of_io(error: &std::io::Error) -> Option<FailureKind> {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Some(FailureKind::Full),
        ErrorKind::ReadOnlyFilesystem => Some(FailureKind::ReadOnly),
        ErrorKind::PermissionDenied => Some(FailureKind::Refused),
        ErrorKind::TimedOut
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => Some(FailureKind::Unclear),
        _ => None,
    }
}

/// The messages of an error and its causes, each once, without queries of addresses, which may contain signatures.
fn describe(error: &object_store::Error) -> String {
    let causes: Vec<Cause<'_>> = causes(error).collect();
    let mut words = String::new();
    for cause in &causes[first_telling(error, &causes)..] {
        add_words(&mut words, &without_queries(&cause.to_string()));
    }
    words
}

/// Appends the message of a cause, unless the text already contains it.
fn add_words(words: &mut String, text: &str) {
    if words.contains(text) {
        return;
    }
    if !words.is_empty() {
        words.push_str(": ");
    }
    words.push_str(text);
}

type Cause<'a> = &'a (dyn StdError + 'static);

/// The position of the first of `causes` that is informative for a person.
fn first_telling(error: &object_store::Error, causes: &[Cause<'_>]) -> usize {
    if is_told_by_status(error) {
        return causes.len() - 1;
    }
    first_own(causes).unwrap_or(usize::from(causes.len() > 1))
}

/// Whether the innermost cause of `error` is the status with the store's message.
fn is_told_by_status(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    let is_refusal = matches!(error, E::PermissionDenied { .. } | E::Unauthenticated { .. });
    is_refusal || matches!(error, E::NotFound { .. }) || is_of_state(error)
}

/// Whether the store refused because of the stored state.
fn is_of_state(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(error, E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. })
}

/// The position of the cause made by our HTTP client or, failing that, by the library's client.
fn first_own(causes: &[Cause<'_>]) -> Option<usize> {
    let first = |is_it: fn(&Cause<'_>) -> bool| causes.iter().position(is_it);
    first(is_ours).or_else(|| first(is_of_http)).or_else(|| first(is_unknown_status))
}

fn is_ours(cause: &Cause<'_>) -> bool {
    cause.is::<Rejected>() || cause.is::<NoCredentials>()
}

fn is_of_http(cause: &Cause<'_>) -> bool {
    cause.is::<HttpError>()
}

/// A status for which the library has no error variant.
fn is_unknown_status(cause: &Cause<'_>) -> bool {
    cause.to_string().starts_with("Server returned")
}

/// Removes the query from every address in `text`.
fn without_queries(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').map(without_query).collect();
    words.join(" ")
}

fn without_query(word: &str) -> &str {
    match word.split_once('?') {
        Some((address, _)) if address.contains("://") => address,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use object_store::client::{HttpError, HttpErrorKind};

    use super::{FailureKind, StoreFailure, without_queries};
    use crate::store::error::{Doing, StoreError};
    use crate::store::rejection::Rejected;

    fn generic(source: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
        object_store::Error::Generic { store: "test", source: Box::new(source) }
    }

    fn status(status: u16, text: &str) -> FailureKind {
        let rejected = Rejected { status, text: text.to_owned() };
        StoreFailure::of(&generic(HttpError::new(HttpErrorKind::Request, rejected))).kind
    }

    #[test]
    fn statuses_are_sorted_by_what_to_do_next() {
        assert_eq!(status(429, ""), FailureKind::Throttled);
        assert_eq!(status(503, "SlowDown: reduce your request rate"), FailureKind::Throttled);
        assert_eq!(status(503, ""), FailureKind::Unclear);
        assert_eq!(status(500, ""), FailureKind::Unclear);
        assert_eq!(status(400, "RequestTimeout: idle"), FailureKind::Unclear);
        assert_eq!(status(400, "InvalidArgument"), FailureKind::Other);
        assert_eq!(status(416, ""), FailureKind::OutOfRange);
        assert_eq!(status(507, ""), FailureKind::Full);
        assert_eq!(status(403, "AccessDenied"), FailureKind::Refused);
    }

    #[test]
    fn file_errors_are_sorted_by_what_to_do_next() {
        for (raw, kind) in [
            (28, FailureKind::Full),
            (122, FailureKind::Full),
            (30, FailureKind::ReadOnly),
            (13, FailureKind::Refused),
            (5, FailureKind::Other),
        ] {
            let failure = StoreFailure::of(&generic(std::io::Error::from_raw_os_error(raw)));
            assert_eq!(failure.kind, kind, "{}", failure.reason);
        }
    }

    #[test]
    fn a_locked_object_in_a_bulk_deletion_is_a_refusal() {
        let denied =
            std::io::Error::other("DeleteObjects request failed for key a: Access Denied (code: AccessDenied)");
        assert_eq!(StoreFailure::of(&generic(denied)).kind, FailureKind::Refused);
    }

    #[test]
    fn queries_are_removed_from_addresses() {
        assert_eq!(
            without_queries("PUT https://x.blob.example/c/o?sv=1&sig=hunter2 failed - why?"),
            "PUT https://x.blob.example/c/o failed - why?"
        );
    }

    #[test]
    fn messages_name_the_object_and_the_operation() {
        let failure = StoreFailure::of(&generic(std::io::Error::from_raw_os_error(28)));
        let error = failure.into_error(Doing::Creating, "a/b", "here");
        assert_eq!(error.to_string(), "creating a/b: the store is full: No space left on device (os error 28)");
        assert!(matches!(error, StoreError::Full { .. }));
    }
}
