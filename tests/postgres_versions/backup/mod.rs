//! Whole PostgreSQL databases through a repository and back into a database built from what came out: everything that
//! the server says of the one it says of the other.

mod extensions;
mod keys;
mod large;
mod names;
mod random;
