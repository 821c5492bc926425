//! Traces as Telemetries and the mesh's default provider have them. Semantics: Istio's `Telemetries.Tracing` and
//! `configureTracing`.

use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_model::{SAMPLED_OF, TagValue, TraceExport, TraceTag, Tracing};

use super::actions::Reference;
use super::destinations::ClusterKey;
use super::registry::Registry;
use super::{TranslateOptions, access_logs, mesh};
use crate::ResourceSet;
use crate::diagnostic::{Diagnostic, Place};
use crate::duration;
use crate::object::Object;
use crate::resources::istio::telemetry::{CustomTag, TracingEntry};
use crate::resources::istio::tracing::{OpenTelemetryProvider, ProxyTracing, SentHeader, ZipkinProvider};
use crate::resources::istio::{ExtensionProvider, Telemetry};

/// Istio's default, in percent (`PILOT_TRACE_SAMPLING`).
const SAMPLING: f64 = 1.0;
/// Envoy's default, in bytes.
const MAX_PATH_TAG_LENGTH: u32 = 256;
/// Where the provider has none, in milliseconds: Envoy waits for ever over gRPC.
const TIMEOUT_MS: u64 = 10_000;
/// Istio's default for Zipkin.
const ZIPKIN_TIMEOUT_MS: u64 = 5_000;
const ZIPKIN_PATH: &str = "/api/v2/spans";
const UNKNOWN: &str = "unknown";

