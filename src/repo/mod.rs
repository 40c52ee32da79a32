//! A repository: what its objects mean together.
