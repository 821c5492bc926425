//! [`Acme`]: certificates that an authority signs by ACME (RFC 8555), asked for when they are missing or have lived two
//! thirds of their life, and kept in the state folder. What was last good serves on meanwhile.

mod order;
mod store;
mod web;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use portolan_config::Diagnostic;
use portolan_model::{Model, RouteTableId};
use portolan_proxy::Challenges;
use rand::Rng;
use tokio::sync::Notify;

use self::order::{AcmeError, Ordering};
use self::store::Store;
use crate::control::ControlHandle;
use crate::secret_files::{self, CREDENTIAL};

/// How often certificates are looked at: those that another process of this folder has got, too.
const LOOK: Duration = Duration::from_secs(60);
/// For one order, from the account to the certificate.
const TRY_TIME: Duration = Duration::from_secs(300);
/// After the first failure, doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// While another process asks for certificates.
const BUSY: Duration = Duration::from_secs(5);
/// The port of HTTP-01.
const HTTP_PORT: u16 = 80;

/// Who is asked, and how.
#[derive(Clone, Debug)]
pub(crate) struct AcmeOptions {
    /// `--acme-directory`
    pub(crate) directory: String,
    /// `--acme-ca`: trusted besides the system's authorities.
    pub(crate) ca: Vec<PathBuf>,
    /// Where accounts and certificates are kept; without it nobody is asked.
    pub(crate) state: Option<PathBuf>,
}

/// A certificate that the configuration wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    /// Exact hosts, in order.
    pub(crate) names: Vec<String>,
    /// `mailto:` and such.
    pub(crate) contact: Vec<String>,
    /// Whether port 80 is served in plain HTTP: HTTP-01, else TLS-ALPN-01.
    pub(crate) http: bool,
}

/// What is wanted and what is there, shared by the control loop and the task that asks.
#[derive(Debug)]
pub(crate) struct Acme {
    options: AcmeOptions,
    store: Option<Store>,
    challenges: Arc<Challenges>,
    /// With what the control loop has last taken for it.
    wanted: Mutex<HashMap<Wanted, Option<String>>>,
    /// Why the last try for a certificate failed.
    faults: Mutex<HashMap<Wanted, String>>,
    changed: Notify,
}

/// How often in a row it failed, and when it is tried again.
#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u32,
    again: Instant,
}

impl Acme {
    pub(crate) fn new(options: AcmeOptions, challenges: Arc<Challenges>) -> Self {
        let store = options.state.clone().map(|folder| Store::new(folder, &options.directory));
        Self { options, store, challenges, wanted: Mutex::default(), faults: Mutex::default(), changed: Notify::new() }
    }

    /// Gives the model the certificates that are there, and notes which it wants.
    pub(crate) fn fill(&self, model: &mut Model) -> Vec<Diagnostic> {
        let plain = |listener: &portolan_model::Listener| {
            listener.server_port == HTTP_PORT && listener.route_table != RouteTableId::MAX
        };
        let http = model.listeners.iter().any(plain);
        let (mut wanted, mut found) = (HashMap::new(), Vec::new());
        for secret in &mut model.secrets {
            let Some(order) = &secret.acme else { continue };
            let key = Wanted { names: order.names.clone(), contact: order.contact.clone(), http };
            let Some(store) = &self.store else {
                let text = "certificates of ACME need a folder: start with `--state-dir`".to_owned();
                found.push(Diagnostic::error(CREDENTIAL, secret_files::place(&secret.origin), text));
                continue;
            };
            if let Some(fault) = self.faults().get(&key) {
                let text = format!("no certificate by ACME: {fault}");
                found.push(Diagnostic::error(CREDENTIAL, secret_files::place(&secret.origin), text));
            }
            let text = store.certificate(&key.names);
            if let Some(text) = &text {
                let entry = |name: &str| (name.to_owned(), text.clone().into_bytes());
                secret.entries = vec![entry("tls.crt"), entry("tls.key")];
            }
            wanted.insert(key, text);
        }
        let mut known = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() != wanted.len() || wanted.keys().any(|key| !known.contains_key(key)) {
            self.changed.notify_one();
        }
        *known = wanted;
        found
    }

    /// Asks for certificates as long as the gateway runs.
    pub(crate) async fn run(self: Arc<Self>, control: ControlHandle) {
        let Some(store) = &self.store else { return };
        let mut failed: HashMap<Wanted, Failed> = HashMap::new();
        loop {
            let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
            failed.retain(|key, _| wanted.contains_key(key));
            self.faults().retain(|key, _| wanted.contains_key(key));
            let mut pause = LOOK;
            for (key, taken) in &wanted {
                if store.certificate(&key.names) != *taken {
                    control.changed();
                }
                if !store.is_due(&key.names, SystemTime::now()) {
                    continue;
                }
                if let Some(last) = failed.get(key).filter(|last| last.again > Instant::now()) {
                    pause = pause.min(last.again.duration_since(Instant::now()));
                    continue;
                }
                match self.obtain(store, key).await {
                    Ok(true) => {
                        failed.insert(key.clone(), Failed { times: 0, again: Instant::now() + FIRST_PAUSE });
                        self.faults().remove(key);
                        control.changed();
                    }
                    Ok(false) => pause = pause.min(BUSY),
                    Err(error) => {
                        let last = failed.get(key).map_or(0, |last| last.times);
                        let next = pause_after(last + 1);
                        failed.insert(key.clone(), Failed { times: last + 1, again: Instant::now() + next });
                        pause = pause.min(next);
                        self.faults().insert(key.clone(), error.to_string());
                        control.changed();
                        tracing::warn!(
                            "acme     no certificate for {}: {error}; tried again in {} s",
                            key.names.join(", "),
                            next.as_secs()
                        );
                    }
                }
            }
            // Whichever comes first.
            let _ = tokio::time::timeout(pause, self.changed.notified()).await;
        }
    }

    fn faults(&self) -> MutexGuard<'_, HashMap<Wanted, String>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when another process is at it.
    async fn obtain(&self, store: &Store, wanted: &Wanted) -> Result<bool, AcmeError> {
        let Some(_lock) = store.lock()? else { return Ok(false) };
        // Another process may have been quicker.
        if !store.is_due(&wanted.names, SystemTime::now()) {
            return Ok(true);
        }
        let ordering = Ordering { options: &self.options, store, challenges: &self.challenges };
        let text =
            tokio::time::timeout(TRY_TIME, ordering.certificate(wanted)).await.map_err(|_| AcmeError::Timeout)??;
        store.keep(&wanted.names, &text)?;
        tracing::info!("acme     certificate for {} of {}", wanted.names.join(", "), self.options.directory);
        Ok(true)
    }
}

/// Doubles with each failure, and is spread, so that a fleet does not come back at once.
fn pause_after(times: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << times.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    doubled.mul_f64(rand::rng().random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        for (times, seconds) in [(1, 30.0), (2, 60.0), (5, 480.0), (50, 21_600.0)] {
            let pause = pause_after(times).as_secs_f64();
            assert!((seconds * 0.8..=seconds * 1.2).contains(&pause), "{times}: {pause}");
        }
    }
}
