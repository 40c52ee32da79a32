//! A PostgreSQL database back from a repository: into an empty database, after a kill, in part, into SQLite.

mod chosen;
mod cluster;
mod counted;
mod cut;
mod elsewhere;
mod extensions;
mod last;
mod refused;
mod resume;
