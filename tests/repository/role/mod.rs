//! What each key can do, and that it can do no more (`docs/roles.md`, `docs/format.md` sections 3 and 10): every key is
//! tried on every kind of stored thing, and made to sign every kind of statement.

mod holdings;
mod lies;
mod opens;
mod poison;
mod refused;
mod signs;
