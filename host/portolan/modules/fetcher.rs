//! [`Fetcher`]: fetches modules on a thread of its own, keeps trying, and says when something came. Nothing waits for it:
//! until a module is there its filter's fail strategy counts.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use portolan_model::PullPolicy;
use rand::Rng;
use tokio::runtime::{self, Handle};
use tokio::sync::{Notify, Semaphore, oneshot};

use super::cache::{Cache, Record, hex_digest};
use super::client::{Client, ClientOptions};
use super::error::FetchError;
use super::fetch::{self, Fetched, Wanted};

/// For one try, however slowly bytes come.
const TRY_TIME: Duration = Duration::from_secs(60);

/// Tries in a row, the pause between two doubling from [`FIRST_PAUSE`].
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Then it is tried again only now and then.
const LATER: Duration = Duration::from_secs(180);

/// Modules that are fetched at once.
const AT_ONCE: usize = 8;

/// Fetches what is wanted. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct Fetcher {
    inner: Arc<Inner>,
    /// Started when the first module is wanted.
    thread: OnceLock<Option<FetchThread>>,
}

#[derive(Debug)]
struct FetchThread {
    handle: Handle,
    /// Its end ends the thread.
    _alive: oneshot::Sender<()>,
}

/// What is known of one module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FetchState {
    /// What came last and may be run.
    pub(crate) here: Option<Here>,
    /// Why the last try failed.
    pub(crate) trouble: Option<String>,
    /// A row of tries is on its way.
    pub(crate) is_busy: bool,
}

/// A module that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Here {
    /// SHA-256 of its bytes in hex.
    pub(crate) digest: String,
    /// An image's digest, a server's ETag.
    pub(crate) version: Option<String>,
    /// Fingerprint of the key that signed it.
    pub(crate) signer: Option<String>,
    /// Its bytes, where no disk keeps them.
    bytes: Option<Arc<Vec<u8>>>,
}

struct Inner {
    options: ClientOptions,
    client: OnceLock<Result<Client, FetchError>>,
    cache: Option<Cache>,
    entries: Mutex<HashMap<Wanted, Entry>>,
    /// Told whenever the state of an entry changes.
    changed: Condvar,
    on_change: OnceLock<Box<dyn Fn() + Send + Sync>>,
    slots: Semaphore,
}

struct Entry {
    state: FetchState,
    /// Try now.
    again: Arc<Notify>,
    task: tokio::task::AbortHandle,
}

impl Fetcher {
    /// Keeps what it fetches in `folder`, else in memory for as long as it is wanted.
    pub(crate) fn new(options: ClientOptions, folder: Option<PathBuf>) -> Self {
        let inner = Inner {
            options,
            client: OnceLock::new(),
            cache: folder.map(Cache::new),
            entries: Mutex::default(),
            changed: Condvar::new(),
            on_change: OnceLock::new(),
            slots: Semaphore::new(AT_ONCE),
        };
        Self { inner: Arc::new(inner), thread: OnceLock::new() }
    }

    /// Calls this, from the fetcher's thread, whenever a module came or a reason why not changed. The first call counts.
    pub(crate) fn on_change(&self, call: impl Fn() + Send + Sync + 'static) {
        let _ = self.inner.on_change.set(Box::new(call));
    }

    /// Makes that call.
    pub(crate) fn tell(&self) {
        if let Some(call) = self.inner.on_change.get() {
            call();
        }
    }

    /// Makes these the modules that are fetched. Those that are kept are there at once. `again` asks anew for what
    /// failed, and for what its pull policy wants asked for always.
    pub(crate) fn want(&self, wanted: HashSet<Wanted>, again: bool) {
        if wanted.is_empty() && self.thread.get().is_none() {
            return;
        }
        let Some(thread) = self.thread.get_or_init(start_thread) else { return };
        let mut entries = self.inner.entries();
        entries.retain(|known, entry| {
            let keep = wanted.contains(known);
            if !keep {
                entry.task.abort();
            }
            keep
        });
        for wanted in wanted {
            match entries.get_mut(&wanted) {
                Some(entry) if again && (entry.state.trouble.is_some() || asks_always(&wanted)) => {
                    entry.again.notify_one();
                }
                Some(_) => {}
                None => {
                    let entry = self.inner.start(&wanted, &thread.handle);
                    entries.insert(wanted, entry);
                }
            }
        }
    }

