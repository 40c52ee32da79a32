//! Made-up values from one seed: numbers, names, sentences, noise.

use crate::base::env::{Env, random};

const GIVEN: [&str; 24] = [
    "Ada", "Ben", "Chiara", "David", "Elif", "Finn", "Greta", "Hugo", "Ines", "Jonas", "Kaito", "Lena", "Mira", "Noah",
    "Olga", "Pavel", "Qiu", "Rosa", "Sami", "Tara", "Uwe", "Vera", "Wren", "Yara",
];
const FAMILY: [&str; 24] = [
    "Abel", "Bauer", "Castro", "Duarte", "Eriksen", "Fontaine", "Gruber", "Haddad", "Ito", "Jansen", "Keller", "Lopez",
    "Moreau", "Novak", "Okafor", "Petrov", "Quinn", "Rossi", "Silva", "Tanaka", "Ueda", "Vogel", "Weber", "Young",
];
const WORDS: [&str; 40] = [
    "about", "after", "again", "bring", "call", "coffee", "dentist", "dinner", "early", "family", "flight", "friday",
    "garden", "holiday", "invoice", "keys", "lunch", "meeting", "monday", "music", "notes", "office", "parents",
    "party", "picture", "plan", "project", "recipe", "remember", "report", "school", "sunday", "team", "ticket",
    "today", "train", "visit", "walk", "weekend", "write",
];

/// A stream of made-up values.
pub(super) struct Random(u64);

impl Random {
    /// Seeded from `env`.
    pub(super) fn new(env: &dyn Env) -> Self {
        Self(u64::from_le_bytes(random(env)))
    }

    /// The next 64 bits (splitmix64).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which must not be 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A number from `start` to `end`, both included.
    pub(super) fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end - start + 1)
    }

    fn pick(&mut self, of: &[&'static str]) -> &'static str {
        of[self.below(of.len() as u64) as usize]
    }

    /// A given name.
    pub(super) fn given_name(&mut self) -> &'static str {
        self.pick(&GIVEN)
    }

    /// A family name.
    pub(super) fn family_name(&mut self) -> &'static str {
        self.pick(&FAMILY)
    }

    /// `count` words, separated by spaces.
    pub(super) fn words(&mut self, count: u64) -> String {
        let words: Vec<&str> = (0..count).map(|_| self.pick(&WORDS)).collect();
        words.join(" ")
    }

    /// A telephone number.
    pub(super) fn phone(&mut self) -> String {
        format!("+49 {} {}", self.between(100, 999), self.between(1_000_000, 9_999_999))
    }

    /// 32 hex digits.
    pub(super) fn id(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }

    /// `len` bytes that do not compress, like the bytes of a picture.
    pub(super) fn noise(&mut self, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        blake3::Hasher::new().update(&self.next().to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }
}
