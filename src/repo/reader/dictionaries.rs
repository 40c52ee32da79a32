//! The dictionaries that leaves of a snapshot need: those that the catalog names, and those in the leaf's own pack.

use std::sync::Arc;

use crate::base::frame::FrameType;
use crate::base::pipeline::lock;
use crate::format::catalog::DictionaryEntry;
use crate::format::codec;
use crate::format::dictionary::Dictionary;
use crate::format::manifest::StoredLocation;
use crate::format::name::Name;
use crate::format::node::{FrameLocation, PackRef};
use crate::repo::dictionaries::DictionaryReader;
use crate::repo::error::{InObject, RepoError};
use crate::repo::open_pack::location;
use crate::repo::pack_table::PackTable;
use crate::repo::reader::known_dictionaries::KnownDictionaries;
use crate::repo::reader::snapshot::SnapshotReader;

impl SnapshotReader<'_> {
    /// The content of a payload. `object` names the frame.
    /// Fails if the payload is damaged, or if its dictionary cannot be read.
    pub(super) fn decode(
        &self,
        object: &impl ToString,
        pack: &PackRef,
        location: &FrameLocation,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, RepoError> {
        if !location.codec.needs_dictionary() {
            return codec::decode(location.codec, payload).in_object(object.to_string());
        }
        let number = codec::dictionary_number(location.codec, &payload).in_object(object.to_string())?;
        let dictionary = self.dictionary(number, pack)?;
        codec::decode_with(location.codec, &payload, &dictionary).in_object(object.to_string())
    }

    /// The dictionary with this number, which a leaf in `pack` needs.
    fn dictionary(&self, number: u32, pack: &PackRef) -> Result<Arc<Dictionary>, RepoError> {
        let mut known = lock(&self.dictionaries);
        if !known.are_listed_read {
            known.are_listed_read = true;
            self.read_listed(&mut known);
        }
        if !known.by_number.contains_key(&number) {
            self.read_of_pack(&mut known, pack)?;
        }
        known.by_number.get(&number).cloned().ok_or_else(|| self.lost_dictionary(number, pack))
    }

    /// Reads the dictionaries that the catalog names. Those that cannot be read may be in the leaves' own packs.
    fn read_listed(&self, known: &mut KnownDictionaries) {
        let Some((reader, catalog)) = self.dictionary_reader().zip(self.manifest.catalog.as_ref()) else { return };
        for read in reader.read_all(&catalog.dictionaries) {
            let number = read.dictionary.number();
            if let Some(read) = Arc::into_inner(read) {
                known.by_number.insert(number, Arc::new(read.dictionary));
            }
        }
    }

    fn dictionary_reader(&self) -> Option<DictionaryReader<'_>> {
        let objects = self.unlocked.repository().objects();
        self.ids.as_ref().map(|ids| DictionaryReader { objects, ids })
    }

    /// Reads the dictionaries of a pack.
    fn read_of_pack(&self, known: &mut KnownDictionaries, pack: &PackRef) -> Result<(), RepoError> {
        let Some((reader, size)) = self.dictionary_reader().zip(self.size_of(&pack.digest)) else { return Ok(()) };
        let table = PackTable::read(reader.objects, &self.structure, pack.digest, size)?;
        let indexed = table.indexed();
        for entry in table.entries.iter().filter(|entry| entry.kind == FrameType::Dictionary) {
            let location = location(entry, table.frames_start);
            let Some(at) = StoredLocation::new(&indexed.pack, &location) else { continue };
            let name = Name::Pack(self.context.source, pack.digest);
            let offset = u64::from(location.offset);
            let sealed =
                reader.objects.get_range(&name, offset, u64::from(location.stored)).map_err(RepoError::referenced)?;
            let named = DictionaryEntry { number: 0, table: 0, id: entry.id, at };
            if let Ok(dictionary) = reader.open(&named, sealed.to_vec()) {
                known.by_number.insert(dictionary.number(), Arc::new(dictionary));
            }
        }
        Ok(())
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
