//! Values of every type through real PostgreSQL servers: both transports give the same canonical cells, and
//! what is made from these cells is the same table. The servers are described in `support/postgres/cluster.rs`.

mod encodings;
mod large;
mod pinned;
mod random;
mod session;
mod tables;
