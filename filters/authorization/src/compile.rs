//! [`rule`]: a rule as it is written, made questions to a request.

use std::net::IpAddr;

use portolan_filter_conditions::IpRanges;

use crate::config::{OperationConfig, RuleConfig, SourceConfig, WhenConfig};
use crate::facts::{DIRECT, REMOTE};
use crate::policy::{Condition, Rule};
use crate::test::Test;
use crate::text::Text;

const DESTINATION: &str = "destination\0address";

/// Compiles a rule of a policy of this namespace.
///
/// # Errors
/// The field and what is wrong with it.
pub(crate) fn rule(written: &RuleConfig, namespace: &str) -> Result<Rule, String> {
    Ok(Rule {
        from: written.from.iter().map(|from| source(&from.source, namespace)).collect::<Result<_, _>>()?,
        to: written.to.iter().map(|to| operation(&to.operation)).collect::<Result<_, _>>()?,
        when: written.when.iter().map(when).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect(),
    })
}

/// A field and its opposite.
fn both(
    field: &str,
    values: &[String],
    not_values: &[String],
    test: impl Fn(&[String]) -> Result<Test, String>,
) -> Result<Vec<Condition>, String> {
    let mut conditions = Vec::new();
    for (values, is_not) in [(values, false), (not_values, true)] {
        if !values.is_empty() {
            let test = test(values).map_err(|reason| format!("{field}: {reason}"))?;
            conditions.push(Condition { test, is_not });
        }
    }
    Ok(conditions)
}

fn source(written: &SourceConfig, namespace: &str) -> Result<Vec<Condition>, String> {
    let identity = |read: &dyn Fn(&str) -> Result<Text, String>, values: &[String]| {
        values.iter().map(|value| read(value)).collect::<Result<_, _>>().map(Test::Principal)
    };
    let account = |value: &str| Text::service_account(value, namespace);
    let SourceConfig { principals, not_principals, namespaces, not_namespaces, .. } = written;
    let fields = [
        both("principals", principals, not_principals, |values| identity(&Text::principal, values))?,
        both("requestPrincipals", &written.request_principals, &written.not_request_principals, request_principals)?,
        both("namespaces", namespaces, not_namespaces, |values| identity(&Text::namespace, values))?,
        both("serviceAccounts", &written.service_accounts, &written.not_service_accounts, |values| {
            identity(&account, values)
        })?,
        both("ipBlocks", &written.ip_blocks, &written.not_ip_blocks, |values| addresses(DIRECT, values))?,
        both("remoteIpBlocks", &written.remote_ip_blocks, &written.not_remote_ip_blocks, |values| {
            addresses(REMOTE, values)
        })?,
    ];
    Ok(fields.into_iter().flatten().collect())
}

fn operation(written: &OperationConfig) -> Result<Vec<Condition>, String> {
    let hosts = |values: &[String]| Ok(Test::Host(values.iter().map(|value| Text::new(value).lower_case()).collect()));
    let paths = |values: &[String]| values.iter().map(|value| Text::path(value)).collect::<Result<_, _>>();
    let fields = [
        both("hosts", &written.hosts, &written.not_hosts, hosts)?,
        both("ports", &written.ports, &written.not_ports, ports)?,
        both("methods", &written.methods, &written.not_methods, |values| Ok(header(":method", values)))?,
        both("paths", &written.paths, &written.not_paths, |values| paths(values).map(Test::Path))?,
    ];
    Ok(fields.into_iter().flatten().collect())
}

