//! What can go wrong with a store, sorted by what a person does next, and the sorting of the
//! libraries' errors into it. An error here holds texts only, never a library's error: those may
//! print signed addresses or an error page that echoes a session token.

use std::error::Error as StdError;
use std::fmt;
use std::io::ErrorKind;

use object_store::client::HttpError;
use thiserror::Error;

use crate::base::chain::causes;

use super::http::{NoCredentials, Rejected};

/// What was being done to an object when it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// Storing a new object.
    Creating,
    /// Reading an object or a part of it.
    Reading,
    /// Asking for an object's size.
    Sizing,
    /// Listing the objects below a prefix.
    Listing,
    /// Deleting an object.
    Deleting,
    /// Forcing what was written to the disk.
    Syncing,
    /// Opening the store.
    Opening,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Reading => "reading",
            Self::Sizing => "asking for the size of",
            Self::Listing => "listing",
            Self::Deleting => "deleting",
            Self::Syncing => "making durable",
            Self::Opening => "opening",
        })
    }
}

/// A failure of the store; `name` is the object, relative to the repository.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// There is no such object.
    #[error("{name} does not exist")]
    NotFound {
        /// The object.
        name: String,
    },
    /// An object of that name exists and its content is another.
    #[error("creating {name}: it exists with other content")]
    Exists {
        /// The object.
        name: String,
    },
    /// The bucket, container or directory is not there.
    #[error("no repository at {place}: {reason}")]
    NoPlace {
        /// The location.
        place: String,
        /// What is missing.
        reason: String,
    },
    /// The credentials or the file's permissions do not allow it.
    #[error("{doing} {name} was refused: {reason}")]
    Refused {
        /// What was attempted.
        doing: Doing,
        /// The object.
        name: String,
        /// The store's words.
        reason: String,
    },
    /// The store could not be reached or did not answer.
    #[error("{doing} {name}: the store does not answer: {reason}")]
    Unreachable {
        /// What was attempted.
        doing: Doing,
        /// The object.
        name: String,
        /// The last failure.
        reason: String,
    },
    /// The store asks for fewer requests.
    #[error("{doing} {name}: the store asks for fewer requests: {reason}")]
    Throttled {
        /// What was attempted.
        doing: Doing,
        /// The object.
        name: String,
        /// The store's words.
        reason: String,
    },
    /// Every try to create the object ended without a clear answer, and it is not there yet.
    #[error("creating {name}: no clear answer (tries: {attempts}), so it may be there or still appear: {reason}")]
    Uncertain {
        /// The object.
        name: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        reason: String,
    },
    /// The store has no room.
    #[error("{doing} {name}: the store is full: {reason}")]
    Full {
        /// What was attempted.
        doing: Doing,
        /// The object.
        name: String,
        /// The store's words.
        reason: String,
    },
    /// The file system is mounted read-only.
    #[error("{doing} {name}: the store is read-only: {reason}")]
    ReadOnly {
        /// What was attempted.
        doing: Doing,
        /// The object.
        name: String,
        /// The store's words.
        reason: String,
    },
    /// The object ends before the range that was asked for.
    #[error("reading {name}: {got_bytes} bytes came where {wanted_bytes} were asked for")]
    Short {
        /// The object.
        name: String,
        /// Bytes asked for or announced.
        wanted_bytes: u64,
        /// Bytes that came.
        got_bytes: u64,
    },
    /// The object is larger than what is read at once.
    #[error("reading {name}: its {size_bytes} bytes are more than the {limit_bytes} that such an object may have")]
    TooLarge {
        /// The object.
        name: String,
        /// Its size.
        size_bytes: u64,
        /// What was allowed.
        limit_bytes: u64,
    },
    /// The store cannot do this at all.
    #[error("{doing} {name}: the store cannot do this: {reason}")]
    Unsupported {
        /// What was attempted.
        doing: Doing,
        /// The object.
        name: String,
        /// The library's words.
        reason: String,
    },
    /// A name that no object of a repository can have.
    #[error("{name:?} is not a name that an object can have")]
    Name {
        /// The name, escaped.
        name: String,
    },
    /// A setting of the store that does not exist or does not fit.
    #[error("setting {key:?} of the store: {reason}")]
    Setting {
        /// The setting's name; its value may be a secret.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else.
    #[error("{doing} {name}: {reason}")]
    Other {
        /// What was attempted.
        doing: Doing,
        /// The object.
        name: String,
        /// The library's words.
        reason: String,
    },
}

