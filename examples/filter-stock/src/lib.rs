//! A filter on the public crate `proxy-wasm`: adds the header `x-stamp` to every response.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Plugin { stamp: Rc::from("") }));
}}

/// One configuration.
struct Plugin {
    stamp: Rc<str>,
}

impl Context for Plugin {}

impl RootContext for Plugin {
    fn on_configure(&mut self, _size: usize) -> bool {
        let json = self.get_plugin_configuration().unwrap_or_default();
        let config: Option<serde_json::Value> = serde_json::from_slice(&json).ok();
        match config.as_ref().and_then(|config| config.get("stamp")?.as_str()) {
            Some(stamp) if !stamp.is_empty() => {
                self.stamp = Rc::from(stamp);
                true
            }
            _ => false,
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { stamp: Rc::clone(&self.stamp) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// One request.
struct Stream {
    stamp: Rc<str>,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        self.set_http_response_header("x-stamp", Some(&self.stamp));
        Action::Continue
    }
}
