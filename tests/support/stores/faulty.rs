//! A store that fails at chosen calls, temporarily or permanently, or crashes. From outside, a crash looks like a
//! store that was changed up to some call and never again: [`Fault::Crash`] freezes it, and the test then opens the
//! store below it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// The operations of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Put,
    Get,
    Head,
    List,
    Delete,
}

/// The calls that change the store.
pub const MUTATING: &[Verb] = &[Verb::Put, Verb::Delete];
/// All calls.
pub const ALL: &[Verb] = &[Verb::Put, Verb::Get, Verb::Head, Verb::List, Verb::Delete];

/// Whether a failed call took effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    NotApplied,
    Applied,
}

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The connection is lost.
    Lost(Effect),
    /// The process dies: this call and all later ones fail.
    Crash(Effect),
    /// The store does not allow it.
    Refused,
    /// The store is full.
    Full,
    /// An object that is read lacks its last byte.
    Short,
}

/// Which calls fail: among the calls with one of `verbs` and a name that begins with `prefix`, number `first` (from 1)
/// and the following `times - 1`.
#[derive(Clone, Debug)]
pub struct Plan {
    pub verbs: &'static [Verb],
    pub prefix: &'static str,
    pub first: u64,
    pub times: u64,
    pub fault: Fault,
}

impl Plan {
    /// The process dies at the mutating call `number`.
    pub fn crash(number: u64, effect: Effect) -> Self {
        Self { verbs: MUTATING, prefix: "", first: number, times: 1, fault: Fault::Crash(effect) }
    }

    /// Nothing ever fails. Counts the mutating calls.
    pub fn never() -> Self {
        Self::crash(u64::MAX, Effect::NotApplied)
    }
}

/// The failing store.
#[derive(Clone, Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Plan>,
    calls: Arc<AtomicU64>,
    frozen: Arc<AtomicBool>,
}

enum Gate {
    Pass,
    Fail(Error),
    ApplyThenFail(Error),
    Shorten,
}

impl Faulty {
    pub fn new(inner: Arc<dyn ObjectStore>, plan: Plan) -> Arc<Self> {
        Arc::new(Self { inner, plan: Arc::new(plan), calls: Arc::default(), frozen: Arc::default() })
    }

    /// The number of calls of the kind in the plan.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Whether the store has crashed.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }

    fn gate(&self, verb: Verb, path: &str) -> Gate {
        if self.is_frozen() {
            return Gate::Fail(crashed());
        }
        let plan = &self.plan;
        if !plan.verbs.contains(&verb) || !path.starts_with(plan.prefix) {
            return Gate::Pass;
        }
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if number < plan.first || number - plan.first >= plan.times {
            return Gate::Pass;
        }
        match plan.fault {
            Fault::Lost(Effect::NotApplied) => Gate::Fail(lost()),
            Fault::Lost(Effect::Applied) => Gate::ApplyThenFail(lost()),
            Fault::Crash(effect) => {
                self.frozen.store(true, Ordering::SeqCst);
                match effect {
                    Effect::NotApplied => Gate::Fail(crashed()),
                    Effect::Applied => Gate::ApplyThenFail(crashed()),
                }
            }
            Fault::Refused => {
                Gate::Fail(Error::PermissionDenied { path: path.to_owned(), source: "refused on purpose".into() })
            }
            Fault::Full => Gate::Fail(generic(std::io::ErrorKind::StorageFull.into())),
            Fault::Short => Gate::Shorten,
        }
    }
}

fn generic(error: std::io::Error) -> Error {
    Error::Generic { store: "Faulty", source: Box::new(error) }
}

fn crashed() -> Error {
    generic(std::io::Error::other("crashed on purpose"))
}

fn lost() -> Error {
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    Error::Generic { store: "Faulty", source: Box::new(HttpError::new(HttpErrorKind::Interrupted, reset)) }
}

async fn shorten(result: GetResult) -> Result<GetResult> {
    let GetResult { meta, range, attributes, extensions, .. } = &result;
    let (meta, range, attributes, extensions) = (meta.clone(), range.clone(), attributes.clone(), extensions.clone());
    let bytes = result.bytes().await?;
    let part = bytes.slice(..bytes.len().saturating_sub(1));
    let payload = GetResultPayload::Stream(futures_util::stream::iter([Ok(part)]).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions })
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.gate(Verb::Put, path.as_ref()) {
            Gate::Pass | Gate::Shorten => self.inner.put_opts(path, payload, options).await,
            Gate::Fail(error) => Err(error),
            Gate::ApplyThenFail(error) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(error)
            }
        }
    }

    async fn put_multipart_opts(&self, path: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        panic!("multipart uploads are not used: {path}");
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let verb = if options.head { Verb::Head } else { Verb::Get };
        match self.gate(verb, path.as_ref()) {
            Gate::Pass => self.inner.get_opts(path, options).await,
            Gate::Fail(error) | Gate::ApplyThenFail(error) => Err(error),
            Gate::Shorten => shorten(self.inner.get_opts(path, options).await?).await,
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let deleted = paths.then(move |path| {
            let this = this.clone();
            async move {
                let path = path?;
                match this.gate(Verb::Delete, path.as_ref()) {
                    Gate::Pass | Gate::Shorten => this.inner.delete(&path).await.map(|()| path),
                    Gate::Fail(error) => Err(error),
                    Gate::ApplyThenFail(error) => {
                        this.inner.delete(&path).await?;
                        Err(error)
                    }
                }
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.gate(Verb::List, prefix.map_or("", AsRef::as_ref)) {
            Gate::Pass | Gate::Shorten => self.inner.list(prefix),
            Gate::Fail(error) | Gate::ApplyThenFail(error) => futures_util::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.gate(Verb::List, prefix.map_or("", AsRef::as_ref)) {
            Gate::Pass | Gate::Shorten => self.inner.list_with_delimiter(prefix).await,
            Gate::Fail(error) | Gate::ApplyThenFail(error) => Err(error),
        }
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        panic!("copies are not used: {from}");
    }
}
