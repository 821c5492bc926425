//! [`choose`]: the form of an answer that a client likes best.

/// Forms of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `text/plain`.
    Text,
    /// `application/json`.
    Json,
    /// `text/html`.
    Html,
}

impl Form {
    /// What the header `content-type` says.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Html => "text/html; charset=utf-8",
        }
    }

    /// True when a media range of `accept` holds for it.
    fn is_in(self, range: &[u8]) -> bool {
        let own: [&[u8]; 2] = match self {
            Self::Text => [b"text/plain", b"text/*"],
            Self::Json => [b"application/json", b"application/*"],
            Self::Html => [b"text/html", b"text/*"],
        };
        range == b"*/*" || own.iter().any(|known| range.eq_ignore_ascii_case(known))
    }
}

/// The form among `offered` (in the gateway's order of liking) that `accept` gives the highest quality; of equals the one
/// whose range stands first, then the first offered. A client that takes none of them gets the first: a page that it did
/// not ask for tells it more than none. None when nothing is offered.
pub fn choose(accept: &[u8], offered: &[Form]) -> Option<Form> {
    let mut best = (0, offered.first().copied()?);
    for range in accept.split(|byte| *byte == b',') {
        let (range, quality) = quality(range);
        if quality > best.0
            && let Some(form) = offered.iter().find(|form| form.is_in(range))
        {
            best = (quality, *form);
        }
    }
    Some(best.1)
}

/// A media range without parameters, and its quality in thousandths.
fn quality(range: &[u8]) -> (&[u8], u32) {
    let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let range = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")));
    (range, weight.map_or(1000, thousandths))
}

/// RFC 9110's `qvalue`; anything else is 0.
fn thousandths(text: &[u8]) -> u32 {
    let (whole, digits) = match text {
        [b'1'] => (1000, &[][..]),
        [b'0'] => (0, &[][..]),
        [b'1', b'.', digits @ ..] => (1000, digits),
        [b'0', b'.', digits @ ..] => (0, digits),
        _ => return 0,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let part = digits.iter().zip([100, 10, 1]).map(|(digit, unit)| u32::from(digit - b'0') * unit).sum::<u32>();
    (whole + part).min(1000)
}

#[cfg(test)]
mod tests {
    use super::Form::{Html, Json, Text};
    use super::*;

    fn of(accept: &str) -> Option<Form> {
        choose(accept.as_bytes(), &[Text, Json, Html])
    }

    #[test]
    fn the_highest_quality_wins_and_of_equals_the_first() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, form) in [
            (browser, Html),
            ("application/json, text/plain, */*", Json),
            ("text/html;q=0.5, application/json;q=0.7", Json),
            ("text/html;q=0.5,application/json; q=0.50", Html),
            ("application/*", Json),
            ("TEXT/*", Text),
            ("*/*", Text),
            ("", Text),
            ("image/png", Text),
            ("text/plain;q=0, text/html;q=0.001", Html),
            ("text/html;q=nan, application/json;q=0.1", Json),
        ] {
            assert_eq!(of(accept), Some(form), "{accept}");
        }
    }

    #[test]
    fn only_what_is_offered_is_chosen() {
        assert_eq!(choose(b"text/html", &[Json]), Some(Json));
        assert_eq!(choose(b"text/html", &[]), None);
    }
}
