//! Finds the owners of a child table's rows. While the parents' map is in memory, the answer is immediate. Otherwise
//! this is a Grace join: rows wait on disk in the partitions of the map and are answered partition by partition. A
//! partition whose parents exceed the budget is split again. Children are streamed, so a parent with most of the
//! children costs nothing extra. The caller does not look up rows with a NULL in the join key.

use crate::sort::owner_map::{KeyHash, MapEntries, MapInsert, MemoryMap, OwnerMap, PlacementPrefix, finish_all};
use crate::sort::spill::{Extent, ExtentReader, ExtentWriter};
use crate::sort::spill_error::SpillError;

/// Joins one child table with one map. The map and the join share one budget: only one of them uses it at a time.
pub struct OwnerJoin<'m> {
    map: &'m OwnerMap,
    /// Children, one writer per partition. Empty while the map is in memory.
    partitions: Vec<ExtentWriter>,
    /// The last result, because siblings are mostly adjacent.
    last_lookup: Option<LastLookup<'m>>,
}

#[derive(Default)]
struct LastLookup<'m> {
    join_key: Vec<u8>,
    found: Option<PlacementPrefix<'m>>,
}

/// The immediate result of a join.
pub enum Lookup<'m> {
    /// `None` if there is no such parent row.
    Found(Option<PlacementPrefix<'m>>),
    /// The map is on disk: see [`OwnerJoin::push`].
    Deferred,
}

impl<'m> OwnerJoin<'m> {
    /// Creates a spill file if the map is not in memory.
    /// Fails if the file cannot be created.
    pub fn new(map: &'m OwnerMap) -> Result<Self, SpillError> {
        let partitions = match map.entries {
            MapEntries::Memory(_) => Vec::new(),
            MapEntries::Partitions(_) => map.shares.writers(&map.options)?,
        };
        Ok(Self { map, partitions, last_lookup: None })
    }

