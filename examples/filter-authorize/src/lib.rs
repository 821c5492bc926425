//! A filter on the public crate `proxy-wasm` that asks another service about each request: 200 lets it pass with the
//! service's `x-user`, any other answer is the client's.

use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Plugin { cluster: Rc::from("") }));
}}

/// Longest wait for the service.
const TIMEOUT: Duration = Duration::from_secs(2);

/// One configuration.
struct Plugin {
    cluster: Rc<str>,
}

impl Context for Plugin {}

impl RootContext for Plugin {
    fn on_configure(&mut self, _size: usize) -> bool {
        let json = self.get_plugin_configuration().unwrap_or_default();
        let config: Option<serde_json::Value> = serde_json::from_slice(&json).ok();
        match config.as_ref().and_then(|config| config.get("cluster")?.as_str()) {
            Some(cluster) => {
                self.cluster = Rc::from(cluster);
                true
            }
            None => false,
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { cluster: Rc::clone(&self.cluster) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// One request.
struct Stream {
    cluster: Rc<str>,
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _call: u32, _headers: usize, body_size: usize, _trailers: usize) {
        let status = self.get_http_call_response_header(":status").and_then(|status| status.parse().ok());
        match status.unwrap_or(503) {
            200 => {
                let user = self.get_http_call_response_header("x-user");
                self.set_http_request_header("x-user", user.as_deref());
                self.resume_http_request();
            }
            refused => {
                let body = self.get_http_call_response_body(0, body_size);
                self.send_http_response(refused, vec![], body.as_deref());
            }
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        let token = self.get_http_request_header("authorization").unwrap_or_default();
        let headers = vec![
            (":method", "GET"),
            (":path", path.as_str()),
            (":authority", "authorize.internal"),
            ("authorization", token.as_str()),
        ];
        if self.dispatch_http_call(&self.cluster, headers, None, vec![], TIMEOUT).is_err() {
            self.send_http_response(503, vec![], Some(b"nobody can be asked"));
        }
        Action::Pause
    }
}
