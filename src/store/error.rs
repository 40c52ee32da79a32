//! What can go wrong with a store, sorted by what a person does next. An error here holds texts only,
//! never a library's error: those may print signed addresses or an error page that echoes a session
//! token.

use std::fmt;

use thiserror::Error;

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

impl Doing {
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
