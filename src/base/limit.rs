//! All maximums of the format and the program (`docs/format.md` section 15), with the relations between them asserted
//! at compile time, and the error of a writer that would exceed one.

use thiserror::Error;

/// Something is larger than the format allows, so that no reader would accept it. Nothing is committed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{object} has {amount} {unit}, more than the {most} that the stored format allows")]
pub struct LimitError {
    /// What is too large, with its article.
    object: String,
    amount: u64,
    /// What is counted.
    unit: &'static str,
    most: u64,
    /// What the user can do.
    pub remedy: &'static str,
}

/// A limit of the format.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub most: u64,
    /// What is counted.
    pub unit: &'static str,
    /// What the user can do if it is exceeded.
    pub remedy: &'static str,
}

impl Limit {
    /// A limit in bytes.
    #[must_use]
    pub const fn bytes(most: usize, remedy: &'static str) -> Self {
        Self { most: most as u64, unit: "bytes", remedy }
    }

    /// Fails if `amount` is more than the format allows for `object`.
    pub fn check(&self, object: impl ToString, amount: u64) -> Result<(), LimitError> {
        if amount <= self.most {
            return Ok(());
        }
        let Self { most, unit, remedy } = *self;
        Err(LimitError { object: object.to_string(), amount, unit, most, remedy })
    }
}

/// The remedy for objects whose size does not depend on the user.
pub const REPORT: &str = "please report it, together with the line above";

