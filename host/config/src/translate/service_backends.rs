//! Addresses of a host's port: from EndpointSlices, Endpoints, Pods, ServiceEntries and WorkloadEntries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use portolan_model::{Address, Origin, Workload};

use super::fits;
use super::locality;
use super::registry::{Provider, Registry, SERVICE_NAME};
use super::workload;
use crate::object::{Meta, Object};
use crate::resources::core::endpoints::{EndpointPort, TargetRef};
use crate::resources::core::service::{ServicePort, TargetPort};
use crate::resources::core::{EndpointSlice, Endpoints, Pod, Service};
use crate::resources::istio::gateway::Port;
use crate::resources::istio::service_entry::WorkloadSelector;
use crate::resources::istio::{ServiceEntry, WorkloadEntry};

/// What addresses of Unix sockets begin with.
const UNIX: &str = "unix://";

type Labels = BTreeMap<String, String>;

/// One address with what is known of it.
pub(super) struct Backend {
    pub(super) address: Address,
    /// None when nobody knows them: such an address belongs to each subset.
    pub(super) labels: Option<Labels>,
    /// What it is a part of; none when nobody has told.
    pub(super) workload: Option<Box<Workload>>,
    /// At least 1.
    pub(super) weight: u32,
    /// `region/zone/subzone`, as much of it as is known.
    pub(super) locality: String,
    pub(super) origin: Origin,
}

/// All addresses of a host's port, each once, in the order of the resources.
pub(super) fn of(registry: &Registry<'_>, host: &str, port: u16) -> Vec<Backend> {
    let backends = registry.providers(host).iter().flat_map(|provider| match provider {
        Provider::Service(service) => of_service(registry, service, host, port),
        Provider::Bare(meta) => of_bare(registry, meta, port),
        Provider::Entry(entry) => of_entry(registry, entry, host, port),
    });
    let mut seen = std::collections::HashSet::new();
    backends.filter(|backend| seen.insert(backend.address.clone())).collect()
}

fn of_service(registry: &Registry<'_>, service: &Object<Service>, host: &str, port: u16) -> Vec<Backend> {
    let Some(written) = service.spec.ports.iter().find(|p| p.port == port) else { return Vec::new() };
    let key = (service.meta.namespace.as_str(), service.meta.name.as_str());
    let fits_port = |p: &EndpointPort| p.name.as_deref().unwrap_or("") == written.name || service.spec.ports.len() == 1;
    if let Some(slices) = registry.slices.get(&key) {
        return slices.iter().flat_map(|slice| of_slice(registry, slice, &fits_port)).collect();
    }
    if let Some(endpoints) = registry.endpoints.get(&key) {
        let unready = service.spec.publish_not_ready_addresses;
        return of_endpoints(registry, endpoints, unready, &fits_port);
    }
    let selector = &service.spec.selector;
    let pods = registry.pods_by_namespace.get(key.0).map(Vec::as_slice).unwrap_or_default();
    if !selector.is_empty() && !pods.is_empty() {
        let chosen = pods.iter().filter(|pod| fits(selector, &pod.meta.labels));
        let chosen = chosen.filter(|pod| service.spec.publish_not_ready_addresses || is_ready(pod));
        return chosen.filter_map(|pod| of_pod(pod, written)).collect();
    }
    vec![by_dns(service, host, written)]
}

/// A Service of which the configuration knows no address at all: its name in DNS is its address.
fn by_dns(service: &Object<Service>, host: &str, port: &ServicePort) -> Backend {
    let external =
        service.spec.external_name.clone().filter(|_| service.spec.service_type.as_deref() == Some("ExternalName"));
    let headless = service.spec.cluster_ip.as_deref() == Some("None");
    let number = match &port.target_port {
        Some(TargetPort::Number(number)) if headless => *number,
        _ => port.port,
    };
    let address = Address::Dns { host: external.unwrap_or_else(|| host.to_owned()), port: number };
    let workload = Some(workload::of_nobody());
    Backend { address, labels: None, workload, weight: 1, locality: String::new(), origin: service.origin("") }
}

fn of_bare(registry: &Registry<'_>, meta: &Meta, port: u16) -> Vec<Backend> {
    let name = meta.labels.get(SERVICE_NAME).unwrap_or(&meta.name).as_str();
    let key = (meta.namespace.as_str(), name);
    let fits_port = |p: &EndpointPort| p.port == Some(port);
    if let Some(slices) = registry.slices.get(&key) {
        return slices.iter().flat_map(|slice| of_slice(registry, slice, &fits_port)).collect();
    }
    registry.endpoints.get(&key).map(|e| of_endpoints(registry, e, false, &fits_port)).unwrap_or_default()
}

