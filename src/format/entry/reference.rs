//! How entries name other entries and objects.

use serde::{Deserialize, Serialize};

use crate::base::id::Digest;

/// An entry of a chain, by number and digest of its stored bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Numbered {
    pub number: u64,
    pub sha256: Digest,
}

/// An object that was added.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ObjectRef {
    pub sha256: Digest,
    pub size: u64,
}
