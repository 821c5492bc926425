//! [`Admin`]: a running gateway, asked over its admin port.

use std::time::Duration;

use anyhow::{Context, bail};
use http::{Request, StatusCode, Uri, header};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use portolan_model::Model;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::explain::{Question, Verdict};
use crate::{UsageError, run};

/// For one answer, from connecting to its last byte.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// A longer answer is refused: a dump of the largest configurations is shorter.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// Where a gateway's admin port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admin {
    address: String,
}

impl Admin {
    /// From `http://HOST:PORT`; scheme, and port 15000, may be left out.
    pub(crate) fn new(url: &str) -> Result<Self, UsageError> {
        let wrong = || UsageError(format!("`{url}` is no admin port: wants e.g. http://127.0.0.1:15000"));
        let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = full.parse().map_err(|_| wrong())?;
        let authority =
            uri.authority().filter(|_| uri.scheme_str() == Some("http") && uri.path() == "/").ok_or_else(wrong)?;
        let port = authority.port_u16().unwrap_or(15000);
        Ok(Self { address: format!("{}:{port}", authority.host()) })
    }

    /// Where the gateway would send this request.
    pub(crate) fn explain(&self, question: &Question) -> anyhow::Result<Verdict> {
        self.json(&format!("/explain?{}", question.to_query()))
    }

    /// What the gateway serves.
    pub(crate) fn model(&self) -> anyhow::Result<Model> {
        #[derive(serde::Deserialize)]
        struct Dump {
            model: Model,
        }
        let dump: Dump = self.json("/config_dump")?;
        Ok(dump.model)
    }

    /// The answer to a GET.
    pub(crate) fn json<T: DeserializeOwned>(&self, target: &str) -> anyhow::Result<T> {
        let asked = run::runtime()?.block_on(async { timeout(ANSWER_TIME, self.get(target)).await });
        let at = || format!("the gateway at {}", self.address);
        let body = asked.unwrap_or_else(|_| bail!("no answer within {ANSWER_TIME:?}")).with_context(at)?;
        serde_json::from_slice(&body).context("is of another version than this command").with_context(at)
    }

    /// The answer to a GET, as text.
    pub(crate) async fn text(&self, target: &str) -> anyhow::Result<String> {
        let asked = timeout(ANSWER_TIME, self.get(target)).await;
        let body = asked.unwrap_or_else(|_| bail!("no answer within {ANSWER_TIME:?}"))?;
        String::from_utf8(body).context("the answer is no text")
    }

    async fn get(&self, target: &str) -> anyhow::Result<Vec<u8>> {
        let socket = TcpStream::connect(&self.address).await.context("cannot connect")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        let request = Request::get(target).header(header::HOST, &self.address).body(String::new())?;
        let response = sender.send_request(request).await?;
        let (status, answer) = (response.status(), read(response.into_body()).await?);
        match status {
            StatusCode::OK => Ok(answer),
            // Its words say what is wrong with the question.
            StatusCode::BAD_REQUEST => Err(UsageError(String::from_utf8_lossy(&answer).trim().to_owned()).into()),
            status => bail!("{status}: {}", String::from_utf8_lossy(&answer).trim()),
        }
    }
}

async fn read(mut body: Incoming) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            if all.len() + data.len() > MAX_ANSWER {
                bail!("an answer of more than {} MiB", MAX_ANSWER / 1024 / 1024);
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(all)
}
