//! Sorts more rows than fit in memory and joins them with their owners, in bounded memory and encrypted spill files.
//! Records are plain bytes here, without meaning. Only owner maps know what their records contain: placements, which
//! begin with a class.

mod buffer;
mod owner_join;
mod owner_map;
mod sorter;
mod spill;
mod spill_error;
mod spill_queue;
mod spill_shelf;

pub use owner_join::{Lookup, OwnerJoin};
pub use owner_map::{OwnerMap, OwnerMapBuilder, OwnerMapWriter, PlacementPrefix};
pub use sorter::{Merge, SortedRuns, Sorter};
pub use spill::{Record, SpillFiles, SpillOptions};
pub use spill_error::{SpillError, check_space};
pub use spill_queue::{QueuePush, SpillQueue, SpillQueueReader};
pub use spill_shelf::{Shelved, SpillShelf};
