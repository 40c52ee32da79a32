//! Backs up whole PostgreSQL databases, restores them and compares: the server must report the same about both.
//! Whatever cannot be captured must be named.

mod extremes;
mod hostile;
mod writer;
