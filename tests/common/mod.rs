//! What tests share: stores that fail, record and get damaged, and servers to run against.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub mod damage;
pub mod faulty;
pub mod gcs;
pub mod proxy;
pub mod recorder;
pub mod server;
pub mod wire;
