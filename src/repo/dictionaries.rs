//! The dictionaries that a catalog names: reads and opens them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::limit::DICTIONARY_BYTES_MAX;
use crate::base::pipeline::lock;
use crate::crypto::ids::SourceIdKeys;
use crate::crypto::seal::TAG_BYTES;
use crate::format::catalog::{Catalog, DictionaryEntry};
use crate::format::codec::{self, Encoder};
use crate::format::dictionary::Dictionary;
use crate::format::manifest::StoredLocation;
use crate::format::name::Name;
use crate::repo::error::{InObject, RepoError};
use crate::repo::objects::Objects;

/// Bytes between two dictionaries of a pack that are read with one request.
const GAP_BYTES_MAX: u64 = 16 << 10;

/// A dictionary of a table.
#[derive(Debug)]
pub struct TableDictionary {
    pub id: ChunkId,
    /// Number of the table.
    pub table: u32,
    pub dictionary: Arc<Dictionary>,
}

impl TableDictionary {
    /// The entry of the catalog for this dictionary.
    pub(super) fn entry(&self, at: StoredLocation) -> DictionaryEntry {
        DictionaryEntry { number: self.dictionary.number(), table: self.table, id: self.id, at }
    }
}

/// Opens dictionaries with the id keys of the source.
#[derive(Clone, Copy)]
pub struct DictionaryReader<'a> {
    pub objects: &'a Objects,
    pub ids: &'a SourceIdKeys,
}

impl DictionaryReader<'_> {
    /// Reads the dictionaries of a catalog, those next to each other with one request. What cannot be read is left out.
    #[must_use]
    pub fn read_all(self, entries: &[DictionaryEntry]) -> Vec<Arc<TableDictionary>> {
        let mut sorted: Vec<&DictionaryEntry> = entries.iter().filter(|entry| is_small(entry)).collect();
        sorted.sort_by_key(|entry| (entry.at.pack, entry.at.offset));
        let mut read = Vec::new();
        for run in sorted.chunk_by(|one, next| are_near(one, next)) {
            read.extend(self.read_run(run).into_iter().map(Arc::new));
        }
        read
    }

    /// Reads dictionaries of one pack.
    fn read_run(self, run: &[&DictionaryEntry]) -> Vec<TableDictionary> {
        let start = u64::from(run[0].at.offset);
        let end = run.iter().map(|entry| end_of(entry)).max().unwrap_or(start);
        let name = Name::Pack(self.ids.context().source, run[0].at.pack);
        let Ok(bytes) = self.objects.get_range(&name, start, end - start) else { return Vec::new() };
        run.iter().filter_map(|entry| self.open_in(entry, start, &bytes).ok()).collect()
    }

    fn open_in(self, entry: &DictionaryEntry, start: u64, bytes: &[u8]) -> Result<TableDictionary, RepoError> {
        let from = (u64::from(entry.at.offset) - start) as usize;
        let sealed = bytes.get(from..from + entry.at.stored as usize);
        let sealed = sealed.ok_or_else(|| RepoError::missing(describe(entry.number)))?;
        let dictionary = self.open(entry, sealed.to_vec())?;
        if dictionary.number() != entry.number {
            return Err(RepoError::damaged(describe(entry.number), "its number is another one"));
        }
        Ok(TableDictionary { id: entry.id, table: entry.table, dictionary: Arc::new(dictionary) })
    }

    /// Reads and opens one dictionary.
    /// Fails if the store cannot be read, or if the dictionary is too long, damaged, or another one.
    pub fn read(self, entry: &DictionaryEntry) -> Result<Dictionary, RepoError> {
        if !is_small(entry) {
            return Err(RepoError::damaged(describe(entry.number), "it is too long"));
        }
        let name = Name::Pack(self.ids.context().source, entry.at.pack);
        let sealed = self.objects.get_range(&name, u64::from(entry.at.offset), u64::from(entry.at.stored));
        self.open(entry, sealed.map_err(RepoError::referenced)?.to_vec())
    }

    /// Opens a sealed dictionary.
    /// Fails if it is damaged, or another one.
    fn open(self, entry: &DictionaryEntry, mut sealed: Vec<u8>) -> Result<Dictionary, RepoError> {
        let object = describe(entry.number);
        let (_, location) = entry.at.pack_and_location().in_object(&object)?;
        let opener = self.ids.opener(entry.at.session);
        let opened = opener.open(FrameType::Dictionary, &entry.id, location.frame_counter, &mut sealed);
        opened.in_object(&object)?;
        let content = codec::decode(location.codec, sealed).in_object(&object)?;
        if self.ids.chunk_id(FrameType::Dictionary, &content) != entry.id || content.len() > DICTIONARY_BYTES_MAX {
            return Err(RepoError::damaged(object, "its content has another id"));
        }
        Dictionary::read(content).in_object(object)
    }
}

