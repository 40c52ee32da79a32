//! The dictionaries that leaves of a snapshot need: those that the catalog names, and those in the leaf's own pack.
//!
//! The catalog's are read with one request. But a pack of another session may give one of its numbers to another
//! dictionary, so the leaf's own pack decides.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::frame::FrameType;
use crate::base::limit::DICTIONARIES_MAX;
use crate::base::pipeline::lock;
use crate::format::catalog::DictionaryEntry;
use crate::format::codec::{self, Codec};
use crate::format::dictionary::Dictionary;
use crate::format::manifest::StoredLocation;
use crate::format::name::Name;
use crate::format::node::PackRef;
use crate::repo::dictionaries::DictionaryReader;
use crate::repo::error::{InObject, RepoError};
use crate::repo::open_pack::location;
use crate::repo::pack_table::PackTable;
use crate::repo::reader::snapshot::{SnapshotReader, Want};

impl SnapshotReader<'_> {
    /// The content of a payload that needs a dictionary, if its id is the wanted one.
    /// Fails if the payload is damaged, or if its dictionary cannot be read.
    pub(super) fn decode_with_dictionary(
        &self,
        want: &Want,
        pack: &PackRef,
        codec: Codec,
        payload: &[u8],
    ) -> Result<Vec<u8>, RepoError> {
        let object = self.in_pack(want, pack);
        let number = codec::dictionary_number(codec, payload).in_object(&object)?;
        let wanted = |dictionary: Arc<Dictionary>| {
            let content = codec::decode_with(codec, payload, &dictionary).ok()?;
            self.is_id_of(want, &content).is_ok_and(|is_wanted| is_wanted).then_some(content)
        };
        if let Some(content) = self.listed_dictionary(number).and_then(wanted) {
            return Ok(content);
        }
        let own = self.own_dictionary(number, pack)?.ok_or_else(|| self.lost_dictionary(number, pack))?;
        wanted(own).ok_or_else(|| RepoError::damaged(object, "its content has another id"))
    }

    /// The dictionary with this number that the catalog names. `None` if it cannot be read.
    fn listed_dictionary(&self, number: u32) -> Option<Arc<Dictionary>> {
        let listed = self.dictionaries.listed.get_or_init(|| self.read_listed().unwrap_or_default());
        listed.get(&number).cloned()
    }

    fn read_listed(&self) -> Option<HashMap<u32, Arc<Dictionary>>> {
        let read = self.dictionary_reader()?.read_all(&self.manifest.catalog.as_ref()?.dictionaries);
        Some(read.into_iter().map(|read| (read.dictionary.number(), Arc::clone(&read.dictionary))).collect())
    }

    fn dictionary_reader(&self) -> Option<DictionaryReader<'_>> {
        let objects = self.unlocked.repository().objects();
        self.ids.as_ref().map(|ids| DictionaryReader { objects, ids })
    }

    /// The first dictionary with this number in a pack.
    /// Fails if the pack's table cannot be read.
    fn own_dictionary(&self, number: u32, pack: &PackRef) -> Result<Option<Arc<Dictionary>>, RepoError> {
        let own = self.dictionaries.of_pack(&pack.digest);
        let mut own = lock(&own);
        if own.is_none() {
            *own = Some(self.dictionaries_in(pack)?);
        }
        let entries = own.as_deref().unwrap_or_default();
        Ok(entries.iter().filter_map(|entry| self.read_own(entry)).find(|read| read.number() == number))
    }

    /// Where a pack has dictionaries.
    /// Fails if its table cannot be read.
    fn dictionaries_in(&self, pack: &PackRef) -> Result<Vec<DictionaryEntry>, RepoError> {
        let Some(size) = self.size_of(&pack.digest) else { return Ok(Vec::new()) };
        let objects = self.unlocked.repository().objects();
        let table = PackTable::read(objects, &self.structure, pack.digest, size)?;
        let indexed = table.indexed();
        let of_dictionaries = table.entries.iter().filter(|entry| entry.kind == FrameType::Dictionary);
        let entries = of_dictionaries.filter_map(|entry| {
            let at = StoredLocation::new(&indexed.pack, &location(entry, table.frames_start))?;
            Some(DictionaryEntry { number: 0, table: 0, id: entry.id, at })
        });
        Ok(entries.take(DICTIONARIES_MAX).collect())
    }

    /// A dictionary in a pack. `None` if it cannot be read.
    fn read_own(&self, entry: &DictionaryEntry) -> Option<Arc<Dictionary>> {
        if let Some(known) = self.dictionaries.with_id(&entry.id) {
            return Some(known);
        }
        let dictionary = Arc::new(self.dictionary_reader()?.read(entry).ok()?);
        self.dictionaries.keep(entry.id, &dictionary);
        Some(dictionary)
    }

    fn lost_dictionary(&self, number: u32, pack: &PackRef) -> RepoError {
        let listed = self.manifest.catalog.as_ref().and_then(|catalog| {
            let entry = catalog.dictionaries.iter().find(|entry| entry.number == number)?;
            catalog.table(entry.table)
        });
        let of_table = listed.map_or_else(String::new, |table| format!(" of {}", table.name));
        let pack = Name::Pack(self.context.source, pack.digest);
        RepoError::missing(format!("dictionary {number}{of_table} in {pack}"))
    }
}