/// The kinds of failure that callers on this floor tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FailureKind {
    Missing,
    NoPlace,
    /// A precondition failed or writers collided: for a create, look at what is there.
    Exists,
    Refused,
    /// No answer, or one that does not say whether the request was carried out.
    Unclear,
    Throttled,
    Full,
    ReadOnly,
    OutOfRange,
    Unsupported,
    Other,
}

/// A library's error, sorted and put into words that are safe to print.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StoreFailure {
    pub(crate) kind: FailureKind,
    pub(crate) reason: String,
}

impl StoreFailure {
    /// Sorts an error of `object_store`.
    pub(crate) fn of(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let kind = match error {
            E::NotFound { .. } => FailureKind::Missing,
            E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => FailureKind::Exists,
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => FailureKind::Refused,
            E::NotImplemented { .. } | E::NotSupported { .. } => FailureKind::Unsupported,
            _ => causes(error).find_map(kind_of_cause).unwrap_or(FailureKind::Other),
        };
        let reason = describe(error);
        let no_place = ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];
        let kind = match kind {
            FailureKind::Missing | FailureKind::Other if no_place.iter().any(|code| reason.contains(code)) => {
                FailureKind::NoPlace
            }
            // S3 answers a bulk deletion with 200 and one code per object.
            FailureKind::Other if reason.contains("(code: AccessDenied)") => FailureKind::Refused,
            kind => kind,
        };
        Self { kind, reason }
    }

    /// Sorts an error of the file system.
    pub(crate) fn of_io(error: &std::io::Error) -> Self {
        Self { kind: kind_of_io(error).unwrap_or(FailureKind::Other), reason: error.to_string() }
    }

    /// The error for a person; `place` is the location of the repository.
    pub(crate) fn into_error(self, doing: Doing, name: &str, place: &str) -> StoreError {
        let (name, reason) = (name.to_owned(), self.reason);
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

fn kind_of_cause(cause: &(dyn StdError + 'static)) -> Option<FailureKind> {
    if let Some(error) = cause.downcast_ref::<HttpError>() {
        if causes(error).any(|cause| cause.is::<NoCredentials>()) {
            return Some(FailureKind::Refused);
        }
        let rejected = causes(error).find_map(|cause| cause.downcast_ref::<Rejected>());
        return Some(rejected.map_or(FailureKind::Unclear, kind_of_status));
    }
    cause.downcast_ref::<std::io::Error>().and_then(kind_of_io)
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

/// The words of an error and its causes, each once, without the parts of addresses that may sign.
fn describe(error: &object_store::Error) -> String {
    use object_store::Error as E;
    let causes: Vec<_> = causes(error).collect();
    let start = match error {
        // The innermost cause is the status and what the store said to it.
        E::PermissionDenied { .. } | E::Unauthenticated { .. } | E::NotFound { .. } => causes.len() - 1,
        E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => causes.len() - 1,
        _ => {
            let ours = causes.iter().position(|cause| cause.is::<Rejected>() || cause.is::<NoCredentials>());
            let http = || causes.iter().position(|cause| cause.is::<HttpError>());
            // A status that it gives no kind of error.
            let status = || causes.iter().position(|cause| cause.to_string().starts_with("Server returned"));
            ours.or_else(http).or_else(status).unwrap_or(usize::from(causes.len() > 1))
        }
    };
    let mut words = String::new();
    for cause in &causes[start..] {
        let text = without_queries(&cause.to_string());
        if !words.contains(&text) {
            if !words.is_empty() {
                words.push_str(": ");
            }
            words.push_str(&text);
        }
    }
    words
}

/// Cuts the query off every address in `text`.
fn without_queries(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((address, _)) if address.contains("://") => address,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use object_store::client::{HttpError, HttpErrorKind};

    use super::{Doing, FailureKind, StoreError, StoreFailure, without_queries};
    use crate::store::http::Rejected;

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
    fn files_are_sorted_by_what_to_do_next() {
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
    fn addresses_lose_their_queries() {
        assert_eq!(
            without_queries("PUT https://x.blob.example/c/o?sv=1&sig=hunter2 failed - why?"),
            "PUT https://x.blob.example/c/o failed - why?"
        );
    }

    #[test]
    fn messages_name_the_object_and_the_attempt() {
        let failure = StoreFailure::of(&generic(std::io::Error::from_raw_os_error(28)));
        let error = failure.into_error(Doing::Creating, "a/b", "here");
        assert_eq!(error.to_string(), "creating a/b: the store is full: No space left on device (os error 28)");
        assert!(matches!(error, StoreError::Full { .. }));
    }
}
