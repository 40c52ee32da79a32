//! Backs up whole PostgreSQL databases, restores them and compares: the server must report the same about both.

mod extensions;
mod keys;
mod large;
mod names;
mod random;
