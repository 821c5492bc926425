//! [`Localities`]: places of one list, none of which may be within another.

use std::collections::{BTreeMap, BTreeSet};

/// Regions with their zones and subzones, as Istio's `validateLocalities` goes through them in their order.
#[derive(Default)]
pub(super) struct Localities(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Localities {
    /// One more of `region`, `region/zone` or `region/zone/subzone`; the last part may end with `*`.
    pub(super) fn add(&mut self, locality: &str) -> Result<(), String> {
        let stars = locality.matches('*').count();
        if stars > 1 || stars == 1 && !locality.ends_with('*') {
            return Err(format!("`{locality}` has a `*` elsewhere than at its end"));
        }
        let parts: Vec<&str> = locality.splitn(3, '/').collect();
        if parts.contains(&"") {
            return Err(format!("`{locality}` is not a region, zone or subzone"));
        }
        let overlaps = || Err(format!("`{locality}` is within another locality of this list, or holds it"));
        if self.0.contains_key("*") {
            return overlaps();
        }
        let whole = |word: &str| BTreeSet::from([word.to_owned()]);
        match (parts[0], parts.get(1), parts.get(2)) {
            (region, None, _) if self.0.contains_key(region) => return overlaps(),
            (region, None, _) => {
                self.0.insert(region.to_owned(), BTreeMap::from([("*".to_owned(), whole("*"))]));
            }
            (region, Some(zone), subzone) => {
                let zones = self.0.entry(region.to_owned()).or_default();
                let known = zones.get(*zone);
                let is_taken =
                    known.is_some_and(|known| subzone.is_none_or(|s| known.contains("*") || known.contains(*s)));
                if zones.contains_key("*") || is_taken {
                    return overlaps();
                }
                zones.entry((*zone).to_owned()).or_default().insert(subzone.unwrap_or(&"*").to_string());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(list: &[&str]) -> bool {
        let mut localities = Localities::default();
        list.iter().any(|locality| localities.add(locality).is_err())
    }

    #[test]
    fn places_of_a_list_are_apart() {
        for good in
            [&["eu/*", "us/*"][..], &["eu/a", "eu/b"], &["eu/a/1", "eu/a/2"], &["eu/a", "eu/*"], &["eu*"], &["*"]]
        {
            assert!(!is_refused(good), "{good:?}");
        }
        for bad in [
            &["eu", "eu"][..],
            &["eu", "eu/a"],
            &["eu/a", "eu"],
            &["eu/*", "eu/a"],
            &["eu/a", "eu/a/1"],
            &["eu/a/1", "eu/a/1"],
            &["*", "eu"],
            &["*/a"],
            &["eu/**"],
            &["eu//1"],
            &[""],
        ] {
            assert!(is_refused(bad), "{bad:?}");
        }
    }
}
