//! Errors of a store, sorted by what a person does next. They contain only text, never a library's error: those may
//! print signed addresses, or an error page that echoes a session token.

use std::fmt;

use thiserror::Error;

/// The operation on an object that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// Storing a new object.
    Creating,
    /// Reading an object or part of it.
    Reading,
    /// Asking for an object's size.
    Sizing,
    /// Listing the objects below a prefix.
    Listing,
    /// Deleting an object.
    Deleting,
    /// Syncing written objects to disk.
    Syncing,
    /// Opening the store.
    Opening,
}

impl Doing {
    /// The operation as the beginning of a message.
    pub(crate) const fn phrase(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Reading => "reading",
            Self::Sizing => "asking for the size of",
            Self::Listing => "listing",
            Self::Deleting => "deleting",
            Self::Syncing => "making durable",
            Self::Opening => "opening",
        }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.phrase())
    }
}

/// A failure of the store. `name` is the object, relative to the repository.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// The object does not exist.
    #[error("{name} does not exist")]
    NotFound {
        /// The object.
        name: String,
    },
    /// An object of this name exists with other content.
    #[error("creating {name}: it exists with other content")]
    Exists {
        /// The object.
        name: String,
    },
    /// The bucket, container or directory does not exist.
    #[error("no repository at {place}: {reason}")]
    NoPlace {
        /// The location.
        place: String,
        /// What is missing.
        reason: String,
    },
    /// The credentials or the file permissions do not allow it.
    #[error("{doing} {name} was refused: {reason}")]
    Refused {
        /// What was attempted.
        doing: Doing,
        /// The object.
        name: String,
        /// The store's message.
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
        /// The store's message.
        reason: String,
    },
    /// No attempt to create the object got a clear answer, and the object is not there yet.
    #[error("creating {name}: no clear answer (attempts: {attempts}), so it may exist or still appear: {reason}")]
    Uncertain {
        /// The object.
        name: String,
        /// How many times it was attempted.
        attempts: u32,
        /// The last failure.
        reason: String,
    },
    /// The store has no space left.
    #[error("{doing} {name}: the store is full: {reason}")]
    Full {
        /// What was attempted.
        doing: Doing,
        /// The object.
        name: String,
        /// The store's message.
        reason: String,
    },
    /// The file system is mounted read-only.
    #[error("{doing} {name}: the store is read-only: {reason}")]
    ReadOnly {
        /// What was attempted.
        doing: Doing,
        /// The object.
        name: String,
        /// The store's message.
        reason: String,
    },
    /// The object ends before the end of the requested range.
    #[error("reading {name}: received {got_bytes} of {wanted_bytes} bytes")]
    Short {
        /// The object.
        name: String,
        /// Bytes requested or announced.
        wanted_bytes: u64,
        /// Bytes received.
        got_bytes: u64,
    },
    /// The object is larger than a whole read allows.
    #[error("reading {name}: it has {size_bytes} bytes, more than the {limit_bytes} allowed for such an object")]
    TooLarge {
        /// The object.
        name: String,
        /// Its size.
        size_bytes: u64,
        /// The maximum.
        limit_bytes: u64,
    },
    /// The store does not support this operation.
    #[error("{doing} {name}: the store does not support this: {reason}")]
    Unsupported {
        /// What was attempted.
        doing: Doing,
        /// The object.
        name: String,
        /// The library's message.
        reason: String,
    },
    /// A name that no object of a repository can have.
    #[error("{name:?} is not a valid object name")]
    Name {
        /// The name, escaped.
        name: String,
    },
    /// A setting that this kind of store does not have.
    #[error("setting {key:?} of the store: {reason}")]
    Setting {
        /// The setting's name. Its value may be a secret.
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
        /// The library's message.
        reason: String,
    },
}
