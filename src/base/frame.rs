//! Names for sealed bytes, shared by all layers: the types of frames and sections with their tiers, the counter of a
//! frame in its session's key schedule, and the wrap of a session's data key (`docs/format.md` section 3). Sealing is
//! in `crypto`, layout in `format`.

use std::fmt;

use crate::base::id::{Epoch, RepositoryId, SessionId, SourceId};

/// The session key that opens a frame, and so the roles that can open it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Tier {
    /// The structure key, which every role has.
    Structure,
    /// The source's id key, which operators and admins have.
    Catalog,
    /// The restore key, which admins have.
    Data,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Structure => "structure",
            Self::Catalog => "catalog",
            Self::Data => "data",
        })
    }
}

/// The type byte of a frame or section. It is authenticated, so one type cannot pass for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum FrameType {
    /// Rows of a table.
    Leaf = 1,
    /// Skeleton of an inner node.
    Node = 2,
    /// Key ranges of an inner node.
    Ranges = 3,
    /// A piece of a stream.
    Piece = 4,
    /// The pieces of a stream.
    List = 5,
    /// The stream references of a leaf.
    Streams = 8,
    /// A dictionary for leaves.
    Dictionary = 9,
    /// The table at the front of a pack.
    FrontTable = 16,
    /// The same table at the end of the pack.
    RearTable = 17,
    /// Section of a manifest: what a snapshot contains, without names.
    Summary = 32,
    /// Section of a manifest: identity, columns, pinned parameters.
    Catalog = 33,
    /// Section of a manifest: root skeletons.
    Roots = 34,
    /// Section of a manifest: key ranges of the roots.
    RootRanges = 35,
    /// Section of a manifest: data that only a restore needs.
    Secrets = 36,
    /// Section of a manifest: rows and values that could not be read.
    Losses = 37,
    /// Directory of an index fragment.
    Index = 48,
    /// Block of entries of an index fragment.
    IndexBlock = 49,
}

impl FrameType {
    /// Every type of this format version.
    pub const ALL: [Self; 17] = [
        Self::Leaf,
        Self::Node,
        Self::Ranges,
        Self::Piece,
        Self::List,
        Self::Streams,
        Self::Dictionary,
        Self::FrontTable,
        Self::RearTable,
        Self::Summary,
        Self::Catalog,
        Self::Roots,
        Self::RootRanges,
        Self::Secrets,
        Self::Losses,
        Self::Index,
        Self::IndexBlock,
    ];

    /// The type with this byte, or `None` if this version does not support it.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|frame| frame.byte() == byte)
    }

    /// The byte that is stored and authenticated.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The tier whose key seals it.
    #[must_use]
    pub const fn tier(self) -> Tier {
        match self {
            Self::Leaf | Self::Ranges | Self::Piece | Self::RootRanges | Self::Secrets | Self::Losses => Tier::Data,
            Self::Catalog | Self::Dictionary => Tier::Catalog,
            Self::Node
            | Self::List
            | Self::Streams
            | Self::FrontTable
            | Self::RearTable
            | Self::Summary
            | Self::Roots
            | Self::Index
            | Self::IndexBlock => Tier::Structure,
        }
    }
}

/// Where sealed frames belong. Every byte of it is authenticated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FrameContext {
    /// The repository.
    pub repository: RepositoryId,
    /// The source, which is also the deduplication domain.
    pub source: SourceId,
    /// The epoch.
    pub epoch: Epoch,
}

/// Thread and counter with which a frame was sealed. Together with the session and the tier they determine key and
/// nonce.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FrameCounter {
    /// Number of the sealing thread within its session.
    pub thread: u8,
    /// Frames that this thread had sealed in this tier before this one.
    pub counter: u32,
}

/// The data key of a session, sealed to the epoch. Public: pack headers, manifests and announcements contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionWrap(Box<[u8; Self::LEN]>);

impl SessionWrap {
    /// Session id (16), encapsulated key (1120), sealed key (48).
    pub const LEN: usize = 1184;

    /// A wrap from its bytes.
    #[must_use]
    pub fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(Box::new(bytes))
    }

    /// A wrap from `bytes`, or `None` if the length differs from [`Self::LEN`].
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::new)
    }

    /// The bytes as stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The session whose key it is.
    #[must_use]
    pub fn session(&self) -> SessionId {
        let head = self.0.first_chunk::<{ SessionId::LEN }>().expect("a wrap is longer than a session id");
        SessionId::new(*head)
    }
}

impl fmt::Debug for SessionWrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionWrap({})", self.session())
    }
}

#[cfg(test)]
mod tests {
    use super::FrameType;

    #[test]
    fn every_type_has_one_byte() {
        let known = (0..=255).filter_map(FrameType::from_byte).collect::<Vec<_>>();
        assert_eq!(known, FrameType::ALL);
    }
}
