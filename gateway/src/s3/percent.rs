//! Percent-encoding as S3 and its signatures use it. Paths are decoded once
//! and `+` is itself there; in a query `+` is a space.

use std::borrow::Cow;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// What [`encode_into`] leaves as it is, beside letters, digits and `-._~`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Slash {
    /// `/` stays: the path of a canonical request, keys in listings.
    Keep,
    /// `/` becomes `%2F`: names and values of a canonical query.
    Encode,
}

/// Appends `bytes` with every byte but the unreserved ones as `%XX` (upper
/// case), the UriEncode of the SigV4 description.
pub fn encode_into(out: &mut String, bytes: &[u8], slash: Slash) {
    for &byte in bytes {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || (byte == b'/' && slash == Slash::Keep);
        if plain {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// [`encode_into`] for one string.
pub fn encode(text: &str, slash: Slash) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 2);
    encode_into(&mut out, text.as_bytes(), slash);
    out
}

/// Decodes a part of a path. `None` if an escape is broken or the result is
/// not UTF-8. Borrows when nothing is escaped.
pub fn decode_path(text: &str) -> Option<Cow<'_, str>> {
    decode(text, false)
}

/// Decodes a name or value of a query: as [`decode_path`], with `+` a space.
pub fn decode_query(text: &str) -> Option<Cow<'_, str>> {
    decode(text, true)
}

fn decode(text: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|b| b == b'%' || (plus_is_space && b == b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => out.push(hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?),
            b'+' if plus_is_space => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once_and_plus_is_itself() {
        assert_eq!(decode_path("a%2Fb+c%2525").as_deref(), Some("a/b+c%25"));
        assert_eq!(decode_path("%01%7F%E2%82%AC").as_deref(), Some("\u{1}\u{7f}€"));
        assert_eq!(decode_query("a+b%2Bc").as_deref(), Some("a b+c"));
    }

    #[test]
    fn broken_escapes_and_broken_utf8_are_refused() {
        for text in ["%", "%4", "%zz", "%ff", "%c3%28", "a%"] {
            assert_eq!(decode_path(text), None, "{text}");
        }
    }

    #[test]
    fn encoding_follows_the_signature_rules() {
        assert_eq!(encode("a b/c~*é", Slash::Keep), "a%20b/c~%2A%C3%A9");
        assert_eq!(encode("a/b", Slash::Encode), "a%2Fb");
    }

    proptest::proptest! {
        #[test]
        fn decoding_undoes_encoding(text in "\\PC{0,40}") {
            let encoded = encode(&text, Slash::Encode);
            let decoded = decode_path(&encoded);
            proptest::prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
        }
    }
}
