//! What endpoints are a part of, as Istio tells proxies with each endpoint (`AppendLbEndpointMetadata` in
//! pilot/pkg/networking/util/util.go, `CanonicalService` in pkg/kube/labels, pilot/pkg/serviceregistry).

use std::collections::BTreeMap;

use portolan_model::Workload;

use crate::object::{Meta, Object};
use crate::resources::core::Pod;
use crate::resources::istio::{ServiceEntry, WorkloadEntry};

/// Labels that name the canonical service, the first one first.
const NAMES: &[&str] = &["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
/// And its revision.
const REVISIONS: &[&str] = &["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];

/// What a ReplicaSet's controller writes between the names of Deployment and Pod.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// The group that has made a WorkloadEntry.
const GROUP: &str = "istio.io/autoRegistrationGroup";
/// A label of a WorkloadEntry.
const WORKLOAD_NAME: &str = "service.istio.io/workload-name";

type Labels = BTreeMap<String, String>;

/// An endpoint that a ServiceEntry writes is a workload by its place in the list.
pub(super) fn of_endpoint(entry: &Object<ServiceEntry>, at: usize, labels: &Labels) -> Box<Workload> {
    workload(format!("{}-{at}", entry.meta.name), &entry.meta, labels)
}

/// A ServiceEntry whose host DNS resolves is one workload.
pub(super) fn of_host(entry: &Object<ServiceEntry>) -> Box<Workload> {
    workload(entry.meta.name.clone(), &entry.meta, &Labels::new())
}

/// A WorkloadEntry is one of its group's name, of its label's, or of its own.
pub(super) fn of_workload_entry(entry: &Object<WorkloadEntry>, labels: &Labels) -> Box<Workload> {
    let meta = &entry.meta;
    let name = meta.annotations.get(GROUP).or_else(|| meta.labels.get(WORKLOAD_NAME)).unwrap_or(&meta.name);
    workload(name.clone(), meta, labels)
}

/// A Pod's is its Deployment's, as far as its name tells.
pub(super) fn of_pod(pod: &Object<Pod>) -> Box<Workload> {
    let labels = &pod.meta.labels;
    let hash = labels.get(TEMPLATE_HASH).filter(|hash| !hash.is_empty());
    let deployment = hash.and_then(|hash| pod.meta.name.split_once(&format!("-{hash}-"))).map(|(name, _)| name);
    workload(deployment.unwrap_or(&pod.meta.name).to_owned(), &pod.meta, labels)
}

/// An address in the cluster of which nothing else is known.
pub(super) fn of_nobody() -> Box<Workload> {
    Box::default()
}

fn workload(name: String, meta: &Meta, labels: &Labels) -> Box<Workload> {
    let first = |names: &[&str]| names.iter().find_map(|name| labels.get(*name)).cloned();
    Box::new(Workload {
        canonical_service: first(NAMES).unwrap_or_else(|| name.clone()),
        canonical_revision: first(REVISIONS).unwrap_or_else(|| "latest".to_owned()),
        name,
        namespace: meta.namespace.clone(),
    })
}
