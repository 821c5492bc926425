//! Configurations: the seed's documents as they are, and services that point at the test's upstreams.

use std::net::SocketAddr;

/// The Gateway of the seed: port 80, host `app.example.com`.
pub(crate) const GATEWAY: &str = include_str!("../testdata/seed/gateway.yaml");
/// The plain route of the seed.
pub(crate) const VIRTUAL_SERVICE: &str = include_str!("../testdata/seed/virtualservice.yaml");
/// The plain policy of the seed.
pub(crate) const DESTINATION_RULE: &str = include_str!("../testdata/seed/destinationrule.yaml");
/// The seed's 80/20 split with its subsets.
pub(crate) const CANARY: &str = include_str!("../testdata/seed/canary.yaml");

/// The host that the seed's documents serve.
pub(crate) const HOST: &str = "app.example.com";

/// A Gateway on port 80 for every host.
pub(crate) const ANY_GATEWAY: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: any
spec:
  selector:
    istio: ingressgateway
  servers:
  - port:
      number: 80
      name: http
      protocol: HTTP
    hosts:
    - '*'
";

/// Service, Endpoints and Pods of `app` on port 7070: what a cluster would know. One pod per upstream, labelled with
/// its version.
pub(crate) fn app_in_cluster(upstreams: &[(&str, SocketAddr)]) -> String {
    let mut text = "\
apiVersion: v1
kind: Service
metadata:
  name: app
spec:
  selector:
    app: app
  ports:
  - name: http
    port: 7070
    targetPort: 8080
"
    .to_owned();
    text.push_str("---\napiVersion: v1\nkind: Endpoints\nmetadata:\n  name: app\nsubsets:\n");
    for (number, (_, address)) in upstreams.iter().enumerate() {
        text.push_str(&format!(
            "- addresses:\n  - ip: {}\n    targetRef:\n      kind: Pod\n      name: app-{number}\n  ports:\n  - name: http\n    port: {}\n",
            address.ip(),
            address.port()
        ));
    }
    for (number, (version, address)) in upstreams.iter().enumerate() {
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: app-{number}\n  labels:\n    app: app\n    version: {version}\nstatus:\n  podIP: {}\n",
            address.ip()
        ));
    }
    text
}

/// A ServiceEntry for `host` on port 80 with these endpoints, each labelled with its version.
pub(crate) fn service_entry(host: &str, endpoints: &[(&str, SocketAddr)]) -> String {
    let name = host.replace('.', "-");
    let mut text = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: {name}\nspec:\n  hosts:\n  - {host}\n  \
         ports:\n  - number: 80\n    name: http\n    protocol: HTTP\n  resolution: STATIC\n  endpoints:\n"
    );
    for (version, address) in endpoints {
        text.push_str(&format!(
            "  - address: {}\n    ports:\n      http: {}\n    labels:\n      version: {version}\n",
            address.ip(),
            address.port()
        ));
    }
    text
}

/// A VirtualService on [`ANY_GATEWAY`] for every host; `http` is its list of rules, not indented.
pub(crate) fn routes(http: &str) -> String {
    let head = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: routes
spec:
  hosts:
  - '*'
  gateways:
  - any
  http:
";
    indented(head, "  ", http)
}

/// A DestinationRule for `host`; `policy` is its trafficPolicy, not indented.
pub(crate) fn policy(host: &str, policy: &str) -> String {
    let name = host.replace('.', "-");
    let head = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: {name}\nspec:\n  host: {host}\n  \
         trafficPolicy:\n"
    );
    indented(&head, "    ", policy)
}

/// A WasmPlugin of the default namespace that runs the module of a file; `config` as JSON.
pub(crate) fn wasm_plugin(name: &str, module: &std::path::Path, config: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: {name}\nspec:\n  url: file://{}\n  \
         pluginConfig: {config}\n",
        module.display()
    )
}

fn indented(head: &str, by: &str, text: &str) -> String {
    let mut whole = head.to_owned();
    for line in text.lines() {
        whole.push_str(&format!("{by}{line}\n"));
    }
    whole
}
