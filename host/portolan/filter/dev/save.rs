//! [`arguments`]: a request that has come, as `filter test --record` is told of it.

use crate::filter::stage::{Exchange, Head};
use crate::filter::test::is_of_the_gateway;

/// The command line's part; none when the gateway itself has refused the request. The body is what the upstream has
/// seen, when it has seen one: the gateway keeps none.
pub(super) fn arguments(exchange: &Exchange) -> Option<Vec<String>> {
    let head = exchange.record.head.as_ref()?;
    let mut arguments = vec!["--record".to_owned(), name(head)];
    let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("example.com");
    arguments.extend(["--url".to_owned(), head.path.clone(), "-X".to_owned(), head.method.to_string()]);
    arguments.extend(["-H".to_owned(), format!("host: {host}")]);
    for (name, value) in head.headers.iter().filter(|(name, _)| !is_of_the_gateway(name.as_str())) {
        if let Ok(value) = value.to_str() {
            arguments.extend(["-H".to_owned(), format!("{name}: {value}")]);
        }
    }
    let body = exchange.upstream.as_ref().and_then(|seen| std::str::from_utf8(&seen.body).ok());
    if let Some(body) = body.filter(|body| !body.is_empty()) {
        arguments.push(format!("--data={body}"));
    }
    Some(arguments)
}

/// `GET /hello 20261128-1130`: names are not used twice.
fn name(head: &Head) -> String {
    let path = head.path.split('?').next().unwrap_or_default();
    let seconds = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    format!("{} {path} {seconds}", head.method)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;

    #[test]
    fn a_name_says_what_was_asked_and_when() {
        let headers = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("a"))]);
        let head = Head { method: Method::GET, path: "/a?b".to_owned(), headers };
        assert!(name(&head).starts_with("GET /a 1"));
    }
}
