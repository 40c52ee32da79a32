//! What each key can do, and that it can do nothing else (`docs/roles.md`, `docs/format.md` sections 3 and 10): every
//! key is tried on every type of stored object, and signs every kind of statement.

mod believed;
mod holdings;
mod lies;
mod lists;
mod opens;
mod poison;
mod refused;
mod session_keys;
mod signs;
