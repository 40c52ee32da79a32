//! A small sync service that nobody runs: its database, its days, and a comparison of two databases.
//! Everything follows from the entropy that it is given.

mod compare;
mod data;
mod day;
mod random;
mod service;

pub use compare::{Comparison, compare};
pub use day::Day;
pub use service::{Holdings, Service, holdings};