/// What is traced, the collector's cluster, and what is to say about both.
#[derive(Default)]
pub(super) struct Traces {
    pub(super) tracing: Option<Box<Tracing>>,
    pub(super) reference: Option<Arc<Reference>>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// An entry of a Telemetry.
type Entry<'a> = (&'a Object<Telemetry>, usize, &'a TracingEntry);

/// All that applies to the gateway, merged; the nearest wins, field by field.
#[derive(Default)]
struct Spec<'a> {
    /// Its name, and the entry that named it; none for a default one.
    provider: Option<(String, Option<Entry<'a>>)>,
    disabled: bool,
    sampling: Option<f64>,
    no_propagation: bool,
    tags: Option<(Entry<'a>, &'a BTreeMap<String, CustomTag>)>,
    no_istio_tags: bool,
    ignores_request_id: bool,
    /// The last one.
    entry: Option<Entry<'a>>,
}

pub(super) fn translate(resources: &ResourceSet, options: &TranslateOptions, registry: &Registry<'_>) -> Traces {
    let root = mesh::root_namespace(resources);
    let telemetries = access_logs::applicable(resources, &root, options);
    let default = mesh::first(resources, |mesh| mesh.default_providers.as_ref()?.tracing.first().cloned());
    let spec = Spec::of(&telemetries, default);
    let mut traces = Traces::default();
    let Some((name, entry)) = &spec.provider else {
        traces.diagnostics.extend(no_provider(resources, &spec));
        return traces;
    };
    if spec.disabled {
        return traces;
    }
    let place = match entry {
        Some((telemetry, i, _)) => Some(telemetry.place(&format!("spec.tracing[{i}].providers[0].name"))),
        None => mesh::key_place(resources, "defaultProviders", |mesh| mesh.default_providers.is_some()),
    };
    match collector(resources, registry, name) {
        Ok((provider, reference)) => {
            let mut tags = Tags { options, diagnostics: Vec::new() };
            let tracing = spec.tracing(resources, &provider, &reference.key, &mut tags);
            traces.diagnostics = tags.diagnostics;
            traces.diagnostics.extend(place.into_iter().flat_map(|place| unserved(&provider, &place)));
            traces.reference = Some(Arc::new(reference));
            traces.tracing = Some(Box::new(tracing));
        }
        Err(problem) => traces.diagnostics.extend(place.map(|place| problem.told(resources, name, place))),
    }
    traces
}

impl<'a> Spec<'a> {
    fn of(telemetries: &[&'a Object<Telemetry>], default: Option<String>) -> Self {
        let mut spec = Self { provider: default.map(|name| (name, None)), ..Self::default() };
        for telemetry in telemetries {
            for (i, entry) in telemetry.spec.tracing.iter().enumerate() {
                // Requests that pass a gateway are a client's in Istio's words.
                if entry.matches.as_ref().is_none_or(|matches| matches.mode.as_deref() != Some("SERVER")) {
                    spec.apply((telemetry, i, entry));
                }
            }
        }
        spec
    }

    fn apply(&mut self, all: Entry<'a>) {
        let (_, _, entry) = all;
        self.entry = Some(all);
        if let Some(provider) = entry.providers.first() {
            self.provider = Some((provider.name.clone(), Some(all)));
        }
        self.disabled = entry.disable_span_reporting.unwrap_or(self.disabled);
        self.no_propagation = entry.disable_context_propagation.unwrap_or(self.no_propagation);
        self.sampling = entry.random_sampling_percentage.or(self.sampling);
        self.no_istio_tags = entry.enable_istio_tags.map_or(self.no_istio_tags, |on| !on);
        self.ignores_request_id =
            entry.use_request_id_for_trace_sampling.map_or(self.ignores_request_id, |use_it| !use_it);
        if let Some(tags) = &entry.custom_tags {
            self.tags = Some((all, tags));
        }
    }

    fn tracing(
        &self,
        resources: &ResourceSet,
        collector: &Collector,
        cluster: &ClusterKey,
        tags: &mut Tags<'_>,
    ) -> Tracing {
        let proxy = mesh::first(resources, |mesh| mesh.default_config.as_ref()?.tracing.clone()).unwrap_or_default();
        let percent = self.sampling.unwrap_or_else(|| default_sampling(&proxy));
        let max_length = collector.max_tag_length.filter(|length| *length > 0).or(proxy.max_path_tag_length);
        Tracing {
            provider: collector.name.clone(),
            cluster_name: cluster.name(),
            authority: cluster.host.clone(),
            export: collector.export.clone(),
            headers: collector.headers.iter().map(|header| tags.header(header)).collect(),
            timeout_ms: collector.timeout_ms,
            service_name: service_name(tags.options),
            random_sampling: (percent.clamp(0.0, 100.0) * f64::from(SAMPLED_OF) / 100.0).round() as u32,
            sample_by_request_id: !self.ignores_request_id,
            propagate: !self.no_propagation,
            max_path_tag_length: max_length.filter(|length| *length > 0).unwrap_or(MAX_PATH_TAG_LENGTH),
            tags: tags.all(self, &proxy, mesh::first(resources, |mesh| mesh.default_config.as_ref()?.mesh_id.clone())),
            origin: match &self.provider {
                Some((_, Some((telemetry, i, _)))) => telemetry.origin(&format!("spec.tracing[{i}]")),
                _ => mesh::origin(resources, "defaultProviders", |mesh| mesh.default_providers.is_some()),
            },
        }
    }
}

/// `defaultConfig.tracing.sampling`; what is too much counts as Istio's default.
fn default_sampling(proxy: &ProxyTracing) -> f64 {
    let written = proxy.sampling.filter(|percent| *percent != 0.0).unwrap_or(SAMPLING);
    if written > 100.0 { SAMPLING } else { written }
}

/// As Istio names a gateway by default: its app and its namespace.
fn service_name(options: &TranslateOptions) -> String {
    format!("{}.{}", options.app().unwrap_or_else(|| "istio-proxy".to_owned()), options.namespace)
}

/// Makes tags, and tells of variables that are not passed on.
struct Tags<'a> {
    options: &'a TranslateOptions,
    diagnostics: Vec<Diagnostic>,
}

impl Tags<'_> {
    /// Istio's own and the user's, by name. Those of the mesh configuration count where no Telemetry has any.
    fn all(&mut self, spec: &Spec<'_>, proxy: &ProxyTracing, mesh_id: Option<String>) -> Vec<TraceTag> {
        let mut tags = if spec.no_istio_tags { Vec::new() } else { self.of_istio(mesh_id) };
        match spec.tags.filter(|(_, tags)| !tags.is_empty()) {
            Some(((telemetry, i, _), written)) => {
                let path = |name: &str| telemetry.place(&format!("spec.tracing[{i}].customTags.{name}"));
                tags.extend(written.iter().filter_map(|(name, tag)| self.custom(name, tag, Some(path(name)))));
            }
            None => tags.extend(proxy.custom_tags.iter().filter_map(|(name, tag)| self.custom(name, tag, None))),
        }
        tags.sort_by(|a, b| a.name.cmp(&b.name));
        tags
    }

