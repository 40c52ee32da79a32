//! Damages stored objects behind the back of the store that the program uses: through the client of a directory
//! (`LocalFileSystem`) or of memory (`InMemory`).

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

/// Reads the whole object.
pub async fn read(store: &dyn ObjectStore, name: &str) -> Bytes {
    let answer = store.get_opts(&Path::from(name), object_store::GetOptions::default()).await;
    answer.expect("the object exists").bytes().await.expect("the object is readable")
}

/// Overwrites the object, which the program never does.
pub async fn overwrite(store: &dyn ObjectStore, name: &str, bytes: Bytes) {
    let options = object_store::PutOptions::default();
    store.put_opts(&Path::from(name), bytes.into(), options).await.expect("the object is written");
}

/// Truncates the object to `bytes`.
pub async fn truncate(store: &dyn ObjectStore, name: &str, bytes: usize) {
    let content = read(store, name).await;
    overwrite(store, name, content.slice(..bytes)).await;
}

/// Appends `more` to the object.
pub async fn extend(store: &dyn ObjectStore, name: &str, more: &[u8]) {
    let content = read(store, name).await;
    overwrite(store, name, [&content, more].concat().into()).await;
}

/// Flips bit `bit` of the object, counted from the lowest bit of the first byte.
pub async fn flip_bit(store: &dyn ObjectStore, name: &str, bit: usize) {
    let mut content = read(store, name).await.to_vec();
    content[bit / 8] ^= 1 << (bit % 8);
    overwrite(store, name, content.into()).await;
}

/// Swaps the contents of two objects.
pub async fn swap(store: &dyn ObjectStore, first: &str, second: &str) {
    let (one, two) = (read(store, first).await, read(store, second).await);
    overwrite(store, first, two).await;
    overwrite(store, second, one).await;
}

/// Renames the object.
pub async fn rename(store: &dyn ObjectStore, from: &str, to: &str) {
    let content = read(store, from).await;
    overwrite(store, to, content).await;
    delete(store, from).await;
}

/// Deletes the object.
pub async fn delete(store: &dyn ObjectStore, name: &str) {
    // The trait's own method, because the extension trait needs a sized store.
    let paths = futures_util::stream::iter([Ok(Path::from(name))]);
    let deleted = store.delete_stream(Box::pin(paths));
    let deleted: Vec<_> = futures_util::StreamExt::collect(deleted).await;
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
}

/// The names of all objects, sorted.
pub async fn names(store: &dyn ObjectStore) -> Vec<String> {
    let listed: Vec<_> = futures_util::StreamExt::collect(store.list(None)).await;
    let mut names: Vec<String> = listed.into_iter().map(|meta| meta.expect("lists").location.to_string()).collect();
    names.sort_unstable();
    names
}
