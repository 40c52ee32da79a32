//! Opaque objects over an object store.

mod connect;
mod counters;
mod directory;
mod error;
mod http;
mod location;
mod name;
mod object;
mod patience;
mod race;
mod ranges;

pub use connect::OpenOptions;
pub use counters::Counters;
pub use error::{Doing, StoreError};
pub use location::{Location, LocationError};
pub use object::{Created, Listed, Store};
pub use patience::Patience;
pub use race::{Conditional, Probe, probe};
