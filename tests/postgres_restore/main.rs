//! A PostgreSQL database back from a repository: into an empty database, after a kill, in part, into SQLite.

mod chosen;
mod cluster;
#[path = "../common_postgres/mod.rs"]
mod common_postgres;
mod compare;
mod counted;
mod cut;
mod elsewhere;
mod extensions;
mod labels;
mod last;
#[path = "../postgres_schema/objects.rs"]
mod objects;
mod refused;
mod resume;
mod stage;
mod values;
mod versions;
mod whole;
#[path = "../world/mod.rs"]
mod world;
