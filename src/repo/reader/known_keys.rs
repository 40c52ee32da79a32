//! The data keys that a reader has found so far.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::base::frame::SessionWrap;
use crate::base::id::SessionId;
use crate::crypto::seal::Opener;
use crate::format::name::Name;
use crate::repo::error::RepoError;

/// The data keys that are known, and where they came from.
#[derive(Default)]
pub(super) struct DataKeys {
    /// `None` for a session whose key is nowhere.
    pub(super) sessions: Mutex<HashMap<SessionId, Option<DataKey>>>,
    /// Wraps of headers that were read together with frames.
    pub(super) headers: Mutex<HashMap<SessionId, FoundWrap>>,
    /// Objects that should have a usable key and do not.
    pub(super) damaged: Mutex<Vec<RepoError>>,
}

/// A wrap and the object that it is from.
#[derive(Clone)]
pub(super) struct FoundWrap {
    pub(super) object: Name,
    pub(super) wrap: SessionWrap,
}

/// The key of a session.
#[derive(Clone)]
pub(super) struct DataKey {
    pub(super) found: FoundWrap,
    pub(super) opener: Arc<Opener>,
    pub(super) state: KeyState,
}

/// What is known about a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyState {
    /// It has not opened a frame yet.
    Untried,
    /// It has opened a frame.
    Proven,
    /// It did not open a frame, and no other key did.
    Alone,
}
