//! [`Credentials`]: a user and a password for a registry, from a Docker configuration.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Sent to one registry and to the token server that it names.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// Those of `registry` in a Docker configuration, which a pull secret is; none when it has none for it.
    pub(crate) fn of(docker_config: &str, registry: &str) -> Option<Self> {
        let config: Value = serde_json::from_str(docker_config).ok()?;
        let auths = config.get("auths")?.as_object()?;
        let (_, entry) = auths.iter().find(|(key, _)| names(key, registry))?;
        let text = |field: &str| entry.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(auth) = text("auth") {
            let decoded = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
            let (user, password) = decoded.split_once(':')?;
            return Some(Self { user: user.to_owned(), password: password.to_owned() });
        }
        Some(Self { user: text("username")?.to_owned(), password: text("password")?.to_owned() })
    }

    /// Value of `Authorization`.
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }
}

/// Whether a key of `auths` is for a registry: `HOST[:PORT]`, also with a scheme and a path. Docker's own registry has
/// several names.
fn names(key: &str, registry: &str) -> bool {
    let host = key.split_once("://").map_or(key, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let is_dockers = |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    host.eq_ignore_ascii_case(registry) || (is_dockers(host) && is_dockers(registry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str, registry: &str) -> Option<String> {
        Credentials::of(json, registry).map(|credentials| credentials.basic())
    }

    #[test]
    fn the_entry_of_the_registry_is_taken_in_both_forms() {
        let json = r#"{"auths": {"https://r.test:5000/v1/": {"auth": "dTpwOng="},
                                 "other.test": {"username": "a", "password": "b"},
                                 "https://index.docker.io/v1/": {"auth": "dTpw"}}}"#;
        assert_eq!(of(json, "r.test:5000").as_deref(), Some("Basic dTpwOng="));
        assert_eq!(of(json, "other.test").as_deref(), Some("Basic YTpi"));
        assert_eq!(of(json, "docker.io").as_deref(), Some("Basic dTpw"));
        assert_eq!(of(json, "r.test"), None, "another port is another registry");
        assert_eq!(of(json, "evil.test"), None);
    }

    #[test]
    fn what_is_malformed_gives_nothing() {
        for json in ["", "{}", r#"{"auths": {"r.test": {"auth": "%"}}}"#, r#"{"auths": {"r.test": {}}}"#] {
            assert_eq!(of(json, "r.test"), None, "{json}");
        }
    }
}
