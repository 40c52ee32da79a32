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
/// Compressible bytes of leaves from which the tables of a dictionary are made.
const TRAINING_BYTES: usize = 256 << 10;
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
    /// It is made from these rows, if the first leaves are new.
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

/// The first leaves of a tree, which wait until its dictionary is made.
#[derive(Default)]
pub(super) struct WaitingLeaves {
    pub(super) cuts: Vec<LeafCut>,
    table: u32,
    rows: RowSampler,
    bytes: usize,
    /// What zstd sees of each leaf.
    compressible: Vec<Vec<u8>>,
    compressible_bytes: usize,
    owners: u64,
}

impl WaitingLeaves {
    pub(super) fn new(table: u32, rows: RowSampler) -> Self {
        Self { table, rows, ..Self::default() }
    }

    pub(super) fn push(&mut self, cut: LeafCut) {
        let spans = incompressible_spans(&cut.content, cut.distinct_rows);
        let mut part = Vec::new();
        codec::write_rest(&mut part, &cut.content, &spans);
        self.bytes += cut.content.len();
        self.compressible_bytes += part.len();
        self.owners += if cut.owners > 0 { cut.owners } else { cut.distinct_rows };
        self.compressible.push(part);
        self.cuts.push(cut);
    }

    /// Whether a dictionary can be made, or no more leaves may wait.
    pub(super) fn are_enough(&self) -> bool {
        let suffice = self.compressible_bytes >= TRAINING_BYTES && self.owners >= u64::from(DICTIONARY_OWNERS_MIN);
        suffice || self.bytes >= WAITING_BYTES_MAX
    }

    /// The dictionary, unless most of the leaves are stored already, or it would not help.
    pub(super) fn train(&mut self, setup: &WriterSetup<'_>) -> Option<Arc<TableDictionary>> {
        if self.owners < u64::from(DICTIONARY_OWNERS_MIN) || !self.are_mostly_new(setup) {
            return None;
        }
        let mut random = [0; 12];
        setup.env.fill(&mut random);
        let [a, b, c, d, seed @ ..] = random;
        let number = dictionary_number(u32::from_le_bytes([a, b, c, d]));
        if !setup.dictionaries.take_number(number) {
            return None;
        }
        let training = Training {
            rows: std::mem::take(&mut self.rows),
            leaves: &self.compressible,
            number,
            seed: u64::from_le_bytes(seed),
        };
        let dictionary = train(training)?;
        let id = setup.ids.chunk_id(FrameType::Dictionary, dictionary.content());
        Some(Arc::new(TableDictionary { id, table: self.table, dictionary: Arc::new(dictionary) }))
    }

    fn are_mostly_new(&self, setup: &WriterSetup<'_>) -> bool {
        let is_new =
            |cut: &&LeafCut| setup.known_index.get(&setup.ids.chunk_id(FrameType::Leaf, &cut.content)).is_none();
        self.cuts.iter().filter(is_new).count() * 2 > self.cuts.len()
    }
}
