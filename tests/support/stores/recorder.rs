//! A store that records every call, so that a test can assert order and cost.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::faulty::Verb;

/// One call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    pub verb: Verb,
    /// The object's name, or the listed prefix.
    pub name: String,
    /// Bytes written.
    pub bytes: u64,
    /// The requested range, if not the whole object.
    pub range: Option<Range<u64>>,
}

/// The recording store.
#[derive(Clone, Debug)]
pub struct Recorder {
    inner: Arc<dyn ObjectStore>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Recorder {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self { inner, calls: Arc::default() })
    }

    /// All calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("no test panics while it records a call").clone()
    }

    /// The names of all calls of one kind, in order.
    pub fn names(&self, verb: Verb) -> Vec<String> {
        self.calls().into_iter().filter(|call| call.verb == verb).map(|call| call.name).collect()
    }

    /// Discards the recorded calls.
    pub fn clear(&self) {
        self.calls.lock().expect("no test panics while it records a call").clear();
    }

    fn note(&self, verb: Verb, name: &str, bytes: u64, range: Option<Range<u64>>) {
        let call = Call { verb, name: name.to_owned(), bytes, range };
        self.calls.lock().expect("no test panics while it records a call").push(call);
    }
}

impl fmt::Display for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorder({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Recorder {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.note(Verb::Put, path.as_ref(), payload.content_length() as u64, None);
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        panic!("multipart uploads are not used: {path}");
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let verb = if options.head { Verb::Head } else { Verb::Get };
        let range = match &options.range {
            Some(GetRange::Bounded(range)) => Some(range.clone()),
            _ => None,
        };
        self.note(verb, path.as_ref(), 0, range);
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let noted = paths.inspect(move |path| {
            if let Ok(path) = path {
                this.note(Verb::Delete, path.as_ref(), 0, None);
            }
        });
        self.inner.delete_stream(noted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.note(Verb::List, prefix.map_or("", AsRef::as_ref), 0, None);
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.note(Verb::List, prefix.map_or("", AsRef::as_ref), 0, None);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        panic!("copies are not used: {from}");
    }
}
