//! [`ChainMaking`]: the filter chains of a snapshot. What cannot be made costs its own chain only, which serves on with what
//! it had, if it had something that keeps out the same clients.

use std::sync::Arc;
use std::time::SystemTime;

use portolan_model::{FilterChain, Listener, Secret};
use portolan_telemetry::Metrics;

use super::chains::{ChainEntry, FilterChains, Transport};
use super::server_config::{self, ChainError, ServerTls};
use crate::build_problem::BuildProblem;
use crate::module_source::Cause;
use crate::tcp::TcpEntry;

const DAY: i64 = 24 * 3600;
/// Whoever has fewer days left is told.
const FEW_DAYS: i64 = 30;

/// What chains are made of.
pub(crate) struct ChainMaking<'a> {
    pub(crate) secrets: &'a [Secret],
    /// The chains that serve at this address now.
    pub(crate) last: Option<&'a FilterChains>,
    pub(crate) metrics: &'a Metrics,
}

impl ChainMaking<'_> {
    pub(crate) fn of(&self, listener: &Listener, problems: &mut Vec<BuildProblem>) -> FilterChains {
        let chain = |chain: &FilterChain| ChainEntry {
            server_names: chain.server_names.clone(),
            transport: self.transport(chain, problems),
            route_table: chain.route_table,
            server_port: listener.server_port,
            http3: chain.http3 && listener.proxy_headers.is_none(),
            tcp: chain.tcp.as_ref().map(|tcp| TcpEntry::new(tcp, self.metrics.tcp(&tcp.stat_prefix))),
        };
        FilterChains::new(listener.filter_chains.iter().map(chain).collect())
    }

    fn transport(&self, chain: &FilterChain, problems: &mut Vec<BuildProblem>) -> Transport {
        let Some(tls) = &chain.tls else { return Transport::Passthrough };
        let last = self.served(chain);
        let alpn: &[&str] = if chain.tcp.is_none() { &["h2", "http/1.1"] } else { &[] };
        match server_config::build(tls, self.secrets, alpn, last.map(|last| &**last)) {
            Ok(made) => {
                self.note_expiry(&made, problems);
                Transport::Tls(made)
            }
            Err(error) => {
                let last = last.filter(|last| last.admits_as(tls));
                problems.extend(self.problem(chain, &error, last.is_some()));
                last.map_or(Transport::Down, |last| Transport::Tls(last.clone()))
            }
        }
    }

    /// What serves these names now.
    fn served(&self, chain: &FilterChain) -> Option<&Arc<ServerTls>> {
        let known = self.last?.list.iter().find(|known| known.server_names == chain.server_names)?;
        match &known.transport {
            Transport::Tls(tls) => Some(tls),
            Transport::Passthrough | Transport::Down => None,
        }
    }

    /// None when the files have said it already.
    fn problem(&self, chain: &FilterChain, error: &ChainError, kept_old: bool) -> Option<BuildProblem> {
        let (subject, origin) = match error {
            ChainError::Missing => return None,
            ChainError::Settings(_) => ("TLS server".to_owned(), &chain.origin),
            ChainError::Credential(id, _) => {
                let secret = self.secrets.get(*id as usize)?;
                (format!("credential {}", secret.name), &secret.origin)
            }
        };
        Some(BuildProblem {
            subject,
            origin: Some(origin.clone()),
            message: error.to_string(),
            kept_old,
            cause: Cause::Credential,
            config: None,
        })
    }

    fn note_expiry(&self, made: &ServerTls, problems: &mut Vec<BuildProblem>) {
        for (name, fault) in &made.staple_faults {
            problems.push(self.warning(name, format!("{fault}: the certificate is shown without it")));
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        for (name, end) in &made.expiries {
            let days = (end - i64::try_from(now).unwrap_or(i64::MAX)).div_euclid(DAY);
            self.metrics.certificate(name).expiration_seconds.set(*end);
            if days >= FEW_DAYS {
                continue;
            }
            let ends = || format!("its certificate ends in {days} days");
            problems.push(self.warning(name, if days < 0 { "its certificate has ended".to_owned() } else { ends() }));
        }
    }

    fn warning(&self, secret: &str, message: String) -> BuildProblem {
        let origin = self.secrets.iter().find(|known| known.name == secret).map(|known| known.origin.clone());
        let subject = format!("credential {secret}");
        BuildProblem { subject, origin, message, kept_old: false, cause: Cause::Expiry, config: None }
    }
}
