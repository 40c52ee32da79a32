//! A repository in memory whose objects tests can read, damage and restore, like an attacker with the store's
//! credentials.
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use sidekeep::store::Store;

use crate::support::stores::damage;
use crate::support::world::World;

/// A world and the memory of its store.
pub struct StoredWorld {
    world: World,
    memory: Arc<InMemory>,
}

impl Deref for StoredWorld {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl StoredWorld {
    pub fn new() -> Self {
        let (world, memory) = World::in_memory();
        Self { world, memory }
    }

    pub fn names(&self) -> Vec<String> {
        self.runtime.block_on(damage::names(&*self.memory))
    }

    pub fn read(&self, name: &str) -> Bytes {
        self.runtime.block_on(damage::read(&*self.memory, name))
    }

    pub fn overwrite(&self, name: &str, bytes: Bytes) {
        self.runtime.block_on(damage::overwrite(&*self.memory, name, bytes));
    }

    pub fn delete(&self, name: &str) {
        self.runtime.block_on(damage::delete(&*self.memory, name));
    }

    /// All stored objects.
    pub fn image(&self) -> Vec<(String, Bytes)> {
        self.names().into_iter().map(|name| (name.clone(), self.read(&name))).collect()
    }

    /// Resets the store to an earlier state.
    pub fn reset(&mut self, image: &[(String, Bytes)]) {
        self.memory = Arc::new(InMemory::new());
        self.world.through(Store::from_object_store(Arc::<InMemory>::clone(&self.memory)));
        for (name, bytes) in image {
            self.overwrite(name, bytes.clone());
        }
    }
}
