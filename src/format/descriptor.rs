//! `sidekeep.json` (`docs/format.md` section 11), which distinguishes a repository from any other directory. It is
//! immutable and unsigned. Roster entry 1 names its digest.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::id::RepositoryId;
use crate::base::json;
use crate::base::time::Moment;
use crate::format::dsse::FORMAT;

/// The bytes are not a descriptor, or one of a later version.
#[derive(Debug, Error)]
pub enum DescriptorError {
    /// Some other JSON, or not JSON at all.
    #[error("sidekeep.json does not describe a Sidekeep repository")]
    Foreign,
    /// Written by a later version.
    #[error("sidekeep.json has format {format}, which this version does not support")]
    Unsupported { format: u64 },
    /// Members are missing or invalid.
    #[error("sidekeep.json cannot be read")]
    Damaged { source: serde_json::Error },
}

/// The content of `sidekeep.json`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    pub repository: RepositoryId,
    /// The clock of the host that ran `init`.
    pub created: Moment,
}

#[derive(Serialize, Deserialize)]
struct StoredDescriptor {
    sidekeep: String,
    format: u32,
    repository: RepositoryId,
    created: Moment,
}

const WORD: &str = "repository";

impl Descriptor {
    /// Encodes the bytes to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { repository, created } = *self;
        let stored = StoredDescriptor { sidekeep: WORD.to_owned(), format: FORMAT, repository, created };
        serde_json::to_vec(&stored).expect("a descriptor is plain JSON")
    }

    /// Reads stored bytes.
    /// Fails if they do not describe a Sidekeep repository (`DescriptorError::Foreign`), have another format version
    /// (`DescriptorError::Unsupported`), or lack valid members (`DescriptorError::Damaged`).
    pub fn decode(bytes: &[u8]) -> Result<Self, DescriptorError> {
        DescriptorHead::check(bytes)?;
        let stored: StoredDescriptor = json::read(bytes).map_err(|source| DescriptorError::Damaged { source })?;
        Ok(Self { repository: stored.repository, created: stored.created })
    }
}

/// The part that is read from descriptors of every version, including later ones.
#[derive(Deserialize)]
struct DescriptorHead {
    sidekeep: String,
    format: u64,
}

impl DescriptorHead {
    fn check(bytes: &[u8]) -> Result<(), DescriptorError> {
        let head: Self = serde_json::from_slice(bytes).map_err(|_| DescriptorError::Foreign)?;
        if head.sidekeep != WORD {
            return Err(DescriptorError::Foreign);
        }
        if head.format != u64::from(FORMAT) {
            return Err(DescriptorError::Unsupported { format: head.format });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Descriptor, DescriptorError};
    use crate::base::id::RepositoryId;
    use crate::base::time::Moment;

    #[test]
    fn foreign_later_and_damaged_descriptors_are_distinguished() {
        let ours = Descriptor { repository: RepositoryId::new([1; 16]), created: Moment(0) };
        let text = String::from_utf8(ours.encode()).expect("JSON is UTF-8");
        assert_eq!(Descriptor::decode(text.as_bytes()).expect("decodes"), ours);
        let decode = |text: String| Descriptor::decode(text.as_bytes());
        assert!(matches!(decode("{}".to_owned()), Err(DescriptorError::Foreign)));
        assert!(matches!(decode(text.replace("\"repository\",", "\"x\",")), Err(DescriptorError::Foreign)));
        let later = text.replace("\"format\":1", "\"format\":2").replace("created", "made");
        assert!(matches!(decode(later), Err(DescriptorError::Unsupported { format: 2 })));
        assert!(matches!(decode(text.replace("created", "made")), Err(DescriptorError::Damaged { .. })));
    }
}
