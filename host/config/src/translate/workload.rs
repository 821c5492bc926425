//! What endpoints are a part of, as Istio tells proxies with each endpoint (pilot/pkg/networking/util/util.go,
//! pilot/pkg/serviceregistry).

use std::collections::BTreeMap;

use portolan_model::Workload;

use crate::object::{Meta, Object};
use crate::resources::core::Pod;

const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";

/// What a ReplicaSet's controller writes between the names of Deployment and Pod.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// An address of a ServiceEntry or WorkloadEntry is a workload of that object's name.
pub(super) fn of_entry(meta: &Meta, labels: &BTreeMap<String, String>) -> Box<Workload> {
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    Box::new(Workload {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        canonical_service: label(CANONICAL_NAME),
        canonical_revision: label(CANONICAL_REVISION),
    })
}

/// A Pod's is its Deployment's, as far as its name tells. The canonical names are those that Istio writes into Pods where
/// they are not written yet.
pub(super) fn of_pod(pod: &Object<Pod>) -> Box<Workload> {
    let labels = &pod.meta.labels;
    let first = |names: &[&str]| names.iter().find_map(|name| labels.get(*name)).cloned();
    let hash = labels.get(TEMPLATE_HASH).filter(|hash| !hash.is_empty());
    let deployment = hash.and_then(|hash| pod.meta.name.split_once(&format!("-{hash}-"))).map(|(name, _)| name);
    let name = deployment.unwrap_or(&pod.meta.name).to_owned();
    Box::new(Workload {
        canonical_service: first(&[CANONICAL_NAME, "app.kubernetes.io/name", "app"]).unwrap_or_else(|| name.clone()),
        canonical_revision: first(&[CANONICAL_REVISION, "app.kubernetes.io/version", "version"])
            .unwrap_or_else(|| "latest".to_owned()),
        name,
        namespace: pod.meta.namespace.clone(),
    })
}
