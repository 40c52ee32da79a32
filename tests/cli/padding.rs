//! What a store can read off a pack of streams: nothing in its bytes shows where the frames end and the padding begins.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Sandbox;

/// The bytes between both tables of every pack of streams, by the length of the whole pack.
fn bodies(repository: &Path) -> Vec<(usize, Vec<u8>)> {
    let mut bodies = Vec::new();
    let mut folders = vec![repository.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("lists") {
            let path: PathBuf = entry.expect("lists").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().expect("UTF-8").contains("/packs/") {
                let pack = fs::read(&path).expect("reads");
                bodies.extend(body(&pack).map(|body| (pack.len(), body.to_vec())));
            }
        }
    }
    bodies.sort();
    bodies
}

/// The frames and the padding of a pack of streams, as anyone without a key finds them.
fn body(pack: &[u8]) -> Option<&[u8]> {
    const STREAMS: u8 = 3;
    let u32_at = |at: usize| u32::from_le_bytes(pack[at..at + 4].try_into().expect("four bytes")) as usize;
    let tables_at = 70 + 1184 * usize::from(pack[69]);
    let start = tables_at + 9 + u32_at(tables_at);
    let end = pack.len() - 9 - u32_at(pack.len() - 9);
    (pack[68] == STREAMS).then(|| &pack[start..end])
}

/// The length of the longest run of one byte.
fn longest_run(bytes: &[u8]) -> usize {
    bytes.chunk_by(|one, other| one == other).map(<[u8]>::len).max().unwrap_or(0)
}

/// Pearson's chi-squared statistic of the bytes against a uniform distribution: 255 degrees of freedom.
fn chi_squared(bytes: &[u8]) -> f64 {
    let mut counts = [0.0; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1.0);
    let expected = bytes.len() as f64 / 256.0;
    counts.iter().map(|count: &f64| (count - expected).powi(2) / expected).sum()
}

/// A repository whose photo has this many bytes, and the length and body of its only pack of streams.
fn stored(photo_bytes: usize) -> (usize, Vec<u8>) {
    let sandbox = Sandbox::with_service();
    sandbox.sql(
        "sync.db",
        &format!(
            "CREATE TABLE pictures (id INTEGER PRIMARY KEY, body BLOB);
             INSERT INTO pictures VALUES (1, randomblob({photo_bytes}));"
        ),
    );
    sandbox.ok(&["backup"]);
    let mut bodies = bodies(&sandbox.path("repo"));
    assert_eq!(bodies.len(), 1);
    bodies.pop().expect("one")
}

#[test]
fn padding_looks_like_frames() {
    // The schema document is a stream too, so a pack has a few frames. These sizes are far below the next rounded one.
    let photos = [33_000, 200_000, 200_900];
    let packs = photos.map(stored);
    for ((len, body), photo) in packs.iter().zip(photos) {
        assert!(body.len() > photo && longest_run(body) < 8, "{photo}: a run of {} bytes", longest_run(body));
        // 99.9999 % of random bytes are below 380.
        let tail = &body[body.len() - 2048..];
        assert!(chi_squared(tail) < 380.0, "{photo} in {len}: {}", chi_squared(tail));
    }
}

#[test]
fn photos_of_similar_size_make_packs_of_equal_size() {
    let lens: Vec<usize> = [400_000, 400_700, 401_400].into_iter().map(|photo| stored(photo).0).collect();
    let distinct = lens.chunk_by(|one, other| one == other).count();
    assert!(distinct <= 2 && lens.iter().all(|len| len % 8192 == 0), "{lens:?}");
}
