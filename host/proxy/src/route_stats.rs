//! [`RouteStats`]: the counters of routes with a `statPrefix`, as Envoy keeps them for each virtual host.

use std::sync::Arc;

use portolan_model::{Model, RouteAction, RouteId, RouteTableId};
use portolan_telemetry::{ClusterMetrics, Counter, Metrics, ResponseFlags, RouteMetrics};

use crate::local_reply::Reply;
use crate::router::Forwarding;
use crate::stream::Stream;

/// A route where it stands: several virtual hosts may have the same one, and count it each for itself.
type Place = (RouteId, RouteTableId, u32);

/// What the router of Envoy answers itself, and counts as answers of the route; other answers are of other parts.
const OF_ROUTER: [ResponseFlags; 7] = [
    ResponseFlags::UH,
    ResponseFlags::UT,
    ResponseFlags::UR,
    ResponseFlags::UF,
    ResponseFlags::UC,
    ResponseFlags::UO,
    ResponseFlags::UPE,
];

/// The counters of a model's routes, by place and found by numbers. Mostly there are none.
pub(crate) struct RouteStats(Vec<(Place, Arc<RouteMetrics>)>);

impl RouteStats {
    /// Resolves the handles. Series of routes that the model has no more end.
    pub(crate) fn new(model: &Model, metrics: &Metrics) -> Self {
        let mut named = Vec::new();
        for (table, id) in model.route_tables.iter().zip(0..) {
            for (host, number) in table.virtual_hosts.iter().zip(0..) {
                let prefixes = host.routes.iter().filter_map(|route| Some((*route, prefix(model, *route)?)));
                named.extend(prefixes.map(|(route, prefix)| ((route, id, number), &*host.name, prefix)));
            }
        }
        metrics.retain_routes(named.iter().map(|(_, host, prefix)| (*host, *prefix)));
        let mut all: Vec<_> =
            named.into_iter().map(|(place, host, prefix)| (place, metrics.route(host, prefix))).collect();
        all.sort_unstable_by_key(|(place, _)| *place);
        Self(all)
    }

    fn at(&self, place: Place) -> Option<&Arc<RouteMetrics>> {
        let found = self.0.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        self.0.get(found).map(|(_, metrics)| metrics)
    }
}

fn prefix(model: &Model, route: RouteId) -> Option<&str> {
    match &model.routes.get(route as usize)?.action {
        RouteAction::Forward(forward) => forward.stat_prefix.as_deref(),
        RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => None,
    }
}

/// Counts an answer of the upstream, or of the gateway in its place.
pub(crate) fn count_answers(cluster: &ClusterMetrics, route: Option<&RouteMetrics>, status: u16) {
    cluster.upstream_rq_completed.inc();
    cluster.upstream_rq_xx.inc(status);
    if let Some(route) = route {
        route.upstream_rq_completed.inc();
        route.upstream_rq.inc(status);
        route.upstream_rq_xx.inc(status);
    }
}

impl Stream {
    /// The counters of the request's route; none where it has no prefix.
    pub(crate) fn route_stats(&self) -> Option<Arc<RouteMetrics>> {
        let stats = &self.view.snapshot.route_stats;
        if stats.0.is_empty() {
            return None;
        }
        let place =
            self.with_state(|state| Some((state.host.route?, state.host.route_table, state.host.virtual_host)))?;
        stats.at(place).cloned()
    }
}

impl Forwarding<'_> {
    /// Counts for the cluster, and for the route where that has counters.
    pub(crate) fn count(
        &self,
        of_cluster: impl Fn(&ClusterMetrics) -> &Counter,
        of_route: impl Fn(&RouteMetrics) -> &Counter,
    ) {
        of_cluster(&self.cluster.state.metrics).inc();
        if let Some(route) = &self.stats {
            of_route(route).inc();
        }
    }

    /// Counts an answer that the router gives itself.
    pub(crate) fn count_failed(&self, reply: &Reply) {
        if OF_ROUTER.iter().any(|flag| reply.flags().contains(*flag)) {
            count_answers(&self.cluster.state.metrics, self.stats.as_deref(), reply.status().as_u16());
        }
    }
}
