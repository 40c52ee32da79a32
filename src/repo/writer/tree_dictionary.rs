//! The dictionary of the tree whose leaves are being passed to the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::base::frame::FrameType;
use crate::base::limit::{DICTIONARY_OWNERS_MIN, DICTIONARY_TABLE_BYTES_MIN};
use crate::format::codec;
use crate::format::dictionary::dictionary_number;
use crate::repo::dictionaries::{DictionaryReader, DictionaryShelf, TableDictionary};
use crate::repo::writer::setup::WriterSetup;
use crate::repo::writer::spans::incompressible_spans;
use crate::tree::dictionary::{RowSampler, Training, train};
use crate::tree::leaf_cutter::LeafCut;

/// New leaves of a tree that are stored without the dictionary of an earlier run, because the pack would need a copy of
/// it.
const LEAVES_WITHOUT: u32 = 16;
/// Compressible bytes of new leaves from which the tables of a dictionary are made. A run with fewer needs none.
const TRAINING_BYTES: usize = 64 << 10;
/// With so many compressible bytes of fewer owners than a dictionary needs, there will be none.
const TRAINING_BYTES_MAX: usize = 8 << 20;
/// Bytes of leaves that wait for their dictionary.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Where the dictionary of a tree comes from.
#[derive(Debug, Default)]
pub enum DictionarySource {
    /// The tree has none.
    #[default]
    None,
    /// An earlier run made one for this table.
    Stored { table: u32 },
    /// It is made from these rows, once enough leaves are new.
    Train { table: u32, rows: RowSampler },
}

impl DictionarySource {
    /// Where a table with this many bytes of rows gets its dictionary. Small tables have none.
    #[must_use]
    pub fn of_table(table: u32, row_bytes: u64, rows: RowSampler, known: &DictionaryShelf) -> Self {
        if known.has(table) {
            Self::Stored { table }
        } else if row_bytes >= DICTIONARY_TABLE_BYTES_MIN {
            Self::Train { table, rows }
        } else {
            Self::None
        }
    }

    /// Memory of the sample, in bytes.
    #[must_use]
    pub fn sample_bytes(&self) -> usize {
        match self {
            Self::Train { rows, .. } => rows.memory_bytes(),
            Self::None | Self::Stored { .. } => 0,
        }
    }
}

/// The dictionary for new leaves of a tree.
#[derive(Clone)]
pub(super) enum TreeDictionary {
    Stored {
        table: u32,
        /// New leaves so far.
        leaves: Arc<AtomicU32>,
    },
    Trained(Arc<TableDictionary>),
}

impl TreeDictionary {
    /// The dictionary for the next new leaf, if there is one and it is worth its bytes.
    pub(super) fn for_next_leaf(&self, setup: &WriterSetup<'_>) -> Option<Arc<TableDictionary>> {
        match self {
            Self::Trained(dictionary) => Some(Arc::clone(dictionary)),
            Self::Stored { table, leaves } => {
                let reader = DictionaryReader { objects: setup.objects, ids: setup.ids };
                let is_worth_it = leaves.fetch_add(1, Ordering::Relaxed) >= LEAVES_WITHOUT;
                is_worth_it.then(|| setup.dictionaries.get(*table, reader)).flatten()
            }
        }
    }
}

/// What to do with leaves that wait.
pub(super) enum NextLeaves {
    /// More leaves can wait.
    Wait,
    /// Too many wait. They are stored without a dictionary.
    Pass,
    /// The dictionary can be made.
    Train,
    /// There will be no dictionary.
    GiveUp,
}

/// The leaves of a tree that wait until its dictionary is made. It is made once enough of them are new.
#[derive(Default)]
pub(super) struct WaitingLeaves {
    cuts: Vec<LeafCut>,
    /// Bytes of `cuts`.
    bytes: usize,
    table: u32,
    rows: RowSampler,
    /// What zstd sees of each new leaf, also of those that wait no more.
    new_parts: Vec<Vec<u8>>,
    /// Bytes of `new_parts`.
    new_bytes: usize,
    /// Owners in new leaves.
    owners: u64,
}

impl WaitingLeaves {
    pub(super) fn new(table: u32, rows: RowSampler) -> Self {
        Self { table, rows, ..Self::default() }
    }

    pub(super) fn push(&mut self, cut: LeafCut, setup: &WriterSetup<'_>) {
        if is_new(&cut, setup) {
            let spans = incompressible_spans(&cut.content, cut.distinct_rows);
            let mut part = Vec::new();
            codec::write_rest(&mut part, &cut.content, &spans);
            self.new_bytes += part.len();
            self.owners += if cut.owners > 0 { cut.owners } else { cut.distinct_rows };
            self.new_parts.push(part);
        }
        self.bytes += cut.content.len();
        self.cuts.push(cut);
    }

    /// What to do now.
    pub(super) fn next(&self) -> NextLeaves {
        let enough_owners = self.owners >= u64::from(DICTIONARY_OWNERS_MIN);
        match self.new_bytes {
            TRAINING_BYTES.. if enough_owners => NextLeaves::Train,
            TRAINING_BYTES_MAX.. => NextLeaves::GiveUp,
            _ if self.bytes >= WAITING_BYTES_MAX => NextLeaves::Pass,
            _ => NextLeaves::Wait,
        }
    }

    /// The leaves, which wait no more.
    pub(super) fn take_cuts(&mut self) -> Vec<LeafCut> {
        self.bytes = 0;
        std::mem::take(&mut self.cuts)
    }

    /// The dictionary, unless it would not help.
    pub(super) fn train(&mut self, setup: &WriterSetup<'_>) -> Option<Arc<TableDictionary>> {
        let mut random = [0; 12];
        setup.env.fill(&mut random);
        let [a, b, c, d, seed @ ..] = random;
        let number = dictionary_number(u32::from_le_bytes([a, b, c, d]));
        if !setup.dictionaries.take_number(number) {
            return None;
        }
        let training = Training {
            rows: std::mem::take(&mut self.rows),
            leaves: &self.new_parts,
            number,
            seed: u64::from_le_bytes(seed),
        };
        let dictionary = train(training)?;
        let id = setup.ids.chunk_id(FrameType::Dictionary, dictionary.content());
        Some(Arc::new(TableDictionary { id, table: self.table, dictionary: Arc::new(dictionary) }))
    }
}

fn is_new(cut: &LeafCut, setup: &WriterSetup<'_>) -> bool {
    let known = setup.known_index;
    known.is_empty() || known.get(&setup.ids.chunk_id(FrameType::Leaf, &cut.content)).is_none()
}
