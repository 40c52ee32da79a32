//! The rules of the house, read from its files: who may import whom, how long things may be, what is in no file. A rule
//! that is not checked here or by clippy is a wish. And what `scripts/measure` prints of a tree.
//!
//! It reads tokens, not syntax: that is enough for code that rustfmt has laid out, and it needs no parser.

mod check_script;
mod cycles;
mod files;
mod findings;
mod items;
mod layers;
mod lex;
mod measures;
mod modules;
mod shapes;
mod source;
mod visibility;
mod words;
