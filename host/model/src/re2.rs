//! Regular expressions of Istio and Envoy are RE2's. [`from_re2`] writes one as the `regex` crate reads it, where the two
//! differ.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

/// The same expression for the `regex` crate.
///
/// `\Q...\E` is escaped, a brace that repeats nothing is one, within a class `[`, `&&`, `~~` and `--` are what they look
/// like. Classes of Unicode (`\pL`) are their ASCII part: paths have no other letters, and modules no tables for them. What
/// is wrong stays so.
#[must_use]
pub fn from_re2(text: &str) -> Cow<'_, str> {
    if !text.contains(['{', '[']) && !["\\Q", "\\p", "\\P"].iter().any(|escape| text.contains(escape)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => escape(&mut rest, &mut out),
            '[' => class(&mut rest, &mut out),
            '{' if !is_repetition(rest.clone()) => out.push_str("\\{"),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// What follows a backslash outside of a class.
fn escape(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    match rest.next() {
        Some('Q') => quoted(rest, out),
        Some(kind @ ('p' | 'P')) => of_unicode(kind == 'P', rest, out),
        Some(other) => out.extend(['\\', other]),
        None => out.push('\\'),
    }
}

/// Up to `\E`, or all of it.
fn quoted(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    while let Some(c) = rest.next() {
        if c == '\\' && rest.next_if_eq(&'E').is_some() {
            return;
        }
        if c.is_ascii_punctuation() {
            out.push('\\');
        }
        out.push(c);
    }
}

/// From behind the opening bracket to the closing one.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    out.extend(rest.next_if_eq(&'^'));
    // A bracket that closes at once is one of the class.
    if rest.next_if_eq(&']').is_some() {
        out.push_str("\\]");
    }
    while let Some(c) = rest.next() {
        match c {
            ']' => return out.push(']'),
            '\\' => match rest.next() {
                Some(kind @ ('p' | 'P')) => of_unicode(kind == 'P', rest, out),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            '[' if rest.next_if_eq(&':').is_some() => named(rest, out),
            '[' => out.push_str("\\["),
            '&' | '~' if rest.next_if_eq(&c).is_some() => out.extend(['\\', c, '\\', c]),
            '-' if rest.next_if_eq(&'-').is_some() => out.push_str("-\\-"),
            other => out.push(other),
        }
    }
}

/// A class with a name, as `[:alpha:]`.
fn named(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push_str("[:");
    while let Some(c) = rest.next() {
        out.push(c);
        if c == ':' && rest.next_if_eq(&']').is_some() {
            return out.push(']');
        }
    }
}

/// The ASCII part of a general category, or of the Latin script; others stay and are refused.
fn of_unicode(negated: bool, rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let mut name = String::new();
    match rest.next() {
        Some('{') => name.extend(rest.by_ref().take_while(|c| *c != '}')),
        other => name.extend(other),
    }
    let (caret, category) = match name.strip_prefix('^') {
        Some(category) => (true, category),
        None => (false, name.as_str()),
    };
    let set = match category {
        "L" | "Latin" => "A-Za-z",
        "Lu" => "A-Z",
        "Ll" => "a-z",
        "N" | "Nd" => "0-9",
        "P" => r##"!-#%-*,-/:;?@\[-\]_{}"##,
        "S" => r"$+<->\^`|\~",
        "Z" | "Zs" => " ",
        _ => return out.extend([if negated { "\\P{" } else { "\\p{" }, &name, "}"]),
    };
    out.extend([if negated == caret { "[" } else { "[^" }, set, "]"]);
}

/// Whether what follows an opening brace is a count: `2}`, `2,}` or `2,3}`.
fn is_repetition(mut rest: Peekable<Chars<'_>>) -> bool {
    if std::iter::from_fn(|| rest.next_if(char::is_ascii_digit)).count() == 0 {
        return false;
    }
    if rest.next_if_eq(&',').is_some() {
        while rest.next_if(char::is_ascii_digit).is_some() {}
    }
    rest.next() == Some('}')
}

#[cfg(test)]
mod tests {
    use super::from_re2;

    #[test]
    fn what_both_read_alike_stays() {
        for text in
            ["", "/a.*", r"/\d+(-[a-z]+)?", "^/x{2,3}$", "a{2}b{3,}", "(?i)[[:alpha:]_]+", r"[\]\w-]", r"\{x\}", r"a\\"]
        {
            assert_eq!(from_re2(text), text);
        }
    }

    #[test]
    fn what_differs_is_written_for_the_crate() {
        for (text, written) in [
            (r"/\Qa.b(\E.*", r"/a\.b\(.*"),
            (r"\Qa.", r"a\."),
            ("/items/{id}", r"/items/\{id}"),
            ("a{,3}", r"a\{,3}"),
            ("a{2", r"a\{2"),
            ("[]a]", r"[\]a]"),
            ("[^]a]", r"[^\]a]"),
            ("[[a]b]", r"[\[a]b]"),
            ("[a&&b~~c]", r"[a\&\&b\~\~c]"),
            ("[+--]", r"[+-\-]"),
            (r"\pL+\p{Lu}\PN\P{^N}\p{^Ll}", "[A-Za-z]+[A-Z][^0-9][0-9][^a-z]"),
            (r"[\pL\d]", r"[[A-Za-z]\d]"),
            (r"\p{Greek}", r"\p{Greek}"),
            (r"[[:nope", r"[[:nope"),
        ] {
            assert_eq!(from_re2(text), written, "{text}");
        }
    }
}
