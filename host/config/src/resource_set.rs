//! [`ResourceSet`]: the objects in force, by kind, namespace and name.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::document::FileReading;
use crate::kind::{Kind, Resource};
use crate::object::Object;
use crate::resources::core::{ConfigMap, EndpointSlice, Endpoints, Namespace, Pod, Secret, Service};
use crate::resources::istio::{
    AuthorizationPolicy, DestinationRule, Gateway, IstioOperator, MeshConfig, RequestAuthentication, ServiceEntry,
    Telemetry, TrafficExtension, VirtualService, WasmPlugin, WorkloadEntry,
};
use crate::update::ObjectStatus;

/// The objects in force. Iterates in order of namespace and name, whatever file they come from.
#[derive(Debug, Default)]
pub struct ResourceSet {
    pub(crate) active: BTreeMap<Arc<ObjectId>, Kept>,
    pub(crate) statuses: Arc<[ObjectStatus]>,
    /// Another number, never given out before, whenever objects have moved within their files, which changes nothing else.
    pub(crate) lines: u64,
    /// What the files said, by name, with the hash of their text.
    pub(crate) readings: HashMap<Arc<str>, ([u8; 32], Arc<FileReading>)>,
}

/// An object in force.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) object: ActiveObject,
    /// The file that speaks of it now, which need not be the one that its places are in.
    pub(crate) file: Arc<str>,
}

/// Kind, namespace and name: what makes two objects the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Kind.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectId {
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// An `Object<T>` of any `T`, as it is kept.
pub(crate) type ActiveObject = Arc<dyn Any + Send + Sync>;

impl ResourceSet {
    /// Istio Gateways.
    pub fn gateways(&self) -> impl Iterator<Item = &Object<Gateway>> {
        self.all()
    }

    /// Istio VirtualServices.
    pub fn virtual_services(&self) -> impl Iterator<Item = &Object<VirtualService>> {
        self.all()
    }

    /// Istio DestinationRules.
    pub fn destination_rules(&self) -> impl Iterator<Item = &Object<DestinationRule>> {
        self.all()
    }

    /// Istio ServiceEntries.
    pub fn service_entries(&self) -> impl Iterator<Item = &Object<ServiceEntry>> {
        self.all()
    }

    /// Istio WorkloadEntries.
    pub fn workload_entries(&self) -> impl Iterator<Item = &Object<WorkloadEntry>> {
        self.all()
    }

    /// Istio WasmPlugins.
    pub fn wasm_plugins(&self) -> impl Iterator<Item = &Object<WasmPlugin>> {
        self.all()
    }

    /// Istio TrafficExtensions.
    pub fn traffic_extensions(&self) -> impl Iterator<Item = &Object<TrafficExtension>> {
        self.all()
    }

    /// Istio Telemetries.
    pub fn telemetries(&self) -> impl Iterator<Item = &Object<Telemetry>> {
        self.all()
    }

    /// Istio RequestAuthentications.
    pub fn request_authentications(&self) -> impl Iterator<Item = &Object<RequestAuthentication>> {
        self.all()
    }

    /// Istio AuthorizationPolicies.
    pub fn authorization_policies(&self) -> impl Iterator<Item = &Object<AuthorizationPolicy>> {
        self.all()
    }

    /// Istio's installation resources.
    pub fn operators(&self) -> impl Iterator<Item = &Object<IstioOperator>> {
        self.all()
    }

    /// Istio's mesh configuration: key `mesh` of the ConfigMap `istio`, `istio-system`'s first. Its places point at
    /// the text as a whole, for it is a text within a text.
    pub fn mesh_config(&self) -> Option<Object<MeshConfig>> {
        let holds_mesh = |map: &&Object<ConfigMap>| map.meta.name == "istio" && map.spec.data.contains_key("mesh");
        let system = self.get::<ConfigMap>("istio-system", "istio").filter(holds_mesh);
        let map = system.or_else(|| self.all::<ConfigMap>().find(holds_mesh))?;
        let spec = serde_yaml::from_str(map.spec.data.get("mesh")?).ok()?;
        Some(Object { meta: map.meta.clone(), spec, places: map.places.clone() })
    }

    /// Kubernetes Services.
    pub fn services(&self) -> impl Iterator<Item = &Object<Service>> {
        self.all()
    }

    /// Kubernetes Endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &Object<Endpoints>> {
        self.all()
    }

    /// Kubernetes EndpointSlices.
    pub fn endpoint_slices(&self) -> impl Iterator<Item = &Object<EndpointSlice>> {
        self.all()
    }

    /// Kubernetes Pods.
    pub fn pods(&self) -> impl Iterator<Item = &Object<Pod>> {
        self.all()
    }

    /// Kubernetes Namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &Object<Namespace>> {
        self.all()
    }

    /// Kubernetes Secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &Object<Secret>> {
        self.all()
    }

    /// All objects of one kind, in order of namespace and name.
    pub fn all<T: Resource>(&self) -> impl Iterator<Item = &Object<T>> {
        let first = ObjectId::new(T::KIND, "", "");
        let of_kind = self.active.range::<ObjectId, _>(first..).take_while(|(id, _)| id.kind == T::KIND);
        of_kind.filter_map(|(_, kept)| kept.object.downcast_ref())
    }

    /// One object by namespace and name, e.g. `resources.get::<Service>("default", "reviews")`.
    pub fn get<T: Resource>(&self, namespace: &str, name: &str) -> Option<&Object<T>> {
        self.active.get(&ObjectId::new(T::KIND, namespace, name))?.object.downcast_ref()
    }

    /// Puts an object in, in place of one of the same name; for tests and for sources other than files.
    pub fn insert<T: Resource>(&mut self, object: Object<T>) {
        let id = ObjectId::new(T::KIND, &object.meta.namespace, &object.meta.name);
        let file = object.places.file().clone();
        self.active.insert(Arc::new(id), Kept { object: Arc::new(object), file });
    }
}