fn when(written: &WhenConfig) -> Result<Vec<Condition>, String> {
    let key = written.key.as_str();
    let test = |values: &[String]| match key {
        "source.ip" => addresses(DIRECT, values),
        "remote.ip" => addresses(REMOTE, values),
        "destination.ip" => addresses(DESTINATION, values),
        "destination.port" => ports(values),
        "connection.sni" => Ok(Test::ServerName(texts(values))),
        "source.principal" => {
            values.iter().map(|value| Text::principal(value)).collect::<Result<_, _>>().map(Test::Principal)
        }
        "source.namespace" => {
            values.iter().map(|value| Text::namespace(value)).collect::<Result<_, _>>().map(Test::Principal)
        }
        "request.auth.principal" => request_principals(values),
        "request.auth.audiences" => Ok(Test::Claim(vec!["aud".to_owned()], texts(values))),
        "request.auth.presenter" => Ok(Test::Claim(vec!["azp".to_owned()], texts(values))),
        _ => in_brackets(key, values),
    };
    both(&format!("when: {key}"), &written.values, &written.not_values, test)
}

fn in_brackets(key: &str, values: &[String]) -> Result<Test, String> {
    let names = |start| key.strip_prefix(start).and_then(brackets);
    if let Some(names) = names("request.headers") {
        return match names.as_slice() {
            [name] => Ok(header(&name.to_ascii_lowercase(), values)),
            _ => Err("one name in brackets".to_owned()),
        };
    }
    match names("request.auth.claims") {
        Some(path) => Ok(Test::Claim(path, texts(values))),
        None => Err("no attribute has this name".to_owned()),
    }
}

/// `[a][b]`.
fn brackets(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<String> = inner.split("][").map(str::to_owned).collect();
    names.iter().all(|name| !name.is_empty()).then_some(names)
}

fn texts(values: &[String]) -> Vec<Text> {
    values.iter().map(|value| Text::new(value)).collect()
}

/// `*` asks whether the header is there at all, empty or not.
fn header(name: &str, values: &[String]) -> Test {
    let value = |value: &String| (value != "*").then(|| Text::new(value));
    Test::Header(name.to_owned(), values.iter().map(value).collect())
}

fn ports(values: &[String]) -> Result<Test, String> {
    let port = |value: &String| value.parse().map_err(|_| format!("`{value}` is not a port"));
    values.iter().map(port).collect::<Result<_, _>>().map(Test::Port)
}

/// Issuers may have slashes, subjects have none here: the last one parts them.
fn request_principals(values: &[String]) -> Result<Test, String> {
    let pair = |value: &String| match (value.as_str(), value.rsplit_once('/')) {
        ("*", _) => (Text::Any, Text::Any),
        (_, Some((issuer, subject))) if value.starts_with('*') => (Text::new(issuer), Text::Exact(subject.to_owned())),
        (_, Some((issuer, subject))) => (Text::Exact(issuer.to_owned()), Text::new(subject)),
        (value, None) if value.starts_with('*') => (Text::Any, Text::new(value)),
        (value, None) if value.ends_with('*') => (Text::new(value), Text::Any),
        (value, None) => (Text::Exact(value.to_owned()), Text::Exact(String::new())),
    };
    Ok(Test::RequestPrincipal(values.iter().map(pair).collect()))
}

fn addresses(property: &'static str, values: &[String]) -> Result<Test, String> {
    let blocks: Vec<String> = values.iter().map(|value| block(value)).collect::<Result<_, _>>()?;
    IpRanges::read(blocks.iter().map(String::as_str)).map(|ranges| Test::Address(property, ranges))
}

/// Envoy takes a range with bits beyond its prefix for the range around it.
fn block(value: &str) -> Result<String, String> {
    let Some((address, prefix)) = value.split_once('/') else { return Ok(value.to_owned()) };
    let wrong = || format!("`{value}` is neither an address nor a range");
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let prefix: u32 = prefix.parse().map_err(|_| wrong())?;
    Ok(match address {
        IpAddr::V4(v4) if prefix <= 32 => {
            let base = v4.to_bits() & !u32::MAX.checked_shr(prefix).unwrap_or(0);
            format!("{}/{prefix}", std::net::Ipv4Addr::from_bits(base))
        }
        IpAddr::V6(v6) if prefix <= 128 => {
            let base = v6.to_bits() & !u128::MAX.checked_shr(prefix).unwrap_or(0);
            format!("{}/{prefix}", std::net::Ipv6Addr::from_bits(base))
        }
        _ => return Err(wrong()),
    })
}
