//! The process crashes, or the store fails, at every call: earlier snapshots stay intact, nothing is half visible, and
//! the next run reuses what the crashed one left (`docs/format.md` section 13).

mod adopted;
mod died;
mod failed;
mod init;
mod killed;
mod scenario;
mod torn;
mod writers;