/// How deep objects and lists of a JSON document are nested.
pub const JSON_DEPTH_MAX: usize = 64;
/// A value of at least this many bytes becomes a stream.
pub const STREAM_BYTES_MIN: usize = 32 << 10;
/// The same limit, for a row whose other cells still exceed [`ROW_INLINE_BYTES_MAX`].
pub const STREAM_BYTES_MIN_IN_WIDE_ROW: usize = 512;
/// Bytes of cells that a row may contain before more of them become streams.
pub const ROW_INLINE_BYTES_MAX: usize = 1 << 20;
/// Content of a leaf with more than one row.
pub const LEAF_BYTES_MAX: usize = 256 << 10;
/// Bytes of rows from which the end of a leaf becomes likely.
pub const LEAF_BYTES_TARGET: usize = 3 << 10;
/// Children of a node of level 1 from which a cut becomes likely. A node has at least half as many, except the last one
/// of a level, and at most twice as many.
pub const FAN_OUT_OF_LEAVES: usize = 16;
/// The same for nodes above level 1.
pub const FAN_OUT_OF_NODES: usize = 256;
/// Owners in whose rows every string of a dictionary occurs, at least.
pub const DICTIONARY_OWNERS_MIN: u32 = 50;
/// Largest dictionary.
pub const DICTIONARY_BYTES_MAX: usize = 32 << 10;
/// Most dictionaries that a catalog names.
pub const DICTIONARIES_MAX: usize = 1024;
/// Bytes of rows that a table needs before it gets a dictionary.
pub const DICTIONARY_TABLE_BYTES_MIN: u64 = 1 << 20;
/// Most children of a node.
pub const FAN_OUT_MAX: usize = 2 * FAN_OUT_OF_NODES;
/// Highest level of a node. With the fewest children, level 5 has more leaves than anything stores.
pub const NODE_LEVELS_MAX: u8 = 8;
/// Most bytes of a root, skeleton and ranges, that a manifest contains itself.
pub const ROOT_INLINE_BYTES_MAX: usize = 700;
/// Longest key or owner that a tree contains unshortened.
pub const KEY_BYTES_MAX: usize = 256;
/// Bytes of a longer key that are kept in front of its hash.
pub const KEY_PREFIX_BYTES: usize = 200;
/// Smallest piece of a stream, except the last piece.
pub const PIECE_BYTES_MIN: usize = 16 << 10;
/// Target size of pieces.
pub const PIECE_BYTES_TARGET: usize = 64 << 10;
/// Largest piece of a stream.
pub const PIECE_BYTES_MAX: usize = 256 << 10;
/// A pack is closed once it contains this many bytes of frames.
pub const PACK_BYTES_TARGET: usize = 16 << 20;
/// Most frames of a pack.
pub const PACK_FRAMES_MAX: usize = 65_535;
/// Most session wraps in the header of a pack.
pub const PACK_WRAPS_MAX: usize = 15;
/// Largest stored frame.
pub const FRAME_STORED_BYTES_MAX: usize = (16 << 20) - 1;
/// Largest content of a frame.
pub const FRAME_CONTENT_BYTES_MAX: usize = 64 << 20;
/// Largest pack.
pub const PACK_BYTES_MAX: usize = (32 << 20) + FRAME_STORED_BYTES_MAX;
/// Largest manifest.
pub const MANIFEST_BYTES_MAX: usize = 256 << 20;
/// Content of a part of a section, as writers cut them. A reader of a part needs this much memory.
pub const SECTION_PART_BYTES: usize = 16 << 20;
/// Content of all sections of a manifest.
pub const MANIFEST_CONTENT_BYTES_MAX: u64 = 1 << 30;
/// Largest index fragment.
pub const INDEX_BYTES_MAX: usize = 256 << 20;
/// Most entries of an index fragment.
pub const INDEX_ENTRIES_MAX: usize = 1 << 20;
/// Most parts of the sections of a manifest.
pub const MANIFEST_PARTS_MAX: usize = 128;
/// Most rows that are equal, and stored once. Even if every row of a full leaf has this multiplicity, counts stay within
/// 64 bits.
pub const MULTIPLICITY_MAX: u64 = 1 << 40;
/// Most entries of a block of an index fragment.
pub const BLOCK_ENTRIES_MAX: usize = 4096;
/// Largest descriptor.
pub const DESCRIPTOR_BYTES_MAX: usize = 64 << 10;
/// Largest grant.
pub const GRANT_BYTES_MAX: usize = 1 << 20;
/// Largest bundle of entries.
pub const BUNDLE_BYTES_MAX: usize = 64 << 20;
/// Largest body of a report.
pub const REPORT_BODY_BYTES_MAX: usize = 64 << 20;
/// Largest signed statement (ledger or roster entry, session announcement, report, mark of a copy).
pub const STATEMENT_BYTES_MAX: usize = 16 << 20;
/// Most packs that one ledger entry adds. Each takes some 420 bytes: it is named twice, in the predicate and as a
/// subject.
pub const ENTRY_PACKS_MAX: usize = 32_000;
/// The largest share in a reason or threshold: the whole, in thousandths.
pub const THOUSANDTHS_MAX: u16 = 1000;
/// Longest value that is written.
pub const STREAM_BYTES_MAX: u64 = 16 << 30;
/// Longest value that a reader puts together in memory. No target takes a longer one.
pub const VALUE_BYTES_MAX: u64 = (1 << 31) - 1;
/// Most pieces of a list.
pub const LIST_PIECES_MAX: usize = 1 << 18;
/// Most lists of a list of lists.
pub const LIST_LISTS_MAX: usize = 1 << 10;
/// Most entries of the losses of a snapshot.
pub const LOSSES_MAX: usize = 10_000;
/// Longest text of a loss in bytes.
pub const LOSS_TEXT_BYTES_MAX: usize = 1024;
/// Numbers available for the columns of a table, from 0.
pub const COLUMN_NUMBERS_MAX: u32 = 65_536;
/// Numbers available for the tables of a source, from 1.
pub const TABLE_NUMBERS_MAX: u32 = 1 << 31;
/// Tables that may get a new number in one snapshot.
pub const TABLES_PER_SNAPSHOT_MAX: u32 = 1 << 20;
/// Addresses that a catalog has of its source, and bytes of one.
pub const ADDRESSES_MAX: usize = 16;
pub const ADDRESS_BYTES_MAX: usize = 1024;
/// Bytes of JSON that a writer carries forward without understanding it: of members of the catalog and its settings, and
/// of members of a table or column.
pub const CARRIED_BYTES_MAX: usize = 64 << 10;
pub const CARRIED_PART_BYTES_MAX: usize = 4 << 10;
/// The same for all of a catalog together: [`CARRIED_BYTES_MAX`], and this for each table and column.
pub const CARRIED_ENTRY_BYTES_MAX: usize = 64;
/// Levels of arrays and objects in it.
pub const CARRIED_DEPTH_MAX: usize = 16;
/// Bytes of JSON of the paths from below and the labels of a table.
pub const CARRIED_TABLE_BYTES_MAX: usize = 16 << 10;
/// A catalog with more numbers or kinds than these is carried forward only if older catalogs explain them.
pub const TABLE_NUMBERS_PLAIN: u32 = 1 << 24;
pub const OWNER_KINDS_PLAIN: u16 = 64;
/// Kinds of owners end before this number, and begin with 1.
pub const OWNER_KINDS_END: u16 = 256;
/// Tables that may get a new kind in one snapshot.
pub const KINDS_PER_SNAPSHOT_MAX: u16 = 8;