    fn of_istio(&self, mesh_id: Option<String>) -> Vec<TraceTag> {
        let known = |id: Option<String>| id.filter(|id| !id.is_empty()).unwrap_or_else(|| UNKNOWN.to_owned());
        let label = |name: &str| self.options.labels.get(name).cloned();
        let canonical = |name: &str, default: &str| {
            label(&format!("service.istio.io/{name}")).unwrap_or_else(|| default.to_owned())
        };
        let tags = [
            ("istio.canonical_revision", canonical("canonical-revision", "latest")),
            ("istio.canonical_service", canonical("canonical-name", UNKNOWN)),
            ("istio.cluster_id", known(self.options.cluster_id.clone())),
            ("istio.mesh_id", known(mesh_id)),
            ("istio.namespace", self.options.namespace.clone()),
        ];
        tags.into_iter()
            .map(|(name, text)| TraceTag { name: name.to_owned(), value: TagValue::Literal(text) })
            .collect()
    }

    fn custom(&mut self, name: &str, tag: &CustomTag, place: Option<Place>) -> Option<TraceTag> {
        let value = if let Some(literal) = &tag.literal {
            TagValue::Literal(literal.value.clone())
        } else if let Some(variable) = &tag.environment {
            let value = self.variable(&variable.name, place);
            TagValue::Literal(value.unwrap_or_else(|| variable.default_value.clone()))
        } else if let Some(header) = &tag.header {
            TagValue::Header { name: header.name.to_ascii_lowercase(), default: header.default_value.clone() }
        } else {
            TagValue::Format(tag.formatter.as_ref()?.value.clone())
        };
        Some(TraceTag { name: name.to_owned(), value })
    }

    fn header(&mut self, header: &SentHeader) -> (String, String) {
        let value = header.value.clone().or_else(|| self.variable(header.env_name.as_deref()?, None));
        (header.name.to_ascii_lowercase(), value.unwrap_or_default())
    }

    /// A variable of the gateway's environment, if it may be passed on: the environment may hold credentials.
    fn variable(&mut self, name: &str, place: Option<Place>) -> Option<String> {
        let known = self.options.host_env.get(name);
        if let (None, Some(place)) = (known, place) {
            let text = format!("variable `{name}` of the host is not passed on");
            let help = format!("allow it with `--wasm-env {name}`");
            self.diagnostics.push(Diagnostic::warning("P0325", place, text).with_help(help));
        }
        known.cloned().flatten()
    }
}

/// Why there is nowhere to send spans.
enum Nowhere {
    /// No provider of this name.
    Unknown,
    /// A tracer that Istio has and that is not served.
    Unserved(&'static str),
    /// A provider of another kind.
    NoTracer,
    /// Nothing defines its service.
    NoService(String),
}

/// Where spans go.
struct Collector {
    name: String,
    service: String,
    port: u32,
    export: TraceExport,
    max_tag_length: Option<u32>,
    timeout_ms: u64,
    headers: Vec<SentHeader>,
    /// Fields that are not served, and what happens instead.
    unserved: Vec<(&'static str, &'static str)>,
}

impl Collector {
    fn of_opentelemetry(name: String, written: &OpenTelemetryProvider) -> Self {
        let (http, grpc) = (written.http.as_ref(), written.grpc.as_ref());
        let timeout = http.map_or_else(|| grpc?.timeout.as_deref(), |http| http.timeout.as_deref());
        let headers = http.map_or_else(|| grpc.map(|grpc| &grpc.initial_metadata), |http| Some(&http.headers));
        let unserved = [
            (written.resource_detectors.is_some(), "resourceDetectors", "the resource has the gateway's name only"),
            (written.dynatrace_sampler.is_some(), "dynatraceSampler", "the Telemetry's sampling decides"),
        ];
        Self {
            name,
            service: written.service.clone(),
            port: written.port,
            export: http.map_or(TraceExport::Grpc, |http| TraceExport::Http(path(&http.path))),
            max_tag_length: written.max_tag_length,
            timeout_ms: milliseconds(timeout, TIMEOUT_MS),
            headers: headers.cloned().unwrap_or_default(),
            unserved: unserved.into_iter().filter(|(given, ..)| *given).map(|(_, field, text)| (field, text)).collect(),
        }
    }

