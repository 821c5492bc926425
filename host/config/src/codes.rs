//! Every code of a [`crate::diagnostic::Diagnostic`] with its explanation, for `portolan help CODE`.

/// Code, title, explanation. P00xx: a file or document cannot be read as it is. P01xx: an object by itself is wrong, and its last good version stays. P02xx: objects do
/// not fit each other. P03xx: not served yet, or without effect. P05xx: what the files ask for cannot be built.
pub const CODES: &[(&str, &str, &str)] = &[
    (
        "P0001",
        "not YAML",
        "The document is not well-formed YAML. Other documents of the file are read all the same; objects that this one may be about keep their last good version.",
    ),
    (
        "P0002",
        "a value of the wrong type",
        "The field takes a value of another type, e.g. a list instead of a map. The object keeps its last good version. Of an object the first such value is told.",
    ),
    (
        "P0003",
        "not a resource",
        "A resource has `apiVersion`, `kind` and `metadata.name`. Without them it cannot be told which object is meant.",
    ),
    (
        "P0004",
        "an unknown API version",
        "The kind is known, but not in this API version; the label lists those that are read. The object keeps its last good version.",
    ),
    (
        "P0005",
        "an object that is defined twice",
        "Kind, namespace and name are the same as of an earlier object. The first one, in order of file name and line, is used.",
    ),
    (
        "P0006",
        "a key that stands twice",
        "A map has the same key twice, and readers of YAML differ in which one counts. The object keeps its last good version.",
    ),
    (
        "P0007",
        "an unknown field",
        "No such field is in the API at this place; often it is misspelt or indented wrongly. `check` calls it an error; `run` warns and serves the object without the field.",
    ),
    (
        "P0008",
        "a file that cannot be read",
        "The file is missing, forbidden, larger than 16 MiB or not UTF-8. Its objects keep their last good version.",
    ),
    (
        "P0009",
        "a kind that is not read",
        "Objects of this kind have no effect on the gateway, and are listed once so that nothing is passed over in silence.",
    ),
    (
        "P0010",
        "an empty file that defined objects",
        "Editors and shells empty a file before they write it, so its objects keep their last version. Delete the file to remove them.",
    ),
    (
        "P0101",
        "a required field is missing",
        "The object cannot be served without this field. The object is rejected and its last good version keeps serving; other objects are not affected.",
    ),
    (
        "P0102",
        "exactly one of several fields",
        "These fields exclude each other, and one of them has to be there. Remove all but one, or add the one that you mean.",
    ),
    (
        "P0103",
        "not a host or object name",
        "Hosts are DNS names such as shop.example.com, `*.suffix` or `*`: no scheme, no path and no port. A wildcard stands for one or more whole labels at the start. Gateways take full names only, optionally with `namespace/` before.",
    ),
    (
        "P0104",
        "not a port",
        "Port numbers go from 1 to 65535. A port of an endpoint must carry a name that the ServiceEntry's own ports have.",
    ),
    (
        "P0105",
        "not a duration",
        "Durations are numbers with a unit: h, m, s, ms; several may follow each other, as in 1m30s. A bare number is not a duration.",
    ),
    (
        "P0106",
        "a regular expression that cannot be used",
        "Regular expressions have RE2's syntax (no look-around, no back-references inside the pattern), apply to the whole value and have at most 1024 characters.",
    ),
    (
        "P0107",
        "an empty prefix or regular expression",
        "An empty prefix would match everything and an empty regular expression only empty values; Istio refuses both since neither is ever meant. Leave the condition out to match everything.",
    ),
    (
        "P0108",
        "a rule with no action or with two",
        "A rule either forwards (`route`), redirects (`redirect`), answers (`directResponse`) or delegates (`delegate`). Exactly one of them must be there.",
    ),
    (
        "P0109",
        "weights that cannot be used",
        "Weights are whole numbers from 0 up and count relative to their sum. With several destinations the sum must be more than 0; a destination without weight counts 0. With one destination the weight is ignored.",
    ),
    (
        "P0110",
        "a rewrite or redirect without effect, or with two",
        "A rewrite sets `uri` or `uriRegexRewrite` (not both), or `authority`. A redirect must change something, or clients would be sent to the same place for ever.",
    ),
    ("P0111", "not a redirect's status", "Redirects answer with 301 (the default), 302, 303, 307 or 308."),
    (
        "P0112",
        "a direct response that cannot be sent",
        "The status goes from 200 to 599, the body is either `string` or base64 in `bytes`, and is at most 1 MiB long.",
    ),
    (
        "P0113",
        "hosts that cover each other",
        "One VirtualService names a host twice, or a wildcard together with a name that it covers. Istio refuses this, since the narrower host would never fall back to the wider. Split the VirtualService or remove one host.",
    ),
    (
        "P0114",
        "a name that is there twice",
        "Port names of a Gateway or ServiceEntry, and subset names of a DestinationRule, are unique.",
    ),
    (
        "P0115",
        "an empty block",
        "An empty `connectionPool` or `trafficPolicy` says nothing; Istio refuses it, since usually the indentation of its content is wrong.",
    ),
    ("P0116", "not one of the known words", "The field takes one of a few words, in capitals, which the label lists."),
    ("P0117", "a number out of range", "The label shows the range that the field takes."),
    (
        "P0118",
        "a header operation that cannot be done",
        "Header names are tokens without spaces. `Host` and names that start with `:` cannot be removed. The authority may be set once, by `rewrite.authority` or by a `Host` header.",
    ),
    ("P0119", "not an address", "The field takes an IP address, or where the label says so a DNS name."),
    (
        "P0120",
        "fields that exclude each other",
        "Both fields are fine alone, but have no meaning together. Remove one of them.",
    ),
    (
        "P0121",
        "not a retry condition",
        "`retryOn` lists Envoy's words by commas (5xx, gateway-error, reset, connect-failure, refused-stream, retriable-4xx, retriable-status-codes and others), and status codes.",
    ),
    ("P0122", "not a SHA-256 digest", "`sha256` is the digest of the module's bytes: 64 hex digits."),
    (
        "P0123",
        "TLS settings that do not fit the server",
        "A server with protocol HTTPS or TLS needs `tls` with a mode and a certificate. A plain HTTP server takes `tls.httpsRedirect` and nothing else of it.",
    ),
    (
        "P0124",
        "an annotation that cannot be used",
        "Annotations `portolan.dev/...` of a WasmPlugin or TrafficExtension hold what Istio's fields do not: limits, canary, match, schema. One with a wrong value rejects the object, whose last good version stays; an unknown one is ignored.",
    ),
    (
        "P0125",
        "a filter in Lua",
        "TrafficExtensions run WebAssembly filters (`wasm`); scripts (`lua`) are not run. The object is rejected: nothing of it is in force, and requests are served without it.",
    ),
    (
        "P0126",
        "not a public key",
        "`verificationKey` is a public key in PEM (ECDSA over P-256), as `cosign generate-key-pair` writes it to cosign.pub. With it, only modules that its owner signed are run.",
    ),
    (
        "P0127",
        "no such bundled filter",
        "`url: bundled://NAME` names a filter that comes with the binary; `portolan filter list` shows them. The object is rejected, and its last good version stays.",
    ),
    (
        "P0201",
        "no such Gateway",
        "The VirtualService names a Gateway that is not in the configuration. A name without namespace means the VirtualService's own namespace. The rest of the VirtualService is served.",
    ),
    (
        "P0202",
        "a host outside of the Gateway",
        "None of the servers of the Gateways that the VirtualService names has a host that covers this one, or is covered by it; so nobody can reach it.",
    ),
    (
        "P0203",
        "a VirtualService for the mesh only",
        "Without `gateways` a VirtualService applies to sidecars, as in Istio, and an ingress gateway does not serve it. Name a Gateway in `spec.gateways`.",
    ),
    (
        "P0204",
        "a subset that no DestinationRule defines",
        "Requests for this destination get 503 with flag NC, and keep their share of a split, as in Istio. Define the subset in a DestinationRule for the host, or correct its name.",
    ),
    (
        "P0205",
        "a subset of a host with unknown labels",
        "The host is resolved by DNS, which knows no labels; the subset uses all of its addresses. Add a ServiceEntry whose endpoints have labels to tell them apart.",
    ),
    (
        "P0206",
        "a port that the service does not have",
        "Requests for this destination get 503 with flag NC, as in Istio. A destination without port takes the only port of the service, else the port of the listener.",
    ),
    (
        "P0207",
        "a DestinationRule for an unknown host",
        "No Service, ServiceEntry or route destination has this name, so the rule has no effect. Short names are completed with the rule's own namespace.",
    ),
    (
        "P0208",
        "a destination that DNS resolves",
        "The name is in no Service, ServiceEntry or Endpoints of the configuration; the gateway asks DNS for it, under the name as it is written. Often that is meant (Docker Compose); with similar names in the configuration it may be a slip.",
    ),
    (
        "P0209",
        "a subset without endpoints",
        "No endpoint of the host has all labels of the subset; requests for it get 503 with flag UH until one appears.",
    ),
    (
        "P0210",
        "a Gateway port that the gateway's Service does not have",
        "A Service selects the gateway, but has no port with this number; the gateway binds the number as it is, and clients of the Service do not reach it.",
    ),
    (
        "P0211",
        "two Gateway ports on one address",
        "After mapping by Service or --port-map both ports come to the same address. They are served together, and the first one's number counts.",
    ),
    (
        "P0212",
        "a Gateway for other gateways",
        "The Gateway's selector does not fit the labels of this gateway (`--label`), so it is not served here.",
    ),
    (
        "P0213",
        "a second traffic policy for one host",
        "Several DestinationRules have the same host. Their subsets are joined, but the first top-level traffic policy (by age, then name) wins, and the first definition of a subset.",
    ),
    (
        "P0214",
        "two servers on one address that cannot share it",
        "Servers of plain HTTP share an address; one of TCP has its address for itself. The later server (by the Gateway's age, then name) is skipped, as in Istio.",
    ),
    (
        "P0215",
        "a TCP server without a rule",
        "A server of TCP takes the first `tcp` rule of the VirtualServices bound to its Gateway that fits its port. There is none, so nothing listens on the port.",
    ),
    (
        "P0216",
        "a TCP rule that another VirtualService hides",
        "The first fitting `tcp` rule, by the VirtualService's age, then name, takes all connections of the server. The others have no effect there.",
    ),
    (
        "P0217",
        "a filter without traffic here",
        "What `targetRefs` or `match` name is nothing that this gateway serves, so the filter does not see it, as in Istio. Targets are a Gateway or VirtualService of `networking.istio.io` in the same namespace; `mode: SERVER` is for sidecars.",
    ),
    (
        "P0218",
        "a pull secret that cannot be used",
        "`imagePullSecret` names a Secret of type kubernetes.io/dockerconfigjson in the namespace of the object, with the entry `.dockerconfigjson`. Without it the registry is asked as nobody in particular, and will refuse what is private.",
    ),
    (
        "P0240",
        "an extension provider that is not there",
        "A Telemetry names a provider that `meshConfig.extensionProviders` does not define. The entry has no effect; the others count. `envoy`, standard output, is there without being written.",
    ),
    (
        "P0241",
        "a Telemetry that is for others",
        "A gateway reads the Telemetries of the root namespace (`istio-system` by default) and of its own, one without selector in each, and one whose selector fits its labels; of several the oldest counts. This one is none of them.",
    ),
    (
        "P0301",
        "HTTPS and TLS servers are not served yet",
        "The server is skipped; the plain HTTP servers of the same Gateway are served.",
    ),
    (
        "P0302",
        "UDP and HBONE servers are not served",
        "The server is skipped; the other servers of the Gateway are served.",
    ),
    (
        "P0303",
        "TLS rules are not served yet",
        "The `tls` rules of the VirtualService are skipped; its `http` rules are served.",
    ),
    ("P0304", "fault injection is not served yet", "Requests of the rule are served without delay and abort."),
    ("P0305", "mirroring is not served yet", "Requests of the rule are served and not copied."),
    (
        "P0306",
        "corsPolicy is not served yet",
        "Requests of the rule are forwarded without CORS headers; preflight requests go to the backend.",
    ),
    (
        "P0307",
        "delegates are not served yet",
        "The rule is skipped, as Istio does with a delegate that does not exist.",
    ),
    (
        "P0308",
        "sourceNamespace is not served yet",
        "The match is left out, since the gateway does not know its own namespace.",
    ),
    (
        "P0309",
        "JWT claims in a match are not served yet",
        "The match is left out: without RequestAuthentication no request has claims.",
    ),
    (
        "P0310",
        "a rule that can never match",
        "An earlier rule of the same VirtualService takes every request that this rule would match. Rules are tried in the order in which they are written. Move the narrower rule up.",
    ),
    ("P0311", "consistentHash is not served yet", "The cluster uses LEAST_REQUEST, Istio's default."),
    (
        "P0312",
        "this load balancer setting is not served yet",
        "Locality, warm-up and PASSTHROUGH are ignored; all endpoints count alike.",
    ),
    (
        "P0313",
        "TLS to backends is not served yet",
        "Requests go to the backend as plain HTTP, which a TLS backend refuses. Modes DISABLE and ISTIO_MUTUAL need nothing here.",
    ),
    ("P0314", "HTTP/2 to backends is not served yet", "Requests go to the backend as HTTP/1.1."),
    (
        "P0315",
        "this traffic policy setting is not served yet",
        "The setting is ignored; the rest of the policy applies.",
    ),
    (
        "P0316",
        "this outlier detection setting is not served yet",
        "The setting is ignored; the rest of the block applies.",
    ),
    ("P0317", "this retry setting is not served yet", "The setting is ignored; the rest of the retry policy applies."),
    ("P0318", "prefixRewrite is not served yet", "The redirect keeps the path."),
    ("P0321", "statPrefix is not served yet", "Metrics are kept by cluster, not by route."),
    ("P0322", "exportTo is not served yet", "The object is visible to all namespaces, as with `*`."),
    (
        "P0323",
        "this ServiceEntry resolution is not served yet",
        "NONE and DYNAMIC_DNS have no address to connect to at a gateway, and unix sockets are not served: requests get 503 with flag UH.",
    ),
    (
        "P0324",
        "a condition without effect at a gateway",
        "Istio looks at `port` and `gateways` of a `tcp` match only, at a gateway; subnets, labels and namespaces are for sidecars. The other conditions of the match decide.",
    ),
    (
        "P0325",
        "a variable of the host that is not passed on",
        "Filters see no variable of the gateway's own environment unless whoever starts the gateway allows it by name: `--wasm-env NAME`. Otherwise whoever may write a WasmPlugin could read its credentials.",
    ),
    (
        "P0340",
        "telemetry that is not served yet",
        "Of a Telemetry access logs are served, into files. Metrics, traces, and providers of other kinds are left out; the gateway's metrics keep Envoy's names.",
    ),
    (
        "P0501",
        "a part that cannot be built",
        "A filter that does not load or start, a listener whose port is taken, an access log that cannot be opened. What served before serves on; at the first start the filter's failStrategy counts.",
    ),
    (
        "P0502",
        "a module that is on its way",
        "The module is being fetched from a web server or a registry. Until it is there, requests get what the filter's failStrategy says, or the version before serves on; traffic without this filter is not affected.",
    ),
    (
        "P0503",
        "a module that is not the one that was locked",
        "portolan.lock beside the configuration names the module of each filter by digest, and this one differs or is not in it. It is not run: the version before serves on, or the failStrategy counts. `portolan filter lock` writes the file anew.",
    ),
    (
        "P0504",
        "a configuration that the filter refuses",
        "`pluginConfig` does not fulfil the JSON Schema of the module (custom section `portolan.schema`, a file NAME.schema.json beside NAME.wasm, or the one that the annotation `portolan.dev/schema` names), or the filter itself said no in `on_configure`; its last words are in the message. The version before serves on; without one, requests get what failStrategy says.",
    ),
    (
        "P0601",
        "a test case that cannot be run",
        "A document of a `*.test.yaml` file is a case of `portolan filter test`: it has a `name` of its own, a request and answers that HTTP allows, and expects something.",
    ),
    (
        "P0602",
        "a test case that fails",
        "What came of a case of `portolan filter test` is not what it expects; the text form shows the filter's calls of the host too.",
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// Codes that the sources name as whole strings.
    fn named_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                named_in(&path, found);
            } else if !path.ends_with("codes.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let strings = text.split('"').filter(|s| s.len() == 5 && s.starts_with("P0"));
                found.extend(strings.filter(|s| s[1..].bytes().all(|b| b.is_ascii_digit())).map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_code_that_is_used_is_explained_and_no_other() {
        let mut used = BTreeSet::new();
        for folder in ["src", "../portolan"] {
            named_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut used);
        }
        let explained: BTreeSet<String> = super::CODES.iter().map(|(code, _, _)| (*code).to_owned()).collect();
        assert_eq!(used, explained);
    }
}
