//! SQLite files: read, and written anew.