    fn of_zipkin(name: String, written: &ZipkinProvider) -> Self {
        let to = if written.path.is_empty() { ZIPKIN_PATH } else { &written.path };
        Self {
            name,
            service: written.service.clone(),
            port: written.port,
            export: TraceExport::Zipkin {
                path: path(to),
                w3c: written.trace_context_option.as_deref() == Some("USE_B3_WITH_W3C_PROPAGATION"),
                short_trace_ids: written.enable_64bit_trace_id == Some(true),
            },
            max_tag_length: written.max_tag_length,
            timeout_ms: milliseconds(written.timeout.as_deref(), ZIPKIN_TIMEOUT_MS),
            headers: written.headers.clone(),
            unserved: Vec::new(),
        }
    }
}

fn path(written: &str) -> String {
    format!("/{}", written.trim_start_matches('/'))
}

fn milliseconds(written: Option<&str>, default: u64) -> u64 {
    written.and_then(duration::parse_ms).filter(|ms| *ms > 0).unwrap_or(default)
}

/// The collector by the provider's name, and the cluster that it needs.
fn collector(resources: &ResourceSet, registry: &Registry<'_>, name: &str) -> Result<(Collector, Reference), Nowhere> {
    let provider = mesh::first(resources, |mesh| {
        mesh.extension_providers.iter().find(|provider| provider.name.eq_ignore_ascii_case(name)).cloned()
    });
    let provider = provider.ok_or(Nowhere::Unknown)?;
    let collector = match (&provider.opentelemetry, &provider.zipkin) {
        (Some(written), _) => Collector::of_opentelemetry(provider.name.clone(), written),
        (None, Some(written)) => Collector::of_zipkin(provider.name.clone(), written),
        (None, None) => return Err(tracer_of(&provider).map_or(Nowhere::NoTracer, Nowhere::Unserved)),
    };
    let host = collector.service.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let port = u16::try_from(collector.port).unwrap_or_default();
    if !registry.ports(&host).is_some_and(|ports| ports.contains(&port)) {
        return Err(Nowhere::NoService(format!("nothing defines `{host}` with port {}", collector.port)));
    }
    let origin = mesh::origin(resources, "extensionProviders", |mesh| !mesh.extension_providers.is_empty());
    let key = ClusterKey { host: host.clone(), port, subset: String::new() };
    Ok((collector, Reference { key, written: host, origin }))
}

fn tracer_of(provider: &ExtensionProvider) -> Option<&'static str> {
    let kinds = [
        (&provider.lightstep, "lightstep"),
        (&provider.datadog, "datadog"),
        (&provider.stackdriver, "stackdriver"),
        (&provider.opencensus, "opencensus"),
        (&provider.skywalking, "skywalking"),
    ];
    kinds.into_iter().find(|(given, _)| given.is_some()).map(|(_, kind)| kind)
}

impl Nowhere {
    fn told(self, resources: &ResourceSet, name: &str, place: Place) -> Diagnostic {
        match self {
            Self::Unknown => access_logs::no_such_provider(resources, name, place, "no spans are sent", &[]),
            Self::Unserved(kind) => {
                let text = format!("providers of kind `{kind}` are not served yet: no spans are sent");
                Diagnostic::warning("P0340", place, text).with_help("send them to a collector of OpenTelemetry")
            }
            Self::NoTracer => {
                let text = format!("provider `{name}` takes no spans: none are sent");
                Diagnostic::warning("P0349", place, text).with_help("name one of kind `opentelemetry` or `zipkin`")
            }
            Self::NoService(why) => {
                Diagnostic::warning("P0349", place, format!("{why}: no spans are sent to provider `{name}`"))
                    .with_help("add a ServiceEntry or Service for it")
            }
        }
    }
}

/// Somebody wants traces and nobody says where to send them.
fn no_provider(resources: &ResourceSet, spec: &Spec<'_>) -> Option<Diagnostic> {
    let wants = |mesh: &crate::resources::istio::MeshConfig| mesh.enable_tracing == Some(true);
    let (place, what) = match &spec.entry {
        Some(_) if spec.disabled => return None,
        Some((telemetry, i, _)) => (telemetry.key_place(&format!("spec.tracing[{i}]")), "this entry"),
        None => (mesh::key_place(resources, "enableTracing", wants)?, "`enableTracing`"),
    };
    let text = format!("{what} has no effect: no provider says where spans go");
    let help = "name a provider in a Telemetry's `tracing`, or in `defaultProviders.tracing`";
    Some(Diagnostic::warning("P0349", place, text).with_help(help))
}

fn unserved(collector: &Collector, place: &Place) -> Vec<Diagnostic> {
    let name = &collector.name;
    let tell = |(field, instead): &(&str, &str)| {
        let text = format!("`{field}` of provider `{name}` is not served yet: {instead}");
        Diagnostic::warning("P0340", place.clone(), text)
    };
    collector.unserved.iter().map(tell).collect()
}
