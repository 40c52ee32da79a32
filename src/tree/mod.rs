//! Trees of rows: chunker, builder, cursor, merge. Pure: no I/O.

pub mod builder;
pub mod chunker;
pub mod merge;
pub mod stream;
