//! [`Limits`]: how large a body may be, and [`Count`]: how large it is so far.

/// How large the bodies of one direction may be.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// The first that fits counts; in bytes.
    pub by_type: Vec<(MediaRange, u64)>,
    /// For all others; none is no limit.
    pub any: Option<u64>,
}

/// A media type, or all with one main type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRange {
    /// In lower case; `image/` stands for `image/*`.
    text: String,
}

/// The bytes of one body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    limit: Option<u64>,
    seen: u64,
}

impl Limits {
    /// True when no body is bounded.
    pub fn is_empty(&self) -> bool {
        self.by_type.is_empty() && self.any.is_none()
    }

    /// The limit for a body of this content type, in bytes.
    pub fn of(&self, content_type: &[u8]) -> Option<u64> {
        let found = self.by_type.iter().find(|(range, _)| range.fits(content_type));
        found.map(|(_, limit)| *limit).or(self.any)
    }
}

impl MediaRange {
    /// `type/subtype` or `type/*`, without parameters.
    ///
    /// # Errors
    /// When it is neither.
    pub fn new(text: &str) -> Result<Self, String> {
        let is_token = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        match text.split_once('/') {
            Some((main, "*")) if is_token(main) => Ok(Self { text: format!("{}/", main.to_ascii_lowercase()) }),
            Some((main, sub)) if is_token(main) && is_token(sub) => Ok(Self { text: text.to_ascii_lowercase() }),
            _ => Err(format!("`{text}` is no media type: `application/json` or `image/*`")),
        }
    }

    fn fits(&self, content_type: &[u8]) -> bool {
        let end = content_type.iter().position(|byte| *byte == b';').unwrap_or(content_type.len());
        let media_type = content_type[..end].trim_ascii();
        if self.text.ends_with('/') {
            return media_type
                .get(..self.text.len())
                .is_some_and(|main| main.eq_ignore_ascii_case(self.text.as_bytes()));
        }
        media_type.eq_ignore_ascii_case(self.text.as_bytes())
    }
}

impl Count {
    /// Nothing seen yet.
    pub fn new(limit: Option<u64>) -> Self {
        Self { limit, seen: 0 }
    }

    /// True when a body of this announced length is too large. What is no number is not for this filter to judge.
    pub fn refuses(self, content_length: &[u8]) -> bool {
        let length = std::str::from_utf8(content_length).ok().and_then(|text| text.trim().parse::<u64>().ok());
        length.zip(self.limit).is_some_and(|(length, limit)| length > limit)
    }

    /// Counts a part of the body; true when it is too large by now.
    pub fn exceeds(&mut self, bytes: usize) -> bool {
        self.seen = self.seen.saturating_add(bytes as u64);
        self.limit.is_some_and(|limit| self.seen > limit)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn the_first_content_type_that_fits_has_the_say() {
        let range = |text| MediaRange::new(text).unwrap();
        let by_type = vec![(range("image/png"), 1), (range("IMAGE/*"), 2), (range("application/json"), 3)];
        let limits = Limits { by_type, any: Some(9) };
        for (content_type, limit) in [
            ("image/png", 1),
            ("Image/PNG; q=1", 1),
            ("image/jpeg", 2),
            ("application/json;charset=utf-8", 3),
            ("application/jsonp", 9),
            ("imagery/png", 9),
            ("", 9),
        ] {
            assert_eq!(limits.of(content_type.as_bytes()), Some(limit), "{content_type}");
        }
        assert_eq!(Limits::default().of(b"image/png"), None);
    }

    #[test]
    fn what_is_no_media_type_is_refused() {
        for text in ["", "image", "*/*", "image/", "/png", "image/png;q=1", "image /png"] {
            assert!(MediaRange::new(text).unwrap_err().contains("is no media type"), "{text}");
        }
    }

    #[test]
    fn a_body_of_just_the_limit_is_fine() {
        let mut count = Count::new(Some(10));
        assert!(!count.refuses(b"10") && count.refuses(b"11") && count.refuses(b"18446744073709551615"));
        assert!(!count.exceeds(4) && !count.exceeds(6) && count.exceeds(1) && count.exceeds(0));
        assert!(!Count::new(Some(0)).exceeds(0) && Count::new(Some(0)).exceeds(1));
        let mut unbounded = Count::new(None);
        assert!(!unbounded.refuses(b"11") && !unbounded.exceeds(usize::MAX) && !unbounded.exceeds(usize::MAX));
    }
}
