//! Types of sealed frames and sections, and the tier whose key seals each (`docs/format.md` section 3).

/// Which key seals a frame, and so who can open it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tier {
    /// Every role: what lies where, counts, table names.
    Structure,
    /// Operator and admin: what the next night's backup must know.
    Catalog,
    /// Admin alone: rows, key ranges, streams.
    Data,
}

/// What a sealed frame or section holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum FrameType {
    Leaf = 1,
    Node = 2,
    Ranges = 3,
    Piece = 4,
    List = 5,
    PackFront = 16,
    PackRear = 17,
    Summary = 32,
    Catalog = 33,
    Roots = 34,
    RootRanges = 35,
    Secrets = 36,
    Index = 48,
}

impl FrameType {
    /// The type with this byte, if this version knows it.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Leaf,
            2 => Self::Node,
            3 => Self::Ranges,
            4 => Self::Piece,
            5 => Self::List,
            16 => Self::PackFront,
            17 => Self::PackRear,
            32 => Self::Summary,
            33 => Self::Catalog,
            34 => Self::Roots,
            35 => Self::RootRanges,
            36 => Self::Secrets,
            48 => Self::Index,
            _ => return None,
        })
    }

    /// The tier whose key seals this type.
    #[must_use]
    pub fn tier(self) -> Tier {
        match self {
            Self::Leaf | Self::Ranges | Self::Piece | Self::RootRanges | Self::Secrets => Tier::Data,
            Self::Catalog => Tier::Catalog,
            Self::Node | Self::List | Self::PackFront | Self::PackRear | Self::Summary | Self::Roots | Self::Index => {
                Tier::Structure
            }
        }
    }
}
