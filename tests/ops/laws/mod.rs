//! Rules that must hold for every backup, tested on the whole pipeline: from an SQLite file through the library into a
//! store in memory, and back.

mod costs;
mod domains;
mod hides;
mod history;
mod leaves;
mod restores;
