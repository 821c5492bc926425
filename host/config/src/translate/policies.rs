//! [`Policies`]: DestinationRules by host, and the policy that is in force for one cluster.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::age;
use super::registry::{Provider, Registry};
use super::visibility::Visibility;
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::hosts;
use crate::object::Object;
use crate::resources::istio::DestinationRule;
use crate::resources::istio::destination_rule::{
    ClientTls, ConnectionPool, LoadBalancer, OutlierDetection, ProxyProtocol, RetryBudget, Subset, TcpPool,
    TrafficPolicy,
};
use crate::suggest;

/// DestinationRules by who owns them and the full name of their host.
pub(super) struct Policies<'a> {
    registry: &'a Registry<'a>,
    visibility: &'a Visibility,
    /// What clients of the gateway's namespace find there. In the root namespace only what is for it alone: its other
    /// rules come last, so that they do not hide those beside the services.
    own: Rules<'a>,
    /// By namespace: what it exports.
    exported: BTreeMap<&'a str, Rules<'a>>,
    /// Of each host the rules of the first namespace that has some: for hosts that nothing defines, as Istio has none.
    anywhere: Rules<'a>,
}

/// Rules of one namespace by the full name of their host. One without rules has some that the gateway does not see.
#[derive(Default)]
struct Rules<'a> {
    by_host: HashMap<String, HostRules<'a>>,
    wildcards: bool,
}

/// The rules of one host that count, oldest first: subsets are joined, the first top-level policy wins.
#[derive(Clone, Default)]
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
    pub(super) tls: Option<Block<'a, ClientTls>>,
    /// Not of a port: `portLevelSettings` have none, and reset it.
    pub(super) retry_budget: Option<&'a RetryBudget>,
    pub(super) proxy_protocol: Option<Block<'a, ProxyProtocol>>,
}

impl<'a> Policies<'a> {
    pub(super) fn of(resources: &'a ResourceSet, registry: &'a Registry<'a>, visibility: &'a Visibility) -> Self {
        let mut rules: Vec<_> = resources.destination_rules().collect();
        rules.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let mut policies =
            Self { registry, visibility, own: Rules::default(), exported: BTreeMap::new(), anywhere: Rules::default() };
        let in_root = visibility.gateway == visibility.root;
        for rule in rules {
            let scope = visibility.of_rule(&rule.meta, &rule.spec.export_to);
            let namespace = rule.meta.namespace.as_str();
            if namespace == visibility.gateway && scope.local && !(in_root && scope.exported) {
                policies.own.add(rule, true);
            }
            if scope.exported {
                policies.exported.entry(namespace).or_default().add(rule, scope.seen);
            }
        }
        for rules in policies.exported.values() {
            policies.anywhere.add_missing(rules);
        }
        policies
    }

    /// The rules for a full host name: of the gateway's namespace, else the service's, else the root's. In each those
    /// with its own name, else those of the narrowest wildcard over it.
    pub(super) fn of_host(&self, host: &str) -> Option<&HostRules<'a>> {
        let namespace = self.registry.namespace(host).or_else(|| in_cluster(host));
        let of_service = namespace.and_then(|namespace| self.exported.get(namespace));
        let places = [Some(&self.own), of_service, self.exported.get(self.visibility.root.as_str())];
        let found = places.into_iter().flatten().find_map(|rules| rules.of_host(host));
        found.or_else(|| if namespace.is_none() { self.anywhere.of_host(host) } else { None })
    }

    /// Rules for hosts that nothing knows, rules that another one hides, and rules where nobody looks for them.
    pub(super) fn diagnose(&self, registry: &Registry<'_>, resources: &ResourceSet) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        if resources.destination_rules().next().is_none() {
            return found;
        }
        let used = routed_hosts(resources);
        for rule in resources.destination_rules() {
            let host = hosts::complete(&rule.spec.host, &rule.meta.namespace);
            let known = registry.ports(&host).is_some() || used.contains(&host) || host.contains('*');
            found.extend(of_dynamic_hosts(rule, &host, registry));
            if !known {
                found.push(unknown_host(rule, &host, registry));
            } else if used.contains(&host) {
                found.extend(self.not_found(rule, &host));
            }
        }
        let all = std::iter::once(&self.own).chain(self.exported.values());
        let several = all.flat_map(|rules| rules.by_host.values()).filter(|rules| rules.rules.len() > 1);
        found.extend(several.flat_map(HostRules::hidden_policies));
        found
    }

    /// A rule of a routed host that has no effect for where it is, or for whom it is.
    fn not_found(&self, rule: &Object<DestinationRule>, host: &str) -> Option<Diagnostic> {
        let counting = self.of_host(host);
        if counting.is_some_and(|rules| rules.rules.iter().any(|counting| std::ptr::eq(*counting, rule))) {
            return None;
        }
        let scope = self.visibility.of_rule(&rule.meta, &rule.spec.export_to);
        let text =
            format!("this rule has no effect at this gateway, which is in namespace `{}`", self.visibility.gateway);
        let label = match counting {
            _ if !scope.seen => "`exportTo` keeps that namespace out".to_owned(),
            Some(rules) => format!("another rule counts: {}", rules.first().origin("").place()),
            None => {
                let service = self.registry.namespace(host).or_else(|| in_cluster(host)).unwrap_or_default();
                let namespaces = [&self.visibility.gateway, service, &self.visibility.root];
                format!("looked for in: {}", suggest::list(namespaces.into_iter().filter(|name| !name.is_empty())))
            }
        };
        Some(Diagnostic::warning("P0322", rule.key_place("spec.host"), text).with_label(label))
    }
}

