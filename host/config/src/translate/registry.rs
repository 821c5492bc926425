//! [`Registry`]: hosts that Services, Endpoints and ServiceEntries define, and their ports.

use std::collections::HashMap;

use super::age;
use super::port_protocol::PortProtocol;
use super::visibility::Visibility;
use crate::ResourceSet;
use crate::hosts;
use crate::object::{Meta, Object};
use crate::resources::core::{EndpointSlice, Endpoints, Pod, Service};
use crate::resources::istio::{ServiceEntry, WorkloadEntry};

/// Label of a slice that names its Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Hosts by full name, and the objects with addresses by the names that lead to them.
pub(super) struct Registry<'a> {
    by_host: HashMap<String, Vec<Provider<'a>>>,
    pub(super) slices: HashMap<(&'a str, &'a str), Vec<&'a Object<EndpointSlice>>>,
    pub(super) endpoints: HashMap<(&'a str, &'a str), &'a Object<Endpoints>>,
    pub(super) pods_by_name: HashMap<(&'a str, &'a str), &'a Object<Pod>>,
    pub(super) pods_by_ip: HashMap<&'a str, &'a Object<Pod>>,
    pub(super) pods_by_namespace: HashMap<&'a str, Vec<&'a Object<Pod>>>,
    pub(super) workloads: HashMap<&'a str, Vec<&'a Object<WorkloadEntry>>>,
}

/// An object that defines a host.
#[derive(Clone, Copy)]
pub(super) enum Provider<'a> {
    Service(&'a Object<Service>),
    /// Endpoints or slices without a Service.
    Bare(&'a Meta),
    Entry(&'a Object<ServiceEntry>),
}

impl<'a> Registry<'a> {
    pub(super) fn of(resources: &'a ResourceSet, visibility: &Visibility) -> Self {
        let mut registry = Self {
            by_host: HashMap::new(),
            slices: group(resources.endpoint_slices().filter_map(|slice| {
                Some(((slice.meta.namespace.as_str(), slice.meta.labels.get(SERVICE_NAME)?.as_str()), slice))
            })),
            endpoints: resources.endpoints().map(|e| ((e.meta.namespace.as_str(), e.meta.name.as_str()), e)).collect(),
            pods_by_name: resources.pods().map(|p| ((p.meta.namespace.as_str(), p.meta.name.as_str()), p)).collect(),
            pods_by_ip: resources.pods().map(|pod| (pod.spec.status.pod_ip.as_str(), pod)).collect(),
            pods_by_namespace: group(resources.pods().map(|pod| (pod.meta.namespace.as_str(), pod))),
            workloads: group(resources.workload_entries().map(|entry| (entry.meta.namespace.as_str(), entry))),
        };
        registry.add_services(resources, visibility);
        registry.add_entries(resources, visibility);
        registry
    }

    fn add_services(&mut self, resources: &'a ResourceSet, visibility: &Visibility) {
        for service in resources.services() {
            let host = hosts::complete(&service.meta.name, &service.meta.namespace);
            let providers = self.by_host.entry(host).or_default();
            if visibility.sees_service(&service.meta) {
                providers.push(Provider::Service(service));
            }
        }
        let bare = resources.endpoints().map(|e| (e.meta.name.as_str(), &*e.meta));
        let slices = resources.endpoint_slices();
        let bare = bare.chain(slices.filter_map(|s| Some((s.meta.labels.get(SERVICE_NAME)?.as_str(), &*s.meta))));
        for (name, meta) in bare {
            // A Service that is there, if only for others, has them for itself.
            self.by_host.entry(hosts::complete(name, &meta.namespace)).or_insert_with(|| vec![Provider::Bare(meta)]);
        }
    }

    fn add_entries(&mut self, resources: &'a ResourceSet, visibility: &Visibility) {
        let mut entries: Vec<_> = resources.service_entries().collect();
        entries.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        for entry in entries {
            for host in &entry.spec.hosts {
                let providers = self.by_host.entry(host.to_ascii_lowercase()).or_default();
                if visibility.sees_entry(&entry.meta, &entry.spec.export_to) {
                    providers.push(Provider::Entry(entry));
                }
            }
        }
    }

    /// Who defines a host, first the Service, then ServiceEntries by age.
    pub(super) fn providers(&self, host: &str) -> &[Provider<'a>] {
        self.by_host.get(host).map(Vec::as_slice).unwrap_or_default()
    }

    /// True when all that defines a host is for other namespaces: there is no such service here, and DNS is not asked.
    pub(super) fn is_hidden(&self, host: &str) -> bool {
        self.by_host.get(host).is_some_and(Vec::is_empty)
    }

    /// The ports of a host in order; none when nothing defines it.
    pub(super) fn ports(&self, host: &str) -> Option<Vec<u16>> {
        let providers = self.by_host.get(host)?;
        let mut ports: Vec<u16> = providers.iter().flat_map(|provider| self.ports_of(*provider)).collect();
        ports.sort_unstable();
        ports.dedup();
        Some(ports)
    }

    fn ports_of(&self, provider: Provider<'a>) -> Vec<u16> {
        match provider {
            Provider::Service(service) => service.spec.ports.iter().map(|port| port.port).collect(),
            Provider::Entry(entry) => entry.spec.ports.iter().filter_map(|p| u16::try_from(p.number).ok()).collect(),
            Provider::Bare(meta) => self.bare_ports(meta),
        }
    }

    fn bare_ports(&self, meta: &'a Meta) -> Vec<u16> {
        let name = meta.labels.get(SERVICE_NAME).unwrap_or(&meta.name).as_str();
        let key = (meta.namespace.as_str(), name);
        let slices = self.slices.get(&key).into_iter().flatten().flat_map(|slice| &slice.spec.ports);
        let subsets = self.endpoints.get(&key).into_iter().flat_map(|e| &e.spec.subsets).flat_map(|s| &s.ports);
        slices.chain(subsets).filter_map(|port| port.port).collect()
    }

    /// What a port speaks; none when nothing that defines the host names the port.
    pub(super) fn port_protocol(&self, host: &str, port: u16) -> Option<PortProtocol> {
        self.providers(host).iter().find_map(|provider| match provider {
            Provider::Service(service) => {
                let port = service.spec.ports.iter().find(|written| written.port == port)?;
                Some(PortProtocol::of_service(&port.name, port.app_protocol.as_deref()))
            }
            Provider::Entry(entry) => {
                let port = entry.spec.ports.iter().find(|written| written.number == u32::from(port))?;
                Some(PortProtocol::parse(&port.protocol))
            }
            Provider::Bare(_) => None,
        })
    }

    /// Namespace of the object that defines a host.
    pub(super) fn namespace(&self, host: &str) -> Option<&'a str> {
        Some(match self.by_host.get(host)?.first()? {
            Provider::Service(service) => service.meta.namespace.as_str(),
            Provider::Entry(entry) => entry.meta.namespace.as_str(),
            Provider::Bare(meta) => meta.namespace.as_str(),
        })
    }

    /// The host itself when something defines it.
    pub(super) fn name(&self, host: &str) -> Option<&str> {
        self.by_host.get_key_value(host).map(|(host, _)| host.as_str())
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.by_host.keys().map(String::as_str)
    }

    pub(super) fn len(&self) -> usize {
        self.by_host.len()
    }
}

fn group<K: std::hash::Hash + Eq, V>(pairs: impl Iterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    let mut groups: HashMap<K, Vec<V>> = HashMap::new();
    for (key, value) in pairs {
        groups.entry(key).or_default().push(value);
    }
    groups
}