fn end_of(entry: &DictionaryEntry) -> u64 {
    u64::from(entry.at.offset) + u64::from(entry.at.stored)
}

/// Whether the frame can be a dictionary.
fn is_small(entry: &DictionaryEntry) -> bool {
    entry.at.stored as usize <= DICTIONARY_BYTES_MAX + TAG_BYTES
}

fn are_near(one: &DictionaryEntry, next: &DictionaryEntry) -> bool {
    one.at.pack == next.at.pack && u64::from(next.at.offset) <= end_of(one) + GAP_BYTES_MAX
}

fn describe(number: u32) -> String {
    format!("dictionary {number}")
}

/// The dictionaries of the tables of a catalog, which are read when the first one is needed.
#[derive(Debug, Default)]
pub struct DictionaryShelf {
    entries: Vec<DictionaryEntry>,
    /// Tables that have a dictionary.
    tables: HashSet<u32>,
    loaded: OnceLock<HashMap<u32, Arc<TableDictionary>>>,
    /// Numbers that no new dictionary may have.
    numbers: Mutex<HashSet<u32>>,
}

impl DictionaryShelf {
    /// The dictionaries that a catalog names. Of two with one number, only the first counts: a pack could not have both.
    #[must_use]
    pub fn of(catalog: &Catalog) -> Self {
        let mut numbers = HashSet::new();
        let entries = catalog.dictionaries.iter().filter(|entry| numbers.insert(entry.number));
        let entries: Vec<DictionaryEntry> = entries.copied().collect();
        let tables = entries.iter().map(|entry| entry.table).collect();
        Self { entries, tables, loaded: OnceLock::new(), numbers: Mutex::new(numbers) }
    }

    /// Whether the table has a dictionary.
    #[must_use]
    pub fn has(&self, table: u32) -> bool {
        self.tables.contains(&table)
    }

    /// Whether an earlier run made this dictionary.
    #[must_use]
    pub fn names(&self, id: &ChunkId) -> bool {
        self.entries.iter().any(|entry| entry.id == *id)
    }

    /// Takes a number for a new dictionary. False if another one has it.
    #[must_use]
    pub fn take_number(&self, number: u32) -> bool {
        lock(&self.numbers).insert(number)
    }

    /// The newest dictionary of the table. `None` if it cannot be used.
    #[must_use]
    pub fn get(&self, table: u32, reader: DictionaryReader<'_>) -> Option<Arc<TableDictionary>> {
        let loaded = self.loaded.get_or_init(|| self.load(reader));
        loaded.get(&table).cloned()
    }

    /// The dictionaries for the next catalog: these and new ones. Those that were needed and cannot be used are left out,
    /// so that the next run makes new ones for their tables.
    #[must_use]
    pub fn with_new(&self, new: &[DictionaryEntry]) -> Vec<DictionaryEntry> {
        let is_lost = |table: u32| self.loaded.get().is_some_and(|loaded| !loaded.contains_key(&table));
        let usable = self.entries.iter().filter(|entry| !is_lost(entry.table));
        usable.chain(new).copied().collect()
    }

    fn load(&self, reader: DictionaryReader<'_>) -> HashMap<u32, Arc<TableDictionary>> {
        let newest: HashMap<u32, DictionaryEntry> = self.entries.iter().map(|entry| (entry.table, *entry)).collect();
        let newest: Vec<DictionaryEntry> = newest.into_values().collect();
        let read = reader.read_all(&newest).into_iter().filter(|read| Encoder::accepts(&read.dictionary));
        read.map(|dictionary| (dictionary.table, dictionary)).collect()
    }
}
