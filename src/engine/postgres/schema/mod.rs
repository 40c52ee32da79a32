//! Everything in a database except its rows: the system catalogs, the dump tools, the schema document.

pub mod catalog;
pub mod catalog_queries;
pub mod declared_types;
pub mod document;
pub mod document_reader;
pub mod dump;
mod large_object_table;
pub mod lex;
pub mod statement_splitter;
pub mod statement_words;
pub mod table;
