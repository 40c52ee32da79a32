mod buffer;
mod merge;
mod sorter;
mod spill;

pub use merge::Merge;
pub use sorter::Sorter;
pub use spill::{Record, SpillError, SpillOptions, check_space};
