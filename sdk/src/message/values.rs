//! [`Values`] and [`List`]: several values of one header.

use crate::pairs::Headers;

/// The values of a header, one for each line.
#[derive(Clone, Debug)]
pub struct Values<'a, 'n> {
    headers: Headers<'a>,
    name: &'n str,
}

impl<'a, 'n> Values<'a, 'n> {
    pub(super) fn of(headers: Headers<'a>, name: &'n str) -> Self {
        Self { headers, name }
    }
}

impl<'a> Iterator for Values<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (_, value) = self.headers.find(|(name, _)| name.eq_ignore_ascii_case(self.name.as_bytes()))?;
        Some(value)
    }
}

/// The elements of a header that is a list, of all its lines: what stands between commas, without blanks around it. A comma
/// in double quotes parts nothing. Empty elements are left out.
#[derive(Clone, Debug)]
pub struct List<'a, 'n> {
    values: Values<'a, 'n>,
    line: &'a [u8],
}

impl<'a, 'n> List<'a, 'n> {
    pub(super) fn of(values: Values<'a, 'n>) -> Self {
        Self { values, line: b"" }
    }
}

impl<'a> Iterator for List<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            while self.line.is_empty() {
                self.line = self.values.next()?;
            }
            let (element, rest) = self.line.split_at(comma(self.line));
            self.line = rest.get(1..).unwrap_or_default();
            let element = element.trim_ascii();
            if !element.is_empty() {
                return Some(element);
            }
        }
    }
}

/// Where the first element ends.
fn comma(line: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    let ends = line.iter().position(|byte| {
        let literal = std::mem::take(&mut escaped);
        match byte {
            _ if literal => {}
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    });
    ends.unwrap_or(line.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pairs::encode;

    fn list(lines: &[&[u8]]) -> Vec<Vec<u8>> {
        let lines: Vec<_> = lines.iter().map(|line| ("accept", *line)).collect();
        let bytes = encode(&lines);
        List::of(Values::of(Headers::new(&bytes), "Accept")).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn elements_of_all_lines_are_parted_by_commas_outside_of_quotes() {
        let found = list(&[b"a , b;q=\"1,2\",,", b"", b" \"x\\\",y\",c"]);
        assert_eq!(found, [b"a".as_slice(), b"b;q=\"1,2\"", b"\"x\\\",y\"", b"c"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list(lines: Vec<Vec<u8>>) {
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            let elements = list(&lines);
            prop_assert!(elements.iter().all(|element| !element.is_empty()));
            prop_assert!(elements.iter().map(Vec::len).sum::<usize>() <= lines.iter().map(|line| line.len()).sum());
        }
    }
}
