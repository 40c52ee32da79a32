//! Trees of rows: chunker, builder, cursor, merge. Pure: no I/O.

pub mod stream;