fn of_slice(
    registry: &Registry<'_>,
    slice: &Object<EndpointSlice>,
    fits_port: &impl Fn(&EndpointPort) -> bool,
) -> Vec<Backend> {
    let Some(port) = slice.spec.ports.iter().find(|p| fits_port(p)).and_then(|p| p.port) else { return Vec::new() };
    let mut backends = Vec::new();
    for (i, endpoint) in slice.spec.endpoints.iter().enumerate() {
        if endpoint.conditions.ready == Some(false) {
            continue;
        }
        // Kubernetes says that the addresses of one endpoint are interchangeable and uses the first.
        let Some(text) = endpoint.addresses.first() else { continue };
        let pod = pod(registry, &slice.meta.namespace, endpoint.target_ref.as_ref(), text);
        let node = endpoint.node_name.as_ref().or_else(|| pod?.spec.spec.node_name.as_ref());
        let labels = with_node(pod.map(|pod| pod.meta.labels.clone()).unwrap_or_default(), node);
        let locality = locality::of_labels(&labels);
        // A slice knows no region, and writes the zone only.
        let of_slice = || endpoint.zone.as_ref().map(|zone| format!("/{zone}"));
        backends.push(Backend {
            address: address(text, port),
            locality: Some(locality).filter(|l| !l.is_empty()).or_else(of_slice).unwrap_or_default(),
            labels: Some(labels),
            workload: Some(pod.map_or_else(workload::of_nobody, workload::of_pod)),
            weight: 1,
            origin: slice.origin(&format!("endpoints[{i}]")),
        });
    }
    backends
}

fn of_endpoints(
    registry: &Registry<'_>,
    object: &Object<Endpoints>,
    unready: bool,
    fits_port: &impl Fn(&EndpointPort) -> bool,
) -> Vec<Backend> {
    let mut backends = Vec::new();
    for (i, subset) in object.spec.subsets.iter().enumerate() {
        let Some(port) = subset.ports.iter().find(|p| fits_port(p)).and_then(|p| p.port) else { continue };
        let ready = subset.addresses.iter().enumerate().map(|(j, a)| ("addresses", j, a));
        let not_ready = subset.not_ready_addresses.iter().enumerate().filter(|_| unready);
        for (field, j, entry) in ready.chain(not_ready.map(|(j, a)| ("notReadyAddresses", j, a))) {
            let pod = pod(registry, &object.meta.namespace, entry.target_ref.as_ref(), &entry.ip);
            let labels = pod.map(|pod| pod.meta.labels.clone()).unwrap_or_default();
            backends.push(Backend {
                address: address(&entry.ip, port),
                locality: locality::of_labels(&labels),
                labels: Some(labels),
                workload: Some(pod.map_or_else(workload::of_nobody, workload::of_pod)),
                weight: 1,
                origin: object.origin(&format!("subsets[{i}].{field}[{j}]")),
            });
        }
    }
    backends
}

/// Labels with the node's, as Istio completes them.
fn with_node(mut labels: Labels, node: Option<&String>) -> Labels {
    if let Some(node) = node {
        labels.insert(locality::HOSTNAME.to_owned(), node.clone());
    }
    labels
}

fn pod<'a>(
    registry: &'a Registry<'_>,
    namespace: &str,
    target: Option<&TargetRef>,
    ip: &str,
) -> Option<&'a Object<Pod>> {
    let named = target.filter(|target| target.kind == "Pod" || target.kind.is_empty()).and_then(|target| {
        let namespace = if target.namespace.is_empty() { namespace } else { &target.namespace };
        registry.pods_by_name.get(&(namespace, target.name.as_str()))
    });
    named.or_else(|| registry.pods_by_ip.get(ip)).copied()
}

fn of_pod(pod: &Object<Pod>, port: &ServicePort) -> Option<Backend> {
    let number = match &port.target_port {
        None => port.port,
        Some(TargetPort::Number(number)) => *number,
        Some(TargetPort::Name(name)) => {
            let mut ports = pod.spec.spec.containers.iter().flat_map(|container| &container.ports);
            ports.find(|p| p.name.as_ref() == Some(name))?.container_port
        }
    };
    let ip: IpAddr = pod.spec.status.pod_ip.parse().ok()?;
    let address = Address::Socket(SocketAddr::new(ip, number));
    let locality = locality::of_labels(&pod.meta.labels);
    let workload = Some(workload::of_pod(pod));
    Some(Backend {
        address,
        labels: Some(with_node(pod.meta.labels.clone(), pod.spec.spec.node_name.as_ref())),
        workload,
        weight: 1,
        locality,
        origin: pod.origin(""),
    })
}

/// A Pod written by hand has no conditions: it counts as ready.
fn is_ready(pod: &Object<Pod>) -> bool {
    let status = &pod.spec.status;
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    !over && status.conditions.iter().find(|c| c.condition_type == "Ready").is_none_or(|c| c.status == "True")
}

