//! [`compare`]: where a request goes against where it must.

use super::case::{Destinations, Expect};
use crate::cases::{Comparing, Difference, TextMatch, matches};
use crate::explain::{Explanation, SharePart, Verdict};

/// Shares are told to a tenth of a percent.
const SAME: f64 = 0.051;

/// All differences, in the order of the format.
pub(super) fn compare(expect: &Expect, verdict: &Verdict) -> Vec<Difference> {
    let mut comparing = Comparing::default();
    match verdict {
        Verdict::Http(explanation) => http(expect, explanation, &mut comparing),
        Verdict::Tcp(explanation) => {
            let rule = &explanation.rule;
            any_of(&mut comparing, "route", expect.route.as_ref(), &[&rule.place, &rule.object]);
            destination(&mut comparing, expect.destination.as_ref(), &explanation.split, &explanation.answer);
        }
    }
    comparing.differences
}

fn http(expect: &Expect, explanation: &Explanation, comparing: &mut Comparing) {
    let taken = explanation.rules.iter().find(|rule| rule.verdict == "yes");
    // A delegate's rule may be named by the rule that delegates to it as well.
    let names: Vec<&str> = taken.map_or_else(Vec::new, |rule| {
        let sources = [Some(&rule.source), rule.delegated_from.as_ref()].into_iter().flatten();
        let places = sources.flat_map(|source| [source.place.as_str(), source.object.as_str()]);
        std::iter::once(rule.name.as_str()).chain(places).collect()
    });
    any_of(comparing, "route", expect.route.as_ref(), &names);
    let answer = &explanation.answer;
    // Of a split that keeps its users, who is known has one destination.
    let chosen = explanation.split.iter().filter(|share| explanation.chosen.as_ref() == Some(&share.name));
    let serves = |share: &SharePart| share.exists && !share.endpoints.is_empty();
    // Those to whom nothing can be sent are destinations all the same.
    let is_dead = matches!(answer.details.as_deref(), Some("cluster_not_found" | "no_healthy_upstream"));
    let is_answered = answer.status.is_some() && !is_dead;
    let split: Vec<SharePart> = match &explanation.chosen {
        _ if is_answered => Vec::new(),
        Some(_) => chosen.map(|share| SharePart { percent: 100.0, ..share.clone() }).collect(),
        None => explanation.split.clone(),
    };
    destination(comparing, expect.destination.as_ref(), &split, &answer.text);
    sent(expect, &split, &answer.text, comparing);
    comparing.text("redirect", expect.redirect.as_ref(), answer.location());
    let dead = !split.is_empty() && !split.iter().any(serves);
    let status = answer.status.or_else(|| dead.then_some(503));
    if let Some(expected) = expect.status.filter(|expected| status != Some(*expected)) {
        comparing.find("status", expected.to_string(), status.map_or_else(|| answer.text.clone(), |s| s.to_string()));
    }
    match (&expect.body, answer.status) {
        (Some(_), None) => comparing.find("body", "an answer of the gateway's own", &answer.text),
        (body, _) => comparing.body("body", body.as_ref(), answer.body.as_bytes()),
    }
    policies(expect, explanation, comparing);
}

/// What each upstream gets; the first that is not as expected is told.
fn sent(expect: &Expect, split: &[SharePart], answer: &str, comparing: &mut Comparing) {
    let asks = expect.path.is_some() || expect.host.is_some() || !expect.headers.is_empty();
    let all: Vec<_> = split.iter().filter_map(|share| Some((share, share.sent.as_ref()?))).collect();
    if asks && all.is_empty() {
        return comparing.find(first_asked(expect), "a request at an upstream", format!("nothing is sent: {answer}"));
    }
    for (share, sent) in &all {
        let mut one = Comparing::default();
        one.text("path", expect.path.as_ref(), Some(&sent.path));
        one.text("host", expect.host.as_ref(), Some(&sent.host));
        one.lines("headers", &expect.headers, &sent.headers);
        one.lines("responseHeaders", &expect.response_headers, &sent.response_headers);
        if !one.differences.is_empty() {
            let told = one.differences.into_iter().map(|difference| match all.len() {
                1 => difference,
                _ => Difference { got: format!("{} for {}", difference.got, share.name), ..difference },
            });
            return comparing.differences.extend(told);
        }
    }
}

fn first_asked(expect: &Expect) -> &'static str {
    match (&expect.path, &expect.host) {
        (Some(_), _) => "path",
        (None, Some(_)) => "host",
        (None, None) => "headers",
    }
}

