//! Keys, sealing, ids and signatures. Pure: no I/O.

mod grant;
pub mod hpke;
pub mod ids;
pub mod keyfile;
pub mod role;
pub mod seal;
pub mod secret;
pub mod session;
pub mod sign;
