//! Checks of the weighted destinations of one rule of a VirtualService.

use super::checker::Checker;
use crate::resources::istio::VirtualService;
use crate::resources::istio::virtual_service::RouteDestination;

/// The destinations of the rule at `path`: `(destination, weight)`.
pub(super) fn check<'a>(
    checker: &mut Checker<'_, VirtualService>,
    path: &str,
    route: impl ExactSizeIterator<Item = (Option<&'a RouteDestination>, Option<i64>)>,
) {
    let several = route.len() > 1;
    let mut total = 0;
    for (i, (destination, weight)) in route.enumerate() {
        let path = format!("{path}.route[{i}]");
        let weight = weight.unwrap_or(0);
        if !(0..=i64::from(u32::MAX)).contains(&weight) {
            checker.error("P0109", &format!("{path}.weight"), format!("{weight} is not a weight"));
            checker.label("0 or more");
        }
        total += weight.max(0);
        let Some(destination) = destination else {
            checker.missing(&path, "destination");
            continue;
        };
        if destination.host.is_empty() {
            checker.missing(&format!("{path}.destination"), "host");
        } else if destination.host == "*" {
            checker.error("P0103", &format!("{path}.destination.host"), "`*` is not the name of a service");
        } else {
            checker.service(&format!("{path}.destination.host"), &destination.host);
        }
        if let Some(port) = &destination.port {
            checker.port(&format!("{path}.destination.port.number"), port.number);
        }
        if let Some(subset) = destination.subset.as_ref().filter(|subset| !subset.is_empty()) {
            checker.label_name(&format!("{path}.destination.subset"), "a subset's name", subset);
        }
    }
    if several && total == 0 {
        checker.error_at_key("P0109", &format!("{path}.route"), "the weights of several destinations add up to 0");
        checker.help("give each destination a `weight`");
    } else if total > i64::from(u32::MAX) {
        checker.error_at_key("P0109", &format!("{path}.route"), "the weights add up to more than 4294967295");
    }
}
