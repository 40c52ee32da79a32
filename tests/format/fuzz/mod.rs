//! The fuzz targets of `tests/fuzz` on a stable compiler: every input of the corpus, and mutations of it that follow from
//! a fixed seed. `SIDEKEEP_BLESS=seeds cargo test --test format fuzz` writes the seeds again.

pub mod mutate;
mod seeds;
#[path = "../../fuzz/targets.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use data_encoding::BASE64;
use mutate::Mutator;
use targets::{TARGETS, Target};

use crate::support::world::times;

const MUTATIONS: u64 = 5000;

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The inputs of a target's corpus: names and bytes.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = fuzz_dir().join("corpus").join(target);
    let mut inputs: Vec<(String, Vec<u8>)> = fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("corpus of {target}: {error}"))
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("an input"))
        })
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn every_seed_is_committed_and_read() {
    let mut wrong = Vec::new();
    for seed in seeds::all() {
        let dir = fuzz_dir().join("corpus").join(seed.target);
        if std::env::var_os("SIDEKEEP_BLESS").is_some_and(|what| what == "seeds") {
            fs::create_dir_all(&dir).expect("makes");
            fs::write(dir.join(&seed.name), &seed.bytes).expect("a seed");
        }
        let (_, target) = TARGETS.iter().find(|(name, _)| *name == seed.target).expect("a target");
        if fs::read(dir.join(&seed.name)).ok().as_ref() != Some(&seed.bytes) {
            wrong.push(format!("{}/{} is not up to date", seed.target, seed.name));
        }
        if !target(&seed.bytes) {
            wrong.push(format!("{}/{} is not read", seed.target, seed.name));
        }
    }
    assert!(wrong.is_empty(), "seeds:\n{}", wrong.join("\n"));
}

#[test]
fn every_target_has_a_binary_and_a_seed() {
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).expect("a manifest");
    let seeded: BTreeSet<&str> = seeds::all().iter().map(|seed| seed.target).collect();
    for (name, _) in TARGETS {
        let path = format!("fuzz_targets/{name}.rs");
        let binary = fs::read_to_string(fuzz_dir().join(&path)).unwrap_or_default();
        assert!(binary.contains(&format!("targets::{name}(bytes)")), "{path} does not run its target");
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"{path}\"")), "Cargo.toml lacks {name}");
        assert!(seeded.contains(name), "{name} has no seed");
    }
    assert_eq!(fs::read_dir(fuzz_dir().join("fuzz_targets")).expect("lists").count(), TARGETS.len());
}

#[test]
fn no_input_breaks_a_target() {
    let threads = available_parallelism().map_or(1, usize::from);
    let broken: Vec<String> = std::thread::scope(|scope| {
        let share = |at: usize| TARGETS.iter().skip(at).step_by(threads).flat_map(|(name, target)| fuzz(name, *target));
        let handles: Vec<_> = (0..threads).map(|at| scope.spawn(move || share(at).collect::<Vec<_>>())).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("panics are caught")).collect()
    });
    assert!(broken.is_empty(), "inputs in base64 that break a target:\n{}", broken.join("\n"));
}

/// Runs a target over its corpus and over mutations; the inputs that it panics on, at most one of each kind.
fn fuzz(name: &str, target: Target) -> Vec<String> {
    let inputs = corpus(name);
    let is_sound = |bytes: &[u8]| catch_unwind(|| target(bytes)).is_ok();
    let mut broken: Vec<String> =
        inputs.iter().filter(|(_, bytes)| !is_sound(bytes)).map(|(file, _)| format!("{name}: corpus/{file}")).collect();
    let mut mutator = Mutator::new(inputs.into_iter().map(|(_, bytes)| bytes).collect());
    let mutation = (0..times(MUTATIONS)).map(|_| mutator.next_input()).find(|input| !is_sound(input));
    broken.extend(mutation.map(|input| format!("{name}: {}", BASE64.encode(&input))));
    broken
}
