//! One verb per file: options in, report out. Never prints.
