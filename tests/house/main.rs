//! The house rules, checked on the source files: which module may import which, how long things may be, what must not
//! occur. A rule that neither this test nor clippy checks is only a wish. Also prints the figures of
//! `scripts/measure`.
//!
//! It reads tokens, not syntax. That is enough for code formatted by rustfmt, and needs no parser.

mod check_script;
mod cycles;
mod fallible;
mod files;
mod finding_kinds;
mod findings;
mod items;
mod layers;
mod lex;
mod measures;
mod modules;
mod prose;
mod shapes;
mod source;
mod visibility;
mod words;
