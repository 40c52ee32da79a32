//! PostgreSQL: a live server into rows and a schema document.

pub mod binary;
mod calendar;
pub mod client;
pub mod copy;
pub mod encode;
pub mod error;
mod numeric;
mod output;
pub mod rows;
pub mod transport;
