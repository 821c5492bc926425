//! Changes of a query that a service asks for.

use portolan_sdk::percent_decode;

/// Path and query with these parameters set, then those removed. Others keep their place and their bytes; of one name the
/// first is set and the rest goes, as in Envoy.
pub fn change(target: &[u8], set: &[(String, String)], remove: &[String]) -> Vec<u8> {
    let (path, query) = portolan_sdk::split_target(target);
    let given = query.unwrap_or_default().split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<Vec<u8>> = given.map(<[u8]>::to_vec).collect();
    for (name, value) in set {
        let pair = [encoded(name), value_of(value)].concat();
        match pairs.iter().position(|pair| is_of(pair, name)) {
            Some(at) => {
                pairs[at] = pair;
                let mut place = 0..;
                pairs.retain(|pair| place.next() == Some(at) || !is_of(pair, name));
            }
            None => pairs.push(pair),
        }
    }
    pairs.retain(|pair| !remove.iter().any(|name| is_of(pair, name)));
    let mut target = path.to_vec();
    if !pairs.is_empty() {
        target.push(b'?');
        target.extend_from_slice(&pairs.join(&b'&'));
    }
    target
}

fn value_of(value: &str) -> Vec<u8> {
    [b"=".as_slice(), &encoded(value)].concat()
}

/// True when the parameter has this name, whether its letters are encoded or not; `+` is a blank, as in forms.
fn is_of(pair: &[u8], name: &str) -> bool {
    let own = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
    let own: Vec<u8> = own.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&own) == name.as_bytes()
}

/// Everything but RFC 3986's unreserved characters.
fn encoded(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut bytes = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            bytes.push(byte);
        } else {
            bytes.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(target: &str, set: &[(&str, &str)], remove: &[&str]) -> String {
        let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let remove: Vec<_> = remove.iter().map(|name| (*name).to_owned()).collect();
        String::from_utf8_lossy(&change(target.as_bytes(), &set, &remove)).into_owned()
    }

    #[test]
    fn parameters_are_set_in_their_place_or_added() {
        assert_eq!(changed("/p?a=1&b=2&a=3", &[("a", "x y&z")], &[]), "/p?a=x%20y%26z&b=2");
        assert_eq!(changed("/p", &[("a", "1"), ("b", "")], &[]), "/p?a=1&b=");
        assert_eq!(changed("/p?%61=1", &[("a", "2")], &[]), "/p?a=2");
    }

    #[test]
    fn parameters_are_removed_and_the_rest_keeps_its_bytes() {
        assert_eq!(changed("/p?a=1&%62=%2f&c", &[], &["a", "c"]), "/p?%62=%2f");
        assert_eq!(changed("/p?token=1", &[], &["token"]), "/p");
        assert_eq!(changed("/p?a=%zz&b=%", &[], &["x"]), "/p?a=%zz&b=%");
        assert_eq!(changed("/p?a+b=1&a%20b=2&a%2Bb=3", &[], &["a b"]), "/p?a%2Bb=3");
    }
}
