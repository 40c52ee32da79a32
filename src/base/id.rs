//! All identifiers of the format. Each has its own type, so mixing two of them does not compile.
//!
//! All print and parse as lower-case hex (`docs/format.md` section 1).

use std::fmt;

use data_encoding::HEXLOWER;
use thiserror::Error;

/// A string that is not the hex form of the expected id.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{text:?} is not {what}: expected {hex_digits} lower-case hex digits")]
pub struct ParseIdError {
    what: &'static str,
    text: String,
    hex_digits: usize,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $bytes;

            /// An id from its bytes.
            #[must_use]
            pub const fn new(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// An id from `bytes`, or `None` if the length differs from [`Self::LEN`].
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The bytes of the id.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                HEXLOWER
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| Self::from_slice(&bytes))
                    .ok_or_else(|| ParseIdError { what: $what, text: text.to_owned(), hex_digits: $bytes * 2 })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id_type!(
    /// A repository: 16 random bytes, drawn by `init`.
    RepositoryId, 16, "a repository id"
);
id_type!(
    /// A source (one database, one bucket): 16 random bytes. Also the deduplication domain.
    SourceId, 16, "a source id"
);
id_type!(
    /// A session, which is one writing run: 16 random bytes, public.
    SessionId, 16, "a session id"
);
id_type!(
    /// An enrolled key: the first 16 bytes of the SHA-256 of its public halves.
    KeyId, 16, "a key id"
);
id_type!(
    /// A group of sources that belong together: 16 random bytes.
    GroupId, 16, "a group id"
);
id_type!(
    /// A copy of a repository in another place: 16 random bytes.
    CopyId, 16, "an id of a copy"
);
id_type!(
    /// A unit of deduplication: 20 bytes of keyed BLAKE3 over type and content.
    ChunkId, 20, "a chunk id"
);
id_type!(
    /// A fact about a source that only equality can be seen of: 16 bytes of keyed BLAKE3 over its text.
    FactDigest, 16, "a digest of a fact"
);

id_type!(
    /// SHA-256 of an object's stored bytes.
    Digest, 32, "a SHA-256 digest"
);

impl Digest {
    /// SHA-256 (FIPS 180-4) of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// SHA-256 of bytes that arrive in parts.
#[derive(Clone, Debug, Default)]
pub struct Hashing(sha2::Sha256);

impl Hashing {
    /// Adds the next part.
    pub fn update(&mut self, part: &[u8]) {
        use sha2::Digest as _;
        self.0.update(part);
    }

    /// The digest of all parts.
    #[must_use]
    pub fn finish(self) -> Digest {
        use sha2::Digest as _;
        Digest(self.0.finalize().into())
    }
}

impl KeyId {
    /// The id of a key with these public halves: signing (32 bytes) and sealing (1216 bytes).
    #[must_use]
    pub fn of(signing: &[u8; 32], sealing: &[u8; 1216]) -> Self {
        let digest = Digest::of(&[b"sidekeep/1 key id".as_slice(), signing, sealing].concat());
        Self(*digest.0.first_chunk().expect("32 bytes contain 16"))
    }
}

/// Number of a restore key pair, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{ChunkId, Digest, SourceId};

    #[test]
    fn ids_round_trip_as_hex_and_other_forms_are_refused() {
        let id = SourceId::new([0xab; 16]);
        assert_eq!(id.to_string().parse::<SourceId>(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<SourceId>().is_err());
        assert!(id.to_string().parse::<ChunkId>().is_err());
        assert_eq!(Digest::of(b"").to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
