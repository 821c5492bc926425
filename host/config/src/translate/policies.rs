//! [`Policies`]: DestinationRules by host, and the policy that is in force for one cluster.

use std::collections::{BTreeMap, HashMap};

use super::age;
use super::registry::Registry;
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::hosts;
use crate::object::Object;
use crate::resources::istio::DestinationRule;
use crate::resources::istio::destination_rule::{
    ConnectionPool, LoadBalancer, OutlierDetection, Subset, TcpPool, TrafficPolicy,
};
use crate::suggest;

/// Istio's root namespace, whose rules count for hosts of all namespaces.
const ROOT_NAMESPACE: &str = "istio-system";

/// DestinationRules by the full name of their host.
pub(super) struct Policies<'a> {
    by_host: HashMap<String, HostRules<'a>>,
}

/// The rules of one host that count, oldest first: subsets are joined, the first top-level policy wins.
pub(super) struct HostRules<'a> {
    rules: Vec<&'a Object<DestinationRule>>,
}

/// A part of a rule, with the rule and the path for its origin.
pub(super) type Block<'a, T> = (&'a T, &'a Object<DestinationRule>, String);

/// The blocks that are in force for one cluster.
#[derive(Default)]
pub(super) struct InForce<'a> {
    pub(super) load_balancer: Option<Block<'a, LoadBalancer>>,
    pub(super) connection_pool: Option<Block<'a, ConnectionPool>>,
    pub(super) outlier_detection: Option<Block<'a, OutlierDetection>>,
}

impl<'a> Policies<'a> {
    pub(super) fn of(resources: &'a ResourceSet, registry: &Registry<'_>) -> Self {
        let mut rules: Vec<_> = resources.destination_rules().collect();
        rules.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let mut all: BTreeMap<String, BTreeMap<&str, Vec<&Object<DestinationRule>>>> = BTreeMap::new();
        for rule in rules {
            let host = hosts::complete(&rule.spec.host, &rule.meta.namespace);
            all.entry(host).or_default().entry(&rule.meta.namespace).or_default().push(rule);
        }
        let by_host = all.into_iter().map(|(host, by_namespace)| {
            let rules = nearest_namespace(&host, by_namespace, registry);
            (host, HostRules { rules })
        });
        Self { by_host: by_host.collect() }
    }

    /// The rules for a full host name: those with its own name, else those of the narrowest wildcard over it.
    pub(super) fn of_host(&self, host: &str) -> Option<&HostRules<'a>> {
        let over = || hosts::wildcards_over(host).find_map(|wildcard| self.by_host.get(&wildcard));
        self.by_host.get(host).or_else(over)
    }

    /// Rules for hosts that nothing knows, and rules that another one hides.
    pub(super) fn diagnose(&self, registry: &Registry<'_>, resources: &ResourceSet) -> Vec<Diagnostic> {
        let used = routed_hosts(resources);
        let mut found = Vec::new();
        for rule in resources.destination_rules() {
            let host = hosts::complete(&rule.spec.host, &rule.meta.namespace);
            let known = registry.ports(&host).is_some() || used.contains(&host) || host.contains('*');
            if !known {
                found.push(unknown_host(rule, &host, registry));
            }
        }
        let several = self.by_host.values().filter(|rules| rules.rules.len() > 1);
        found.extend(several.flat_map(HostRules::hidden_policies));
        found
    }
}

/// Istio asks the client's namespace, the service's and the root's. The gateway's own namespace is not known here, so
/// rules elsewhere count only when neither of the others has one.
fn nearest_namespace<'a>(
    host: &str,
    mut by_namespace: BTreeMap<&str, Vec<&'a Object<DestinationRule>>>,
    registry: &Registry<'_>,
) -> Vec<&'a Object<DestinationRule>> {
    let in_cluster = || host.split('.').nth(1).filter(|_| host.ends_with(&format!(".svc.{}", hosts::CLUSTER_DOMAIN)));
    let own = registry.namespace(host).or_else(in_cluster);
    let preferred = [own, Some(ROOT_NAMESPACE)].into_iter().flatten().find_map(|n| by_namespace.remove(n));
    preferred.or_else(|| by_namespace.into_values().next()).unwrap_or_default()
}

fn routed_hosts(resources: &ResourceSet) -> std::collections::HashSet<String> {
    let written = resources.virtual_services().flat_map(|object| {
        let http = object.spec.http.iter().flat_map(|rule| &rule.route).map(|entry| &entry.destination);
        let tcp = object.spec.tcp.iter().flat_map(|rule| &rule.route).map(|entry| &entry.destination);
        http.chain(tcp).flatten().map(move |destination| (object, destination))
    });
    written.map(|(object, destination)| hosts::complete(&destination.host, &object.meta.namespace)).collect()
}

