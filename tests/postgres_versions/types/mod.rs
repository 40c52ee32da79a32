//! Values of every type through real PostgreSQL servers. Text and binary format give the same canonical cells, and
//! writing these cells gives the same table. See `support/postgres/cluster.rs` for the servers.

mod encodings;
mod large;
mod pinned;
mod random;
mod session;
mod tables;
