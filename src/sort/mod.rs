//! Spill, external sort and owner join in bounded memory.