fn unknown_host(rule: &Object<DestinationRule>, host: &str, registry: &Registry<'_>) -> Diagnostic {
    let text = format!("no Service, ServiceEntry or route has the host `{}`: this rule has no effect", rule.spec.host);
    let finding = Diagnostic::warning("P0207", rule.place("spec.host"), text);
    match suggest::nearest(host, registry.hosts()) {
        Some(near) => finding.with_help(format!("did you mean `{near}`?")),
        None => finding.with_label(format!("its full name is `{host}`")),
    }
}

impl<'a> HostRules<'a> {
    /// The first rule that defines a subset, and the subset's index there.
    pub(super) fn subset(&self, name: &str) -> Option<(&'a Object<DestinationRule>, usize)> {
        self.rules.iter().find_map(|rule| Some((*rule, rule.spec.subsets.iter().position(|s| s.name == name)?)))
    }

    pub(super) fn subset_names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().flat_map(|rule| &rule.spec.subsets).map(|subset| subset.name.as_str())
    }

    /// The oldest rule.
    pub(super) fn first(&self) -> &'a Object<DestinationRule> {
        // There is no entry without a rule: `Policies::of` makes one of each first rule.
        self.rules[0]
    }

    /// The blocks in force for a port and subset. A subset overrides block by block; the settings of a port replace all
    /// blocks of their level, also by leaving them out.
    pub(super) fn in_force(&self, port: u16, subset: &str) -> InForce<'a> {
        let mut blocks = InForce::default();
        let top = self.rules.iter().find_map(|rule| Some((*rule, rule.spec.traffic_policy.as_ref()?)));
        if let Some((rule, policy)) = top {
            blocks.apply(policy, rule, "spec.trafficPolicy", port);
        }
        if let Some((rule, index)) = self.subset(subset)
            && let Some(policy) = &rule.spec.subsets[index].traffic_policy
        {
            blocks.apply(policy, rule, &format!("spec.subsets[{index}].trafficPolicy"), port);
        }
        blocks
    }

    /// `trafficPolicy.connectionPool.tcp` of the rule whose policy counts; what ports and subsets set does not count here.
    pub(super) fn top_level_tcp(&self) -> Option<&'a TcpPool> {
        let policy = self.rules.iter().find_map(|rule| rule.spec.traffic_policy.as_ref())?;
        policy.connection_pool.as_ref()?.tcp.as_ref()
    }

    fn hidden_policies(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let with_policy = self.rules.iter().filter(|rule| rule.spec.traffic_policy.is_some());
        for (first, rule) in with_policy.clone().zip(with_policy.skip(1)) {
            let text = format!(
                "another DestinationRule for `{}` has a traffic policy: this one has no effect",
                rule.spec.host
            );
            let place = first.key_place("spec.trafficPolicy");
            let label = format!("in force: {}:{}", place.file, place.line);
            found.push(Diagnostic::warning("P0213", rule.key_place("spec.trafficPolicy"), text).with_label(label));
        }
        let mut seen: HashMap<&str, &Object<DestinationRule>> = HashMap::new();
        for rule in &self.rules {
            for (i, Subset { name, .. }) in rule.spec.subsets.iter().enumerate() {
                if let Some(first) = seen.insert(name, rule).filter(|first| !std::ptr::eq(*first, *rule)) {
                    let text = format!("subset `{name}` is defined by an older DestinationRule too, which counts");
                    let place = rule.place(&format!("spec.subsets[{i}].name"));
                    let label = format!("in force: {}", first.origin("spec.subsets").place());
                    found.push(Diagnostic::warning("P0213", place, text).with_label(label));
                }
            }
        }
        found
    }
}

impl<'a> InForce<'a> {
    fn apply(&mut self, policy: &'a TrafficPolicy, rule: &'a Object<DestinationRule>, path: &str, port: u16) {
        let block = |name: &str| format!("{path}.{name}");
        if let Some(lb) = &policy.load_balancer {
            self.load_balancer = Some((lb, rule, block("loadBalancer")));
        }
        if let Some(pool) = &policy.connection_pool {
            self.connection_pool = Some((pool, rule, block("connectionPool")));
        }
        if let Some(outlier) = &policy.outlier_detection {
            self.outlier_detection = Some((outlier, rule, block("outlierDetection")));
        }
        let of_port = |p: &crate::resources::istio::destination_rule::PortPolicy| {
            p.port.as_ref().is_some_and(|selector| selector.number == u32::from(port))
        };
        let Some(index) = policy.port_level_settings.iter().position(of_port) else { return };
        let settings = &policy.port_level_settings[index];
        let block = |name: &str| format!("{path}.portLevelSettings[{index}].{name}");
        self.load_balancer = settings.load_balancer.as_ref().map(|lb| (lb, rule, block("loadBalancer")));
        self.connection_pool = settings.connection_pool.as_ref().map(|pool| (pool, rule, block("connectionPool")));
        self.outlier_detection = settings.outlier_detection.as_ref().map(|o| (o, rule, block("outlierDetection")));
    }
}
