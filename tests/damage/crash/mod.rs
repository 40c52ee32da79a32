//! The process dies, or the store fails, at every call: earlier snapshots stay whole, nothing is half visible, and the
//! next run makes use of what the dead one left (`docs/format.md` section 13).

mod adopted;
mod died;
mod failed;
mod init;
mod killed;
mod night;
mod torn;
mod writers;
