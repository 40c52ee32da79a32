//! Key grants (`docs/format.md` section 3): the part of an epoch's keys that a role may hold, sealed to one key. This
//! is only the envelope. `crypto` defines the sealed body.

use crate::base::id::{Digest, Epoch, KeyId, RepositoryId};
use crate::format::header::{self, ObjectKind};
use crate::format::name::Name;
use crate::format::wire::{Take, WireError};

/// One object `keys/<epoch>/<key id>/<sha256>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    pub repository: RepositoryId,
    pub epoch: Epoch,
    /// The key that the grant is for.
    pub key: KeyId,
    /// Encapsulated key and sealed body.
    pub sealed: Vec<u8>,
}

impl Grant {
    /// The name under which these encoded bytes of the grant are stored.
    #[must_use]
    pub fn name(&self, encoded: &[u8]) -> Name {
        Name::Grant(self.epoch, self.key, Digest::of(encoded))
    }

    /// Encodes the bytes to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        header::write(&mut out, ObjectKind::Grant);
        out.extend_from_slice(self.repository.as_bytes());
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(&self.sealed);
        out
    }

    /// Decodes stored bytes.
    /// Fails if they are not a grant of this version, or end before its sealed body.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut take = Take::new(bytes);
        header::read(&mut take, ObjectKind::Grant)?;
        Ok(Self {
            repository: RepositoryId::new(take.array("repository id")?),
            epoch: Epoch(take.u32("epoch")?),
            key: KeyId::new(take.array("key id")?),
            sealed: take.rest().to_vec(),
        })
    }
}
