//! JSON inside of attributes: literals, lists and objects, to their text.

use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::{Error, Ident, Lit, LitStr, Token, braced, bracketed, token};

/// Reads one value.
pub(crate) fn value(input: ParseStream<'_>) -> Result<String, Error> {
    if input.peek(token::Bracket) {
        let inner;
        bracketed!(inner in input);
        let items = Punctuated::<String, Token![,]>::parse_terminated_with(&inner, value)?;
        return Ok(format!("[{}]", joined(items)));
    }
    if input.peek(token::Brace) {
        let inner;
        braced!(inner in input);
        let entries = Punctuated::<String, Token![,]>::parse_terminated_with(&inner, entry)?;
        return Ok(format!("{{{}}}", joined(entries)));
    }
    if input.peek(Ident) && input.parse::<Ident>()? == "null" {
        return Ok("null".to_owned());
    }
    let minus = input.parse::<Option<Token![-]>>()?.map_or("", |_| "-");
    let literal = input.parse::<Lit>()?;
    match &literal {
        Lit::Str(text) if minus.is_empty() => Ok(quoted(&text.value())),
        Lit::Bool(truth) if minus.is_empty() => Ok(truth.value.to_string()),
        Lit::Int(number) if number.suffix().is_empty() => Ok(format!("{minus}{}", number.base10_digits())),
        Lit::Float(number) if number.suffix().is_empty() => Ok(format!("{minus}{}", number.base10_digits())),
        _ => Err(Error::new(
            literal.span(),
            "wants a value as JSON has it: text, a number, true, false, a list or an object",
        )),
    }
}

fn entry(input: ParseStream<'_>) -> Result<String, Error> {
    let key = input.parse::<LitStr>()?;
    input.parse::<Token![:]>()?;
    Ok(format!("{}:{}", quoted(&key.value()), value(input)?))
}

fn joined(parts: Punctuated<String, Token![,]>) -> String {
    parts.into_iter().collect::<Vec<_>>().join(",")
}

/// Text as JSON.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if u32::from(letter) < 0x20 => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
