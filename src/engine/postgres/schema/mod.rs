//! What a database consists of beside its rows: the system catalogs, the dump tools, the schema document.

pub mod catalog;
pub mod document;
pub mod dump;
pub mod gather;
pub mod large;
pub mod lex;
pub mod names;
pub mod relations;
pub mod split;
