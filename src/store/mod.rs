//! Opaque objects over an object store.
