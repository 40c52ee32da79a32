//! Whole PostgreSQL databases through a repository and back into a database built from what came out: everything that
//! the server says of the one it says of the other. And what stands in the way of that is named.

#[path = "../common_postgres/mod.rs"]
mod common_postgres;
#[path = "../world/mod.rs"]
mod world;

mod extremes;
mod hostile;
mod keys;
mod large;
mod live;
mod names;
mod random;
mod restored;
mod writer;
