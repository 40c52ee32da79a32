//! The dictionaries that a catalog names: reads and opens them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::limit::DICTIONARY_BYTES_MAX;
use crate::crypto::ids::SourceIdKeys;
use crate::format::catalog::{Catalog, DictionaryEntry};
use crate::format::codec;
use crate::format::dictionary::Dictionary;
use crate::format::manifest::StoredLocation;
use crate::format::name::Name;
use crate::repo::error::{InObject, RepoError};
use crate::repo::objects::{ObjectRead, Objects};

/// Bytes between two dictionaries of a pack that are read with one request.
const GAP_BYTES_MAX: u64 = 256 << 10;

/// A dictionary of a table.
#[derive(Debug)]
pub struct TableDictionary {
    pub id: ChunkId,
    /// Number of the table.
    pub table: u32,
    pub dictionary: Dictionary,
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
        let mut sorted: Vec<&DictionaryEntry> = entries.iter().collect();
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
        let read = ObjectRead { name, range: Some((start, end - start)), bytes_max: 0 };
        let Ok(bytes) = self.objects.get_range(&read.name, start, end - start) else { return Vec::new() };
        run.iter().filter_map(|entry| self.open_in(entry, start, &bytes).ok()).collect()
    }

    fn open_in(self, entry: &DictionaryEntry, start: u64, bytes: &[u8]) -> Result<TableDictionary, RepoError> {
        let from = (u64::from(entry.at.offset) - start) as usize;
        let sealed = bytes.get(from..from + entry.at.stored as usize);
        let sealed = sealed.ok_or_else(|| RepoError::missing(describe(entry.number)))?;
        let dictionary = self.open(entry, sealed.to_vec())?;
        Ok(TableDictionary { id: entry.id, table: entry.table, dictionary })
    }

    /// Opens a sealed dictionary.
    /// Fails if it is damaged, or another one.
    pub fn open(self, entry: &DictionaryEntry, mut sealed: Vec<u8>) -> Result<Dictionary, RepoError> {
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
    loaded: OnceLock<HashMap<u32, Arc<TableDictionary>>>,
}

impl DictionaryShelf {
    /// The dictionaries that a catalog names.
    #[must_use]
    pub fn of(catalog: &Catalog) -> Self {
        Self { entries: catalog.dictionaries.clone(), loaded: OnceLock::new() }
    }

    /// Whether the table has a dictionary.
    #[must_use]
    pub fn has(&self, table: u32) -> bool {
        self.entries.iter().any(|entry| entry.table == table)
    }

    /// Whether a dictionary has this number.
    #[must_use]
    pub fn names(&self, number: u32) -> bool {
        self.entries.iter().any(|entry| entry.number == number)
    }

    /// The newest dictionary of the table that can be read.
    #[must_use]
    pub fn get(&self, table: u32, reader: DictionaryReader<'_>) -> Option<Arc<TableDictionary>> {
        let loaded = self.loaded.get_or_init(|| self.load(reader));
        loaded.get(&table).cloned()
    }

    fn load(&self, reader: DictionaryReader<'_>) -> HashMap<u32, Arc<TableDictionary>> {
        let newest: HashMap<u32, DictionaryEntry> = self.entries.iter().map(|entry| (entry.table, *entry)).collect();
        let newest: Vec<DictionaryEntry> = newest.into_values().collect();
        let read = reader.read_all(&newest);
        read.into_iter().map(|dictionary| (dictionary.table, dictionary)).collect()
    }
}
