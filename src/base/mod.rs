//! Bottom layer: ids, frames, roles, limits, clock and entropy, findings, threads, progress. Depends on no other layer.

pub mod cancel;
pub mod causes;
pub mod env;
pub mod finding;
pub mod frame;
pub mod id;
pub mod json;
pub mod limit;
pub mod pipeline;
pub mod progress;
#[cfg(test)]
pub(crate) mod property;
pub mod revocation;
pub mod role;
pub mod shared_text;
pub mod temporary;
pub mod time;
