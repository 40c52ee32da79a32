//! Makes the dictionary of a table from strings that many owners share (`docs/format.md` section 6).

mod row_sampler;
mod shared_strings;
mod trainer;

pub use row_sampler::RowSampler;
pub use trainer::{Training, train};
