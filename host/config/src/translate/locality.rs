//! What `localityLbSetting` makes of endpoints: weights of places (`distribute`), or an order in which they take over from
//! each other (`failover`, `failoverPriority`; by default nearest first). Istio's `loadbalancer.go`.

use std::collections::BTreeMap;

use portolan_model::Endpoint;

use super::registry::Provider;
use crate::resources::istio::load_balancer::{Distribute, Failover, LocalityLbSetting};

type Labels = BTreeMap<String, String>;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const NETWORK: &str = "topology.istio.io/network";
/// The node that a Pod runs on.
pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";

/// What an endpoint has in common with the gateway when it is near, the widest first.
const SAME_ZONE: &[&str] = &[NETWORK, REGION, ZONE];
const SAME_NODE: &[&str] = &[NETWORK, REGION, ZONE, SUBZONE, HOSTNAME];
/// The annotation that is older than the field.
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// A place: region, zone, subzone; what is not known is empty.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Locality<'a>([&'a str; 3]);

/// The gateway, as far as it matters for the choice of a place.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    /// `region/zone/subzone`.
    pub(super) locality: &'a str,
    pub(super) labels: &'a Labels,
}

/// The place that a Pod's or workload's labels name: Istio's own label (with dots for slashes), else Kubernetes'.
pub(super) fn of_labels(labels: &Labels) -> String {
    if let Some(label) = labels.get("istio-locality") {
        return label.replace('.', "/");
    }
    let part = |name: &str| labels.get(name).map_or("", String::as_str);
    format!("{}/{}/{}", part(REGION), part(ZONE), part(SUBZONE)).trim_end_matches('/').to_owned()
}

/// The setting in force: the DestinationRule's, else the mesh's; none when it is switched off.
pub(super) fn in_force<'a>(
    rule: Option<&'a LocalityLbSetting>,
    mesh: Option<&'a LocalityLbSetting>,
) -> Option<&'a LocalityLbSetting> {
    static DEFAULT: LocalityLbSetting = LocalityLbSetting {
        distribute: Vec::new(),
        failover: Vec::new(),
        failover_priority: Vec::new(),
        enabled: None,
    };
    let setting = rule.or(mesh).unwrap_or(&DEFAULT);
    (setting.enabled != Some(false)).then_some(setting)
}

/// What `trafficDistribution` of a Service asks for, or the annotation of a Service or ServiceEntry: the nearest endpoints
/// first, also where nothing ever ejects one. Beats the mesh's setting, not the DestinationRule's.
pub(super) fn of_provider(provider: Option<&Provider<'_>>) -> Option<LocalityLbSetting> {
    let (written, meta) = match provider? {
        Provider::Service(service) => (service.spec.traffic_distribution.as_deref(), &service.meta),
        Provider::Entry(entry) => (None, &entry.meta),
        Provider::Bare(_) => return None,
    };
    let annotation = || Some(meta.annotations.get(TRAFFIC_DISTRIBUTION)?.to_ascii_lowercase());
    let order: &[&str] = match written {
        Some("PreferSameZone" | "PreferClose") => SAME_ZONE,
        Some("PreferSameNode") => SAME_NODE,
        _ => match annotation()?.as_str() {
            "prefersamezone" | "preferclose" => SAME_ZONE,
            "prefersamenode" => SAME_NODE,
            _ => return None,
        },
    };
    let failover_priority = order.iter().map(|label| (*label).to_owned()).collect();
    Some(LocalityLbSetting { failover_priority, ..LocalityLbSetting::default() })
}

/// Gives the endpoints their priorities and localities their weights. `labels` are the endpoints' own; `ejects` is whether
/// the cluster has outlier detection, without which nothing ever fails over.
pub(super) fn apply(
    endpoints: &mut Vec<Endpoint>,
    labels: &[Option<Labels>],
    own: Own<'_>,
    setting: &LocalityLbSetting,
    ejects: bool,
) {
    let mine = Locality::parse(own.locality);
    complete_regions(endpoints, mine);
    let has_failover = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    if setting.distribute.is_empty() && ejects {
        if !setting.failover_priority.is_empty() {
            fail_over_by_labels(endpoints, labels, own, &setting.failover_priority);
        }
        if setting.failover_priority.is_empty() || !setting.failover.is_empty() {
            fail_over_by_place(endpoints, mine, &setting.failover);
        }
    }
    if !setting.distribute.is_empty() || ejects && has_failover {
        weigh(endpoints);
    }
    if let Some(rule) = setting.distribute.iter().find(|rule| mine.fits(&rule.from)) {
        distribute(endpoints, rule);
    }
}

/// An EndpointSlice names the zone only: in the gateway's own zone the region is the gateway's too.
fn complete_regions(endpoints: &mut [Endpoint], mine: Locality<'_>) {
    let [region, zone, _] = mine.0;
    for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.locality.starts_with('/')) {
        if !zone.is_empty() && endpoint.locality[1..] == *zone {
            endpoint.locality = format!("{region}/{zone}");
        }
    }
}