const _: () = assert!(SECTION_PART_BYTES <= FRAME_CONTENT_BYTES_MAX);
// The last part of each of the 6 sections may be short.
const _: () = assert!(MANIFEST_CONTENT_BYTES_MAX as usize / SECTION_PART_BYTES + 6 <= MANIFEST_PARTS_MAX);
const _: () = assert!(PIECE_BYTES_MAX <= FRAME_CONTENT_BYTES_MAX && PIECE_BYTES_MIN < PIECE_BYTES_TARGET);
const _: () =
    assert!(ROW_INLINE_BYTES_MAX > LEAF_BYTES_MAX && 65_535 * STREAM_BYTES_MIN_IN_WIDE_ROW < FRAME_CONTENT_BYTES_MAX);
const _: () = assert!(4 * LEAF_BYTES_TARGET < LEAF_BYTES_MAX);
const _: () = assert!(ENTRY_PACKS_MAX * 500 < STATEMENT_BYTES_MAX);
const _: () = assert!(PACK_BYTES_TARGET * 2 + FRAME_STORED_BYTES_MAX <= PACK_BYTES_MAX);
const _: () = assert!(PACK_FRAMES_MAX * 64 < FRAME_CONTENT_BYTES_MAX);
const _: () = assert!(FAN_OUT_OF_LEAVES < FAN_OUT_OF_NODES);
/// Most stream references of a leaf: one per column, or one per 24 bytes of [`LEAF_BYTES_MAX`].
pub const LEAF_STREAMS_MAX: usize = COLUMN_NUMBERS_MAX as usize - 1;
const _: () = assert!(LEAF_BYTES_MAX / 24 < LEAF_STREAMS_MAX);
/// Most bytes of a location, and of the pack that it names with all its sessions.
const LOCATION_BYTES_MAX: usize = 21 + 33 + 16 * PACK_WRAPS_MAX;
// A reference takes at most 31 bytes. A pack with several sessions holds moved frames, many of which share it.
const _: () = assert!(LEAF_STREAMS_MAX * (31 + 21 + 49) < FRAME_STORED_BYTES_MAX);
// A child takes at most 90 bytes and two locations.
const _: () = assert!(FAN_OUT_MAX * (90 + 2 * LOCATION_BYTES_MAX) < FRAME_STORED_BYTES_MAX);
// Ranges: a key of a tree is a class, an owner and a key.
const _: () = assert!(FAN_OUT_MAX * (2 * KEY_BYTES_MAX + 9) < FRAME_STORED_BYTES_MAX);
// A list: a part takes at most 24 bytes, a location 21, and there is a pack of 49 bytes for every 64 pieces and more.
const _: () = assert!(LIST_PIECES_MAX * (24 + 21) + (LIST_PIECES_MAX / 64) * 49 < FRAME_STORED_BYTES_MAX);
const _: () = assert!(KEY_PREFIX_BYTES + 32 <= KEY_BYTES_MAX);
