//! One exchange for a command that waits for it, where the gateway's fetcher works beside the traffic.

use std::future::Future;
use std::time::Duration;

use portolan_model::{PullPolicy, PullSecret, RemoteModule};

use super::client::{Client, ClientOptions};
use super::error::FetchError;
use super::fetch::{self, Wanted};

/// For one module, however slowly bytes come.
const FETCH_TIME: Duration = Duration::from_secs(60);

/// What came.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) bytes: Vec<u8>,
    /// Digest of the image, or a server's ETag.
    pub(crate) version: Option<String>,
    /// Fingerprint of the key that signed it.
    pub(crate) signer: Option<String>,
}

/// Fetches a module, with digest and signature checked as for a filter that runs.
pub(crate) fn get(
    options: &ClientOptions,
    url: &str,
    secret: Option<PullSecret>,
    sha256: Option<String>,
    key: Option<String>,
) -> Result<Got, FetchError> {
    let client = Client::new(options)?;
    let module = RemoteModule { url: url.to_owned(), pull_policy: PullPolicy::Always, pull_secret: secret };
    let wanted = Wanted { module, sha256, key };
    run(async {
        let fetching = tokio::time::timeout(FETCH_TIME, fetch::fetch(&client, &wanted, None));
        let fetched = fetching.await.map_err(|_| FetchError::Timeout(FETCH_TIME))??;
        let fetched = fetched.ok_or_else(|| FetchError::Malformed("nothing came".to_owned()))?;
        Ok(Got { bytes: fetched.bytes, version: fetched.version, signer: fetched.signer })
    })
}

/// Runs it on this thread.
pub(super) fn run<T>(future: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| FetchError::Setup(error.to_string()))?.block_on(future)
}