fn policies(expect: &Expect, explanation: &Explanation, comparing: &mut Comparing) {
    if explanation.answer.status.is_some() {
        comparing.lines("responseHeaders", &expect.response_headers, &explanation.answer.headers);
    }
    let policy = explanation.policy.as_ref();
    // `5 s` and `5s` are the same time.
    let timeout = policy.and_then(|policy| policy.timeout_ms).map(|ms| crate::tell::time(ms).replace(' ', ""));
    any_of(comparing, "timeout", expect.timeout.as_ref(), timeout.as_deref().as_slice());
    if let Some(expected) = expect.retries {
        let got = policy.map(|policy| policy.retries);
        if got != Some(expected) {
            let got = got.map_or_else(|| "nothing is sent".to_owned(), |retries| retries.to_string());
            comparing.find("retries", expected.to_string(), got);
        }
    }
    let kinds = [("fault", &expect.fault), ("mirror", &expect.mirror), ("cors", &expect.cors)];
    for (kind, expected) in kinds {
        let told = explanation.actions.iter().filter(|told| told.kind.starts_with(kind));
        let told: Vec<_> = told.map(|told| told.text.as_str()).collect();
        let joined = told.join(", ");
        let values = if told.is_empty() { Vec::new() } else { vec![joined.as_str()] };
        any_of(comparing, kind, expected.as_ref(), &values);
    }
}

/// One of several names must fit; `none` fits when there is none.
fn any_of(comparing: &mut Comparing, field: &str, expected: Option<&TextMatch>, got: &[&str]) {
    let Some(expected) = expected else { return };
    let fits = match (expected, got) {
        (TextMatch::Exact(none), []) if none == "none" => true,
        (TextMatch::Present(present), got) => *present != got.is_empty(),
        (TextMatch::Exact(exact), got) => got.iter().any(|name| name == exact || is_below(name, exact)),
        (expected, got) => got.iter().any(|name| matches::values(expected, &[name])),
    };
    if !fits {
        let got = if got.is_empty() { "none".to_owned() } else { got.join(", ") };
        comparing.find(field, matches::describe(expected), got);
    }
}

/// A file may be named without its folders, which depend on where the command runs.
fn is_below(name: &str, file: &str) -> bool {
    name.strip_suffix(file).is_some_and(|folders| folders.ends_with('/'))
}

fn destination(comparing: &mut Comparing, expected: Option<&Destinations>, split: &[SharePart], answer: &str) {
    let (fits, words) = match expected {
        None => return,
        Some(Destinations::All(name)) if name == "none" => (split.is_empty(), name.clone()),
        Some(Destinations::All(name)) => {
            (!split.is_empty() && split.iter().all(|share| is_called(share, name)), name.clone())
        }
        Some(Destinations::Shares(shares)) => {
            let share_of = |name: &str| {
                split.iter().filter(|share| is_called(share, name)).map(|share| share.percent).sum::<f64>()
            };
            let named = |share: &SharePart| shares.keys().any(|name| is_called(share, name));
            let same = shares.iter().all(|(name, percent)| (share_of(name) - percent).abs() < SAME);
            let words = shares.iter().map(|(name, percent)| format!("{name} {percent} %"));
            (same && split.iter().all(named), words.collect::<Vec<_>>().join(", "))
        }
    };
    if !fits {
        let got =
            split.iter().map(|share| format!("{} {} %", share.name, share.percent)).collect::<Vec<_>>().join(", ");
        comparing.find("destination", words, if split.is_empty() { format!("none: {answer}") } else { got });
    }
}

/// By its cluster's name, as `explain` says it, or as host with port and subset: `reviews`, `reviews v2`,
/// `reviews.default.svc.cluster.local:9080 v2`.
fn is_called(share: &SharePart, name: &str) -> bool {
    if name == share.cluster || name == share.name {
        return true;
    }
    let parts: Vec<_> = share.cluster.splitn(4, '|').collect();
    let [_, port, subset, host] = parts.as_slice() else { return false };
    let (wanted_host, wanted_subset) = match name.split_once(' ') {
        Some((host, subset)) => (host, Some(subset)),
        None => (name, None),
    };
    let wanted_host = match wanted_host.rsplit_once(':') {
        Some((host, wanted)) if wanted == *port => host,
        Some(_) => return false,
        None => wanted_host,
    };
    let short = share.name.split(' ').next().unwrap_or_default();
    (wanted_host == *host || wanted_host == short) && wanted_subset.is_none_or(|wanted| wanted == *subset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_have_several_names() {
        let share = SharePart::named("outbound|9080|v2|reviews.default.svc.cluster.local");
        for name in ["reviews", "reviews v2", "reviews:9080 v2", "reviews.default.svc.cluster.local v2", &share.cluster]
        {
            assert!(is_called(&share, name), "{name}");
        }
        for name in ["reviews v1", "reviews:80", "ratings", "v2", ""] {
            assert!(!is_called(&share, name), "{name}");
        }
    }
}