fn of_entry(registry: &Registry<'_>, entry: &Object<ServiceEntry>, host: &str, port: u16) -> Vec<Backend> {
    let Some(written) = entry.spec.ports.iter().find(|p| p.number == u32::from(port)) else { return Vec::new() };
    let resolves = match entry.spec.resolution.as_deref() {
        Some("STATIC") => false,
        Some("DNS" | "DNS_ROUND_ROBIN") => true,
        // NONE has no address at a gateway, and with DYNAMIC_DNS each request has its own.
        _ => return Vec::new(),
    };
    if let Some(selector) = &entry.spec.workload_selector {
        return of_selector(registry, entry, selector, written);
    }
    if entry.spec.endpoints.is_empty() && resolves {
        let address = Address::Dns { host: host.to_owned(), port: entry_port(written, None) };
        let origin = entry.origin("spec.hosts");
        let (labels, workload) = (None, Some(workload::of_host(entry)));
        return vec![Backend { address, labels, workload, weight: 1, locality: String::new(), origin }];
    }
    let endpoints = entry.spec.endpoints.iter().enumerate();
    let of = |(i, w): (usize, &WorkloadEntry)| {
        let backend = of_workload(w, written, entry.origin(&format!("spec.endpoints[{i}]")))?;
        Some(Backend { workload: Some(workload::of_endpoint(entry, i, &w.labels)), ..backend })
    };
    endpoints.filter_map(of).collect()
}

fn of_selector(
    registry: &Registry<'_>,
    entry: &Object<ServiceEntry>,
    selector: &WorkloadSelector,
    port: &Port,
) -> Vec<Backend> {
    let namespace = entry.meta.namespace.as_str();
    let workloads = registry.workloads.get(namespace).into_iter().flatten();
    let workloads = workloads.filter(|w| fits(&selector.labels, &labels_of(w)));
    let mut backends: Vec<Backend> = workloads
        .filter_map(|w| {
            let (backend, labels) = (of_workload(&w.spec, port, w.origin(""))?, labels_of(w));
            Some(Backend { workload: Some(workload::of_workload_entry(w, &labels)), labels: Some(labels), ..backend })
        })
        .collect();
    let pods = registry.pods_by_namespace.get(namespace).into_iter().flatten();
    for pod in pods.filter(|pod| fits(&selector.labels, &pod.meta.labels) && is_ready(pod)) {
        let Ok(ip) = pod.spec.status.pod_ip.parse::<IpAddr>() else { continue };
        let address = Address::Socket(SocketAddr::new(ip, entry_port(port, None)));
        let (labels, locality) = (Some(pod.meta.labels.clone()), locality::of_labels(&pod.meta.labels));
        let workload = Some(workload::of_pod(pod));
        backends.push(Backend { address, labels, workload, weight: 1, locality, origin: pod.origin("") });
    }
    backends
}

/// Labels of the workload, and of its object for what it leaves out.
fn labels_of(entry: &Object<WorkloadEntry>) -> Labels {
    let mut labels = entry.meta.labels.clone();
    labels.extend(entry.spec.labels.clone());
    labels
}

fn of_workload(workload: &WorkloadEntry, port: &Port, origin: Origin) -> Option<Backend> {
    let text = workload.address.as_deref().filter(|a| !a.is_empty())?;
    let address = match text.strip_prefix(UNIX) {
        Some(path) => Address::Pipe(path.to_owned()),
        None => address(text, entry_port(port, Some(workload))),
    };
    let weight = workload.weight.unwrap_or(1).max(1);
    let written = workload.locality.clone().filter(|locality| !locality.is_empty());
    let locality = written.unwrap_or_else(|| locality::of_labels(&workload.labels));
    Some(Backend { address, labels: Some(workload.labels.clone()), workload: None, weight, locality, origin })
}

/// Where hosts of a ServiceEntry listen for this port.
pub(super) fn target_port(entry: &ServiceEntry, port: u16) -> Option<u16> {
    Some(entry_port(entry.ports.iter().find(|written| written.number == u32::from(port))?, None))
}

/// The workload's own port of that name, else the target port, else the port.
fn entry_port(port: &Port, workload: Option<&WorkloadEntry>) -> u16 {
    let own = workload.and_then(|w| w.ports.get(&port.name).copied());
    let number = own.or(port.target_port.filter(|target| *target != 0)).unwrap_or(port.number);
    u16::try_from(number).unwrap_or_default()
}

fn address(text: &str, port: u16) -> Address {
    match text.parse::<IpAddr>() {
        Ok(ip) => Address::Socket(SocketAddr::new(ip, port)),
        Err(_) => Address::Dns { host: text.to_owned(), port },
    }
}

/// Names of the labels that some backend of a host has, for messages.
pub(super) fn known_labels(backends: &[Backend]) -> BTreeSet<String> {
    let all = backends.iter().filter_map(|backend| backend.labels.as_ref()).flatten();
    all.map(|(name, value)| format!("{name}={value}")).collect()
}