/// Each locality of a priority weighs as much as its endpoints together.
fn weigh(endpoints: &mut [Endpoint]) {
    let mut sums: BTreeMap<(u32, String), u32> = BTreeMap::new();
    for endpoint in endpoints.iter() {
        let sum = sums.entry((endpoint.priority, endpoint.locality.clone())).or_default();
        *sum = sum.saturating_add(endpoint.weight);
    }
    for endpoint in endpoints {
        endpoint.locality_weight = sums.get(&(endpoint.priority, endpoint.locality.clone())).copied();
    }
}

/// Each entry's percent is shared among the localities that it means, by their weights; localities that none means get
/// nothing.
fn distribute(endpoints: &mut Vec<Endpoint>, rule: &Distribute) {
    let mut shares: BTreeMap<String, u32> = BTreeMap::new();
    for (to, percent) in &rule.to {
        let meant: BTreeMap<String, u32> = endpoints
            .iter()
            .filter(|e| !shares.contains_key(&e.locality) && Locality::parse(&e.locality).fits(to))
            .map(|e| (e.locality.clone(), e.locality_weight.unwrap_or(1)))
            .collect();
        let total: u64 = meant.values().map(|weight| u64::from(*weight)).sum();
        for (locality, weight) in meant {
            let share = (u64::from(weight) * u64::from(*percent)).div_ceil(total.max(1));
            shares.insert(locality, u32::try_from(share).unwrap_or(u32::MAX));
        }
    }
    endpoints.retain_mut(|endpoint| {
        endpoint.locality_weight = shares.get(&endpoint.locality).copied();
        endpoint.locality_weight.is_some()
    });
}

/// The longer the row of labels that are the gateway's own, the earlier. `label=value` compares with the value instead.
fn fail_over_by_labels(endpoints: &mut [Endpoint], labels: &[Option<Labels>], own: Own<'_>, order: &[String]) {
    let mine = with_places(own.labels, own.locality);
    let lowest = u32::try_from(order.len()).unwrap_or(u32::MAX);
    for (endpoint, labels) in endpoints.iter_mut().zip(labels) {
        let theirs = with_places(labels.as_ref().unwrap_or(&Labels::new()), &endpoint.locality);
        let differs = |entry: &String| {
            let (name, value) = entry.split_once('=').map_or((entry.as_str(), None), |(n, v)| (n, Some(v)));
            // An absent label is an empty one.
            let of = |labels: &Labels| labels.get(name).cloned().unwrap_or_default();
            value.map_or_else(|| of(&mine), str::to_owned) != of(&theirs)
        };
        let first = (0..lowest).zip(order).find(|(_, entry)| differs(entry));
        endpoint.priority = first.map_or(0, |(index, _)| lowest - index);
    }
    renumber(endpoints);
}

/// Labels with those of the place, as Istio completes them.
fn with_places(labels: &Labels, locality: &str) -> Labels {
    let mut all = labels.clone();
    for (name, part) in [REGION, ZONE, SUBZONE].into_iter().zip(Locality::parse(locality).0) {
        if !part.is_empty() {
            all.entry(name.to_owned()).or_insert_with(|| part.to_owned());
        }
    }
    all
}

/// Same subzone, same zone, same region, the region that `failover` names (without: any), others.
fn fail_over_by_place(endpoints: &mut [Endpoint], mine: Locality<'_>, failover: &[Failover]) {
    let next = failover.iter().find(|failover| failover.from == mine.0[0]).map(|failover| failover.to.as_str());
    for endpoint in endpoints.iter_mut() {
        let theirs = Locality::parse(&endpoint.locality);
        let distance = match mine.distance(theirs) {
            3 if next.is_some_and(|next| next != theirs.0[0]) => 4,
            distance => distance,
        };
        endpoint.priority = endpoint.priority * 5 + distance;
    }
    renumber(endpoints);
}

/// Priorities without gaps from 0.
fn renumber(endpoints: &mut [Endpoint]) {
    let mut used: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.priority).collect();
    used.sort_unstable();
    used.dedup();
    for endpoint in endpoints {
        let index = used.binary_search(&endpoint.priority).unwrap_or(0);
        endpoint.priority = u32::try_from(index).unwrap_or(u32::MAX);
    }
}

impl<'a> Locality<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().unwrap_or("");
        Self([next(), next(), next()])
    }

    /// Whether `rule` means this place: `*` is any, and so are a zone and a subzone that it leaves out.
    fn fits(self, rule: &str) -> bool {
        let [region, zone, subzone] = Locality::parse(rule).0;
        let part = |rule: &str, own: &str| rule == "*" || rule == own;
        let [own_region, own_zone, own_subzone] = self.0;
        part(region, own_region)
            && (zone.is_empty() || part(zone, own_zone))
            && (subzone.is_empty() || part(subzone, own_subzone))
    }

    /// 0 the same place, 1 the same zone, 2 the same region, 3 another.
    fn distance(self, other: Locality<'_>) -> u32 {
        let same = self.0.iter().zip(other.0).take_while(|(mine, theirs)| *mine == theirs).count();
        3 - u32::try_from(same).unwrap_or(0)
    }
}
