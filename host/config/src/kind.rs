//! [`Kind`]: the kinds that are read, their API versions and how each is taken in.

use serde::de::DeserializeOwned;

use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::core::{ConfigMap, EndpointSlice, Endpoints, Namespace, Pod, Secret, Service};
use crate::resources::istio::{
    AuthorizationPolicy, DestinationRule, Gateway, IstioOperator, MeshConfig, RequestAuthentication, ServiceEntry,
    Telemetry, TrafficExtension, VirtualService, WasmPlugin, WorkloadEntry,
};
use crate::validate;

const NETWORKING: &[&str] = &["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Istio Gateway.
    Gateway,
    /// Istio VirtualService.
    VirtualService,
    /// Istio DestinationRule.
    DestinationRule,
    /// Istio ServiceEntry.
    ServiceEntry,
    /// Istio WorkloadEntry.
    WorkloadEntry,
    /// Istio WasmPlugin.
    WasmPlugin,
    /// Istio TrafficExtension.
    TrafficExtension,
    /// Istio Telemetry.
    Telemetry,
    /// Istio RequestAuthentication.
    RequestAuthentication,
    /// Istio AuthorizationPolicy.
    AuthorizationPolicy,
    /// Istio IstioOperator.
    IstioOperator,
    /// Kubernetes Service.
    Service,
    /// Kubernetes Endpoints.
    Endpoints,
    /// Kubernetes EndpointSlice.
    EndpointSlice,
    /// Kubernetes Pod.
    Pod,
    /// Kubernetes Namespace.
    Namespace,
    /// Kubernetes Secret.
    Secret,
    /// Kubernetes ConfigMap.
    ConfigMap,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Gateway,
        Self::VirtualService,
        Self::DestinationRule,
        Self::ServiceEntry,
        Self::WorkloadEntry,
        Self::WasmPlugin,
        Self::TrafficExtension,
        Self::Telemetry,
        Self::RequestAuthentication,
        Self::AuthorizationPolicy,
        Self::IstioOperator,
        Self::Service,
        Self::Endpoints,
        Self::EndpointSlice,
        Self::Pod,
        Self::Namespace,
        Self::Secret,
        Self::ConfigMap,
    ];

    /// By its name in YAML.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Name in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::VirtualService => "VirtualService",
            Self::DestinationRule => "DestinationRule",
            Self::ServiceEntry => "ServiceEntry",
            Self::WorkloadEntry => "WorkloadEntry",
            Self::WasmPlugin => "WasmPlugin",
            Self::TrafficExtension => "TrafficExtension",
            Self::Telemetry => "Telemetry",
            Self::RequestAuthentication => "RequestAuthentication",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::IstioOperator => "IstioOperator",
            Self::Service => "Service",
            Self::Endpoints => "Endpoints",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
            Self::Namespace => "Namespace",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// Values of `apiVersion` that are read alike, the newest first.
    pub fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::Gateway | Self::VirtualService | Self::DestinationRule | Self::ServiceEntry | Self::WorkloadEntry => {
                NETWORKING
            }
            Self::WasmPlugin | Self::TrafficExtension => &["extensions.istio.io/v1alpha1"],
            Self::Telemetry => &["telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1"],
            Self::RequestAuthentication | Self::AuthorizationPolicy => {
                &["security.istio.io/v1", "security.istio.io/v1beta1"]
            }
            Self::IstioOperator => &["install.istio.io/v1alpha1"],
            Self::EndpointSlice => &["discovery.k8s.io/v1"],
            Self::Service | Self::Endpoints | Self::Pod | Self::Namespace | Self::Secret | Self::ConfigMap => &["v1"],
        }
    }

    /// Whether an API version belongs to a kind of the same name that others define.
    pub(crate) fn is_of_another_owner(self, api_version: &str) -> bool {
        match self {
            Self::Gateway => api_version.starts_with("gateway.networking.k8s.io/"),
            Self::Service => api_version.starts_with("serving.knative.dev/"),
            _ => false,
        }
    }

    /// Whether a field that its type does not name is an error. Of pods and namespaces too little is read to tell.
    pub(crate) fn knows_its_fields(self) -> bool {
        !matches!(self, Self::Pod | Self::Namespace)
    }
}

