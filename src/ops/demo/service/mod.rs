//! A small simulated sync service: its database, its days, and a comparison of two databases. Everything follows from
//! the entropy that it is given.

mod compare;
mod data;
mod database;
mod day;
mod random;

pub use compare::{DatabaseComparison, compare};
pub use database::{Holdings, Service, holdings};
pub use day::Day;