    /// What is known of a module; nothing for one that is not wanted.
    pub(crate) fn state(&self, wanted: &Wanted) -> FetchState {
        self.inner.entries().get(wanted).map(|entry| entry.state.clone()).unwrap_or_default()
    }

    /// The bytes of a module that came; none when they were lost since, and then they are fetched again.
    pub(crate) fn bytes(&self, wanted: &Wanted, here: &Here) -> Option<Vec<u8>> {
        if let Some(bytes) = &here.bytes {
            return Some(bytes.to_vec());
        }
        let bytes = self.inner.cache.as_ref().and_then(|cache| cache.module(&here.digest));
        if bytes.is_none() {
            self.inner.forget(wanted);
        }
        bytes
    }

    /// A module that was fetched once, by digest.
    pub(crate) fn kept(&self, digest: &str) -> Option<Vec<u8>> {
        self.inner.cache.as_ref()?.module(digest)
    }

    /// Waits until each module came or failed for now, for `limit` at most.
    pub(crate) fn wait(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut entries = self.inner.entries();
        while entries.values().any(|entry| entry.state.is_busy && entry.state.here.is_none()) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            entries = self.inner.changed.wait_timeout(entries, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Inner {
    fn entries(&self) -> MutexGuard<'_, HashMap<Wanted, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, wanted: &Wanted, handle: &Handle) -> Entry {
        let record = self.cache.as_ref().and_then(|cache| cache.record(&address(wanted)));
        let here = record.map(|record| Here {
            digest: record.digest,
            version: record.version,
            signer: record.signer,
            bytes: None,
        });
        let is_busy = here.is_none() || asks_always(wanted);
        let again = Arc::new(Notify::new());
        let task = handle.spawn(pursue(Arc::downgrade(self), wanted.clone(), again.clone(), is_busy));
        Entry { state: FetchState { here, trouble: None, is_busy }, again, task: task.abort_handle() }
    }

    /// Changes the state of an entry, and tells who must know.
    fn update(&self, wanted: &Wanted, change: impl FnOnce(&mut FetchState)) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(wanted) else { return };
        let before = entry.state.clone();
        change(&mut entry.state);
        let told = |state: &FetchState| (state.here.as_ref().map(|here| here.digest.clone()), state.trouble.clone());
        let is_new = told(&before) != told(&entry.state);
        drop(entries);
        self.changed.notify_all();
        if is_new && let Some(call) = self.on_change.get() {
            call();
        }
    }

    fn forget(&self, wanted: &Wanted) {
        let mut entries = self.entries();
        if let Some(entry) = entries.get_mut(wanted) {
            entry.state.here = None;
            entry.state.is_busy = true;
            entry.again.notify_one();
        }
    }

    async fn try_once(&self, wanted: &Wanted) -> Result<(), FetchError> {
        let client = self.client.get_or_init(|| Client::new(&self.options)).as_ref().map_err(Clone::clone)?;
        let _slot = self.slots.acquire().await;
        let known = self.entries().get(wanted).and_then(|entry| entry.state.here.as_ref()?.version.clone());
        let fetching = tokio::time::timeout(TRY_TIME, fetch::fetch(client, wanted, known.as_deref()));
        if let Some(fetched) = fetching.await.map_err(|_| FetchError::Timeout(TRY_TIME))?? {
            self.keep(wanted, fetched);
        }
        Ok(())
    }

    fn keep(&self, wanted: &Wanted, fetched: Fetched) {
        let Fetched { bytes, version, signer } = fetched;
        let record = Record { digest: hex_digest(&bytes), version, signer };
        tracing::info!(url = %wanted.module.url, sha256 = %record.digest, bytes = bytes.len(), "module fetched");
        let kept = self.cache.as_ref().map(|cache| cache.put(&address(wanted), &record, &bytes));
        if let Some(Err(error)) = &kept {
            tracing::warn!(%error, "a fetched module is not kept on disk: the next start fetches it again");
        }
        let bytes = (!matches!(kept, Some(Ok(())))).then(|| Arc::new(bytes));
        let Record { digest, version, signer } = record;
        self.update(wanted, |state| state.here = Some(Here { digest, version, signer, bytes }));
        self.tidy();
    }

    fn tidy(&self) {
        let Some(cache) = &self.cache else { return };
        let entries = self.entries();
        let used: HashSet<String> = entries
            .iter()
            .flat_map(|(wanted, entry)| {
                let digest = entry.state.here.as_ref().map(|here| here.digest.clone());
                digest.into_iter().chain([address(wanted)])
            })
            .collect();
        drop(entries);
        cache.tidy(|stem| used.contains(stem));
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Fetches one module now when `now` says so, and whenever it is asked again.
async fn pursue(inner: Weak<Inner>, wanted: Wanted, again: Arc<Notify>, now: bool) {
    if !now {
        again.notified().await;
    }
    loop {
        let Some(inner) = inner.upgrade() else { return };
        inner.update(&wanted, |state| state.is_busy = true);
        let outcome = series(&inner, &wanted, &again).await;
        let trouble = outcome.err().map(|error| error.to_string());
        if let Some(trouble) = &trouble {
            tracing::warn!(url = %wanted.module.url, "the module cannot be fetched: {trouble}");
        }
        let pause = trouble.is_some().then(|| jittered(LATER));
        inner.update(&wanted, |state| (state.trouble, state.is_busy) = (trouble, false));
        drop(inner);
        match pause {
            // Asked again or late enough: either way it is time.
            Some(pause) => drop(tokio::time::timeout(pause, again.notified()).await),
            None => again.notified().await,
        }
    }
}

/// Some tries with growing pauses, which end early when it is asked again. What would fail again at once is not tried
/// again.
async fn series(inner: &Inner, wanted: &Wanted, again: &Notify) -> Result<(), FetchError> {
    for round in 0..TRIES {
        match inner.try_once(wanted).await {
            Err(error) if !error.is_lasting() && round + 1 < TRIES => {
                let text = error.to_string();
                tracing::debug!(url = %wanted.module.url, round, "fetching failed: {text}");
                inner.update(wanted, |state| state.trouble = Some(text));
                let pause = jittered(FIRST_PAUSE * 2u32.pow(round));
                let _ = tokio::time::timeout(pause, again.notified()).await;
            }
            outcome => return outcome,
        }
    }
    Ok(())
}

/// Between half and one and a half of it, so that many gateways do not ask at the same moment.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.5))
}

/// Whether a copy that is there is asked for again. What is pinned by digest cannot change.
fn asks_always(wanted: &Wanted) -> bool {
    let is_pinned = wanted.sha256.is_some() || wanted.module.url.contains("@sha256:");
    wanted.module.pull_policy == PullPolicy::Always && !is_pinned
}

/// A digest of all that was asked for: another key, digest or credential may not get what was fetched for these.
fn address(wanted: &Wanted) -> String {
    let secret = wanted.module.pull_secret.as_ref().map(|secret| secret.docker_config.as_str());
    let parts = [Some(wanted.module.url.as_str()), wanted.sha256.as_deref(), wanted.key.as_deref(), secret];
    hex_digest(format!("{parts:?}").as_bytes())
}

fn start_thread() -> Option<FetchThread> {
    let (alive, ended) = oneshot::channel::<()>();
    let start = || -> std::io::Result<Handle> {
        let runtime = runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()?;
        let handle = runtime.handle().clone();
        let body = move || {
            let _ = runtime.block_on(ended);
            // A name that is being resolved holds a thread for as long as the system likes.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("modules".to_owned()).spawn(body)?;
        Ok(handle)
    };
    let handle = start().inspect_err(|error| tracing::error!(%error, "no thread to fetch modules")).ok()?;
    Some(FetchThread { handle, _alive: alive })
}
