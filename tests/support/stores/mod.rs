//! Stores that fail, record and get damaged, and servers to test against.

pub mod damage;
pub mod faulty;
pub mod gcs;
pub mod proxy;
pub mod recorder;
pub mod server;
pub mod wire;
