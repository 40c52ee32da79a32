//! Whole PostgreSQL databases through a repository and back into a database built from what came out: everything that
//! the server says of the one it says of the other. And what stands in the way of that is named.

mod extremes;
mod hostile;
mod writer;