/// A type that an object of one kind is read into.
pub trait Resource: DeserializeOwned + Default + Clone + Send + Sync + 'static {
    /// Its kind.
    const KIND: Kind;
    /// True when the type is the object's `spec`, false when it is the whole object.
    const IS_SPEC: bool = false;

    /// What is wrong with the object taken by itself; an error among it rejects the object.
    fn validate(_object: &Object<Self>) -> Vec<Diagnostic> {
        Vec::new()
    }

    /// Gives back memory that reading took in advance. Worth it for kinds that there are thousands of.
    fn shrink(&mut self) {}
}

impl Resource for Gateway {
    const KIND: Kind = Kind::Gateway;
    const IS_SPEC: bool = true;

    fn validate(object: &Object<Self>) -> Vec<Diagnostic> {
        validate::gateway(object)
    }
}

impl Resource for VirtualService {
    const KIND: Kind = Kind::VirtualService;
    const IS_SPEC: bool = true;

    fn validate(object: &Object<Self>) -> Vec<Diagnostic> {
        validate::virtual_service(object)
    }

    fn shrink(&mut self) {
        VirtualService::shrink(self);
    }
}

impl Resource for DestinationRule {
    const KIND: Kind = Kind::DestinationRule;
    const IS_SPEC: bool = true;

    fn validate(object: &Object<Self>) -> Vec<Diagnostic> {
        validate::destination_rule(object)
    }
}

impl Resource for ServiceEntry {
    const KIND: Kind = Kind::ServiceEntry;
    const IS_SPEC: bool = true;

    fn validate(object: &Object<Self>) -> Vec<Diagnostic> {
        validate::service_entry(object)
    }
}

impl Resource for WorkloadEntry {
    const KIND: Kind = Kind::WorkloadEntry;
    const IS_SPEC: bool = true;

    fn validate(object: &Object<Self>) -> Vec<Diagnostic> {
        validate::workload_entry(object)
    }
}

impl Resource for WasmPlugin {
    const KIND: Kind = Kind::WasmPlugin;
    const IS_SPEC: bool = true;

    fn validate(object: &Object<Self>) -> Vec<Diagnostic> {
        validate::wasm_plugin(object)
    }
}

impl Resource for TrafficExtension {
    const KIND: Kind = Kind::TrafficExtension;
    const IS_SPEC: bool = true;

    fn validate(object: &Object<Self>) -> Vec<Diagnostic> {
        validate::traffic_extension(object)
    }
}

impl Resource for Telemetry {
    const KIND: Kind = Kind::Telemetry;
    const IS_SPEC: bool = true;

    fn validate(object: &Object<Self>) -> Vec<Diagnostic> {
        validate::telemetry(object)
    }
}

impl Resource for RequestAuthentication {
    const KIND: Kind = Kind::RequestAuthentication;
    const IS_SPEC: bool = true;

    fn validate(object: &Object<Self>) -> Vec<Diagnostic> {
        validate::request_authentication(object)
    }
}

impl Resource for AuthorizationPolicy {
    const KIND: Kind = Kind::AuthorizationPolicy;
    const IS_SPEC: bool = true;

    fn validate(object: &Object<Self>) -> Vec<Diagnostic> {
        validate::authorization_policy(object)
    }
}

impl Resource for IstioOperator {
    const KIND: Kind = Kind::IstioOperator;
    const IS_SPEC: bool = true;
}

impl Resource for Service {
    const KIND: Kind = Kind::Service;
    const IS_SPEC: bool = true;
}

impl Resource for Endpoints {
    const KIND: Kind = Kind::Endpoints;
}

impl Resource for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;
}

impl Resource for Pod {
    const KIND: Kind = Kind::Pod;
}

impl Resource for Namespace {
    const KIND: Kind = Kind::Namespace;
}

impl Resource for Secret {
    const KIND: Kind = Kind::Secret;
}

impl Resource for ConfigMap {
    const KIND: Kind = Kind::ConfigMap;

    fn validate(object: &Object<Self>) -> Vec<Diagnostic> {
        let mesh = object.spec.data.get("mesh").filter(|_| object.meta.name == "istio");
        let error = mesh.and_then(|mesh| serde_yaml::from_str::<MeshConfig>(mesh).err());
        let say = |error| format!("key `mesh` is no mesh configuration: {error}");
        error.map(|error| Diagnostic::error("P0001", object.key_place("data.mesh"), say(error))).into_iter().collect()
    }
}
