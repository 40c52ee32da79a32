//! More rows than fit in memory: sorted and joined with their owners in bounded memory and sealed spill
//! files. Knows records of bytes, not what they mean.

mod buffer;
mod owner_join;
mod owner_map;
mod sorter;
mod spill;
mod spill_queue;

pub use owner_join::{Lookup, OwnerJoin};
pub use owner_map::{OwnerMap, OwnerMapBuilder, OwnerMapWriter, PlacementPrefix};
pub use sorter::{Merge, SortedRuns, Sorter};
pub use spill::{Record, SpillError, SpillOptions, check_space};
pub use spill_queue::{QueuePush, SpillQueue, SpillQueueReader};