    /// The placement prefix of the row that `join_key` refers to, if the map is in memory.
    pub fn look_up(&mut self, join_key: &[u8]) -> Lookup<'m> {
        let map = self.map;
        let MapEntries::Memory(table) = &map.entries else { return Lookup::Deferred };
        if let Some(last) = &self.last_lookup
            && last.join_key == join_key
        {
            return Lookup::Found(last.found);
        }
        let found = table.get(map.key_hasher.key_hash(join_key));
        let last = self.last_lookup.get_or_insert_default();
        last.join_key.clear();
        last.join_key.extend_from_slice(join_key);
        last.found = found;
        Lookup::Found(found)
    }

    /// Passes `payload` to `emit`, with the placement prefix of the row that `join_key` refers to, or `None` if there
    /// is no such row: now or in [`OwnerJoin::finish`], in no particular order.
    /// Fails with the error of `emit`, or if the row cannot be spilled.
    pub fn push<E, F>(&mut self, join_key: &[u8], payload: &[u8], emit: &mut F) -> Result<(), E>
    where
        E: From<SpillError>,
        F: FnMut(Option<PlacementPrefix<'_>>, &[u8]) -> Result<(), E>,
    {
        let key_hash = self.map.key_hasher.key_hash(join_key);
        match &self.map.entries {
            MapEntries::Memory(table) => emit(table.get(key_hash), payload),
            MapEntries::Partitions(_) => Ok(self.defer(key_hash, payload)?),
        }
    }

    fn defer(&mut self, key_hash: KeyHash, payload: &[u8]) -> Result<(), SpillError> {
        let partition = self.map.shares.partition(key_hash, 0);
        self.partitions[partition].write(key_hash.as_bytes(), payload)
    }

    /// Emits the deferred rows.
    /// Fails with the error of `emit`, or if rows cannot be spilled or read back.
    pub fn finish<E, F>(self, emit: &mut F) -> Result<(), E>
    where
        E: From<SpillError>,
        F: FnMut(Option<PlacementPrefix<'_>>, &[u8]) -> Result<(), E>,
    {
        let MapEntries::Partitions(parents) = &self.map.entries else { return Ok(()) };
        let children = finish_all(self.partitions)?;
        for (parents, children) in parents.iter().zip(children) {
            join(self.map, PartitionPair { parents: parents.clone(), children, level: 0 }, emit)?;
        }
        Ok(())
    }
}

/// The same partition of both sides, after `level` further splits.
struct PartitionPair {
    parents: Extent,
    children: Extent,
    level: u32,
}

impl PartitionPair {
    fn split(self, map: &OwnerMap) -> Result<Vec<Self>, SpillError> {
        let level = self.level + 1;
        let parents = split(map, self.parents, level)?;
        let children = split(map, self.children, level)?;
        let pairs = parents.into_iter().zip(children);
        Ok(pairs.map(|(parents, children)| Self { parents, children, level }).collect())
    }
}

fn join<E, F>(map: &OwnerMap, pair: PartitionPair, emit: &mut F) -> Result<(), E>
where
    E: From<SpillError>,
    F: FnMut(Option<PlacementPrefix<'_>>, &[u8]) -> Result<(), E>,
{
    if pair.children.is_empty() {
        return Ok(());
    }
    if let Some(table) = load_parents(map, &pair)? {
        return emit_children(&table, pair.children, emit);
    }
    for part in pair.split(map)? {
        join(map, part, emit)?;
    }
    Ok(())
}

fn emit_children<E, F>(table: &MemoryMap, children: Extent, emit: &mut F) -> Result<(), E>
where
    E: From<SpillError>,
    F: FnMut(Option<PlacementPrefix<'_>>, &[u8]) -> Result<(), E>,
{
    let mut children = ExtentReader::new(children);
    while children.advance()? {
        let (key_hash, payload) = children.record();
        emit(table.get(as_key_hash(key_hash)), payload)?;
    }
    Ok(())
}

/// The parents of a partition, or `None` if they do not fit in memory.
fn load_parents(map: &OwnerMap, pair: &PartitionPair) -> Result<Option<MemoryMap>, SpillError> {
    let limit_bytes = if map.shares.can_split(pair.level + 1) { map.shares.table_bytes } else { usize::MAX };
    let mut table = MemoryMap::new(limit_bytes);
    let mut parents = ExtentReader::new(pair.parents.clone());
    while parents.advance()? {
        let (key_hash, prefix) = parents.record();
        if table.insert(&map.key_hasher, as_key_hash(key_hash), prefix) == MapInsert::Full {
            return Ok(None);
        }
    }
    Ok(Some(table))
}

/// Distributes the records of an extent over partitions.
fn split(map: &OwnerMap, extent: Extent, level: u32) -> Result<Vec<Extent>, SpillError> {
    let mut writers = map.shares.writers(&map.options)?;
    let mut records = ExtentReader::new(extent);
    while records.advance()? {
        let (key_hash, payload) = records.record();
        let partition = map.shares.partition(as_key_hash(key_hash), level);
        writers[partition].write(key_hash, payload)?;
    }
    finish_all(writers)
}

fn as_key_hash(bytes: &[u8]) -> KeyHash {
    KeyHash::from_slice(bytes).expect("spilled records begin with a key hash")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::OwnerJoin;
    use crate::format::key::Class;
    use crate::sort::owner_map::{MapEntries, OwnerMap, OwnerMapBuilder, OwnerMapWriter, PlacementPrefix};
    use crate::sort::spill::tests::options;
    use crate::sort::spill_error::SpillError;

    type Parent = (Vec<u8>, Class, Vec<u8>);
    type Answer = (Option<(Class, Vec<u8>)>, Vec<u8>);

    fn map(parents: &[Parent], memory_bytes: usize) -> OwnerMap {
        let builder = Mutex::new(OwnerMapBuilder::new(options(memory_bytes)));
        let mut writers = [OwnerMapWriter::new(&builder), OwnerMapWriter::new(&builder)];
        for (at, (join_key, class, owner)) in parents.iter().enumerate() {
            writers[at % 2].push(join_key, PlacementPrefix { class: *class, owner }).expect("pushed");
        }
        writers.iter_mut().for_each(|writer| writer.flush().expect("flushed"));
        builder.into_inner().expect("no thread panicked").finish().expect("finished")
    }

    fn join(map: &OwnerMap, children: &[Vec<u8>]) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut emit = |placement: Option<PlacementPrefix<'_>>, payload: &[u8]| -> Result<(), SpillError> {
            answers.push((placement.map(|place| (place.class, place.owner.to_vec())), payload.to_vec()));
            Ok(())
        };
        let mut join = OwnerJoin::new(map).expect("made");
        for (number, join_key) in children.iter().enumerate() {
            join.push(join_key, &number.to_be_bytes(), &mut emit).expect("pushed");
        }
        join.finish(&mut emit).expect("finished");
        answers.sort_by(|a, b| a.1.cmp(&b.1));
        answers
    }

    fn expected(parents: &[Parent], children: &[Vec<u8>]) -> Vec<Answer> {
        let mut map = HashMap::new();
        for (join_key, class, owner) in parents {
            let place = (*class as u8, owner.clone());
            let least = map.entry(join_key).or_insert((place.clone(), *class));
            if place < least.0 {
                *least = (place, *class);
            }
        }
        let answer = |(number, key): (usize, &Vec<u8>)| {
            let least = map.get(key).map(|((_, owner), class)| (*class, owner.clone()));
            (least, number.to_be_bytes().to_vec())
        };
        children.iter().enumerate().map(answer).collect()
    }

    fn number(n: u32) -> Vec<u8> {
        n.to_string().into_bytes()
    }

    proptest! {
        #![proptest_config(crate::base::property::with_cases(60))]

        #[test]
        fn a_join_equals_a_lookup_in_a_hash_map(
            parents in prop::collection::vec((0u32..400, 0u8..3, 0u32..30), 0..600),
            children in prop::collection::vec(0u32..500, 0..600),
            memory_bytes in prop_oneof![0usize..40_000, Just(1 << 22)],
        ) {
            let class = |n: u8| [Class::Owned, Class::None, Class::Orphan][usize::from(n)];
            let parents: Vec<Parent> = parents.into_iter().map(|(key, n, owner)| (number(key), class(n), number(owner))).collect();
            let children: Vec<_> = children.into_iter().map(number).collect();
            let map = map(&parents, memory_bytes);
            prop_assert!(join(&map, &children) == expected(&parents, &children));
            prop_assert!(join(&map, &children) == expected(&parents, &children), "a map can be joined with several child tables");
        }
    }

    #[test]
    fn partitions_that_are_too_large_are_split_again() {
        let parents: Vec<Parent> = (0..20_000).map(|n| (number(n), Class::Owned, number(n / 3))).collect();
        let children: Vec<_> = (0..30_000).map(|n| number(n * 7 % 25_000)).collect();
        let map = map(&parents, 8 << 10);
        assert!(matches!(map.entries, MapEntries::Partitions(_)));
        assert!(join(&map, &children) == expected(&parents, &children));
    }

    #[test]
    fn skewed_children_and_duplicate_parents_are_joined() {
        let parents: Vec<Parent> = (0..5000).map(|n| (number(n % 1000 / 999 * n), Class::Owned, number(n))).collect();
        let children: Vec<_> = (0..20_000u32).map(|n| number(if n % 10 == 0 { n } else { 0 })).collect();
        let map = map(&parents, 4 << 10);
        assert!(join(&map, &children) == expected(&parents, &children));
    }

    #[test]
    fn a_map_in_memory_answers_immediately() {
        let map = map(&[(vec![1], Class::Owned, vec![9]), (vec![1], Class::None, vec![])], 1 << 20);
        let mut join = OwnerJoin::new(&map).expect("made");
        let mut seen = 0;
        let mut emit = |placement: Option<PlacementPrefix<'_>>, _: &[u8]| -> Result<(), SpillError> {
            assert_eq!(placement, Some(PlacementPrefix { class: Class::Owned, owner: &[9] }));
            seen += 1;
            Ok(())
        };
        join.push(&[1], b"row", &mut emit).expect("pushed");
        join.finish(&mut emit).expect("finished");
        assert_eq!(seen, 1);
    }

    #[test]
    fn an_empty_map_finds_no_owner() {
        assert!(join(&map(&[], 0), &[]).is_empty());
        assert_eq!(join(&map(&[], 1 << 20), &[vec![1]]), [(None, 0usize.to_be_bytes().to_vec())]);
    }
}
