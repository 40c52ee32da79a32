//! What a store answers about objects.

use object_store::ObjectMeta;

use crate::base::time::Moment;

/// How an object was created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Created {
    /// The store accepted our object.
    New,
    /// It existed with equal bytes, written by another writer or by an earlier attempt whose answer was lost.
    Same,
}

/// An object in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedObject {
    /// Its name, relative to the repository. Not necessarily one that we would write.
    pub name: String,
    pub size_bytes: u64,
    /// The time of its last change, according to the store.
    pub modified: Moment,
}

impl From<ObjectMeta> for ListedObject {
    fn from(meta: ObjectMeta) -> Self {
        Self {
            name: meta.location.to_string(),
            size_bytes: meta.size,
            modified: Moment(meta.last_modified.timestamp_micros()),
        }
    }
}
