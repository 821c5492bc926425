//! [`Reference`]: the name of an image, as Docker's tools read it.

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// `HOST` or `HOST:PORT`.
    pub(crate) registry: String,
    /// `library/alpine`.
    pub(crate) repository: String,
    /// `latest` when neither tag nor digest is given.
    pub(crate) tag: Option<String>,
    /// 64 hex digits.
    pub(crate) digest: Option<String>,
}

impl Reference {
    /// Of `oci://HOST[:PORT]/PATH[:TAG][@sha256:DIGEST]`. Without a host Docker's registry is meant.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let text = url.strip_prefix("oci://").unwrap_or(url);
        let (name, digest) = match text.split_once("@sha256:") {
            Some((name, digest)) => (name, Some(digest.to_ascii_lowercase())),
            None => (text, None),
        };
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match name[slash..].split_once(':') {
            Some((last, tag)) => (&name[..slash + last.len()], Some(tag.to_owned())),
            None => (name, None),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest.to_owned()),
            Some(_) => ("docker.io", path.to_owned()),
            None => ("docker.io", format!("library/{path}")),
        };
        let reference = Self { registry: registry.to_ascii_lowercase(), repository, tag, digest };
        reference.is_valid().then(|| reference.with_default_tag())
    }

    /// Where its registry answers: Docker's has another name for it.
    pub(crate) fn host(&self) -> &str {
        if self.registry == "docker.io" { "registry-1.docker.io" } else { &self.registry }
    }

    /// What to ask the registry for: the digest, else the tag.
    pub(crate) fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, tag) => tag.clone().unwrap_or_default(),
        }
    }

    fn with_default_tag(self) -> Self {
        let tag = self.tag.or_else(|| self.digest.is_none().then(|| "latest".to_owned()));
        Self { tag, ..self }
    }

    fn is_valid(&self) -> bool {
        let is_word = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        let is_host = self.registry.split(':').all(|part| is_word(part.trim_matches(['[', ']'])));
        let is_digest = |digest: &String| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        is_host
            && self.repository.split('/').all(|part| is_word(part) && !part.starts_with('.'))
            && self.tag.as_ref().is_none_or(|tag| is_word(tag) && tag.len() <= 128)
            && self.digest.as_ref().is_none_or(is_digest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn parts(url: &str) -> (String, String, String) {
        let reference = Reference::parse(url).unwrap();
        (reference.host().to_owned(), reference.repository.clone(), reference.version())
    }

    #[test]
    fn hosts_tags_and_digests_are_told_apart() {
        let expect = |url: &str, host: &str, repository: &str, version: &str| {
            assert_eq!(parts(url), (host.to_owned(), repository.to_owned(), version.to_owned()), "{url}");
        };
        expect("oci://ghcr.io/a/b:1.0", "ghcr.io", "a/b", "1.0");
        expect("oci://127.0.0.1:5000/filter", "127.0.0.1:5000", "filter", "latest");
        expect("localhost/filter:x", "localhost", "filter", "x");
        expect("alpine", "registry-1.docker.io", "library/alpine", "latest");
        expect("me/filter:2", "registry-1.docker.io", "me/filter", "2");
        let digest = "a".repeat(64);
        expect(&format!("oci://r.test/a:1@sha256:{digest}"), "r.test", "a", &format!("sha256:{digest}"));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in
            ["oci://", "oci://r.test/", "oci://r.test/a:", "oci://r.test/a@sha256:12", "oci://r.test/../a", "a b"]
        {
            assert_eq!(Reference::parse(bad), None, "{bad}");
        }
    }
}
