//! Opaque objects over an object store.

mod answer;
mod connect;
mod counters;
mod directory;
mod error;
mod failure;
mod http;
mod location;
mod name;
mod object;
mod race;
mod ranges;
mod rejection;
mod request_log;
mod retry;
mod store_client;

pub use answer::{Created, ListedObject};
pub use connect::OpenOptions;
pub use counters::Counters;
pub use error::{Doing, StoreError};
pub use location::{Location, LocationError};
pub use object::Store;
pub use race::{Conditional, Probe, delete_probe, probe};
pub use retry::RetryPolicy;