/// Endpoints of hosts that requests name are nobody's to put aside.
fn of_dynamic_hosts(rule: &Object<DestinationRule>, host: &str, registry: &Registry<'_>) -> Option<Diagnostic> {
    let Some(Provider::Entry(entry)) = registry.providers(host).first() else { return None };
    let ejects = rule.spec.traffic_policy.as_ref().is_some_and(|policy| policy.outlier_detection.is_some());
    if !ejects || entry.spec.resolution.as_deref() != Some("DYNAMIC_DNS") {
        return None;
    }
    let place = rule.key_place("spec.trafficPolicy.outlierDetection");
    Some(Diagnostic::warning("P0323", place, "outlier detection is not served with resolution DYNAMIC_DNS"))
}

/// The namespace in the name of a service of the cluster.
fn in_cluster(host: &str) -> Option<&str> {
    let name = host.strip_suffix(hosts::CLUSTER_DOMAIN)?.strip_suffix(".svc.")?;
    name.split_once('.').map(|(_, namespace)| namespace).filter(|namespace| !namespace.contains('.'))
}

impl<'a> Rules<'a> {
    fn add(&mut self, rule: &'a Object<DestinationRule>, seen: bool) {
        let host = hosts::complete(&rule.spec.host, &rule.meta.namespace);
        self.wildcards |= host.starts_with('*');
        let rules = self.by_host.entry(host).or_default();
        if seen {
            rules.rules.push(rule);
        }
    }

    fn add_missing(&mut self, others: &Self) {
        self.wildcards |= others.wildcards;
        for (host, rules) in others.by_host.iter().filter(|(_, rules)| !rules.rules.is_empty()) {
            self.by_host.entry(host.clone()).or_insert_with(|| rules.clone());
        }
    }

    fn of_host(&self, host: &str) -> Option<&HostRules<'a>> {
        let over = || hosts::wildcards_over(host).find_map(|wildcard| self.by_host.get(&wildcard));
        let found = self.by_host.get(host).or_else(|| if self.wildcards { over() } else { None });
        found.filter(|rules| !rules.rules.is_empty())
    }
}

fn routed_hosts(resources: &ResourceSet) -> HashSet<String> {
    let written = resources.virtual_services().flat_map(|object| {
        let http = object.spec.http.iter().flat_map(|rule| &rule.route).map(|entry| &entry.destination);
        let tcp = object.spec.tcp.iter().flat_map(|rule| &rule.route).map(|entry| &entry.destination);
        http.chain(tcp).flatten().map(move |destination| (object, destination))
    });
    // Many routes have few destinations.
    let written: HashSet<_> =
        written.map(|(object, destination)| (destination.host.as_str(), object.meta.namespace.as_str())).collect();
    written.into_iter().map(|(host, namespace)| hosts::complete(host, namespace)).collect()
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

    /// All rules, oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Object<DestinationRule>> {
        self.rules.iter().copied()
    }

    /// The oldest rule.
    pub(super) fn first(&self) -> &'a Object<DestinationRule> {
        // Those without a rule are not handed out.
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

    /// `trafficPolicy.tunnel` of the subset, else of the rule whose policy counts: as in Istio a subset has none but its own.
    pub(super) fn tunnel(&self, subset: &str) -> Option<&'a serde_yaml::Value> {
        let policy = if subset.is_empty() {
            self.rules.iter().find_map(|rule| rule.spec.traffic_policy.as_ref())
        } else {
            let mut subsets = self.rules.iter().flat_map(|rule| &rule.spec.subsets);
            subsets.find(|known| known.name == subset)?.traffic_policy.as_ref()
        };
        policy?.tunnel.as_ref()
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
        if let Some(tls) = &policy.tls {
            self.tls = Some((tls, rule, block("tls")));
        }
        self.retry_budget = policy.retry_budget.as_ref().or(self.retry_budget);
        if let Some(proxy) = &policy.proxy_protocol {
            self.proxy_protocol = Some((proxy, rule, block("proxyProtocol")));
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
        self.tls = settings.tls.as_ref().map(|tls| (tls, rule, block("tls")));
    }
}
