//! Keys, sealing, ids and signatures. Pure: no I/O.
