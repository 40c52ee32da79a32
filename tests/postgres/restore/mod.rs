//! Restores of a PostgreSQL snapshot: into an empty database, after a kill, in part, and to other targets.

mod chosen;
mod cluster;
mod counted;
mod cut;
mod elsewhere;
mod extensions;
mod last;
mod refused;
mod resume;
