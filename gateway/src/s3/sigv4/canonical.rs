//! The canonical request and the string to sign, after "Signature
//! Calculations for the Authorization Header" of the S3 API reference.

use super::super::head::Head;
use super::super::percent::{self, Slash};
use super::super::sha256::sha256;
use super::ALGORITHM;

/// The canonical request. Bytes, not text: header values may be any bytes.
pub(super) fn request(head: &Head<'_>, signed_headers: &str, payload: &str) -> Vec<u8> {
    let mut text = String::with_capacity(1024);
    text.push_str(head.method().as_str());
    text.push('\n');
    path(&mut text, head.raw_path());
    text.push('\n');
    query(&mut text, head);
    text.push('\n');
    let mut out = text.into_bytes();
    for name in signed_headers.split(';') {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        if name == "host" {
            out.extend_from_slice(head.host().as_bytes());
        } else {
            for (index, value) in head.headers().get_all(name).iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_trimmed(&mut out, value.as_bytes());
            }
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(signed_headers.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(payload.as_bytes());
    out
}

/// The path, decoded and encoded again, so that two ways of writing the same
/// key have one signature. Not normalised: `//` and `..` are parts of keys.
fn path(out: &mut String, raw: &str) {
    match percent::decode_path(raw) {
        Some(decoded) if !decoded.is_empty() => percent::encode_into(out, decoded.as_bytes(), Slash::Keep),
        // The head was parsed, so the path can be decoded, or it is empty.
        _ => out.push('/'),
    }
}

/// All parameters but the signature itself, encoded and sorted.
fn query(out: &mut String, head: &Head<'_>) {
    if head.query().is_empty() {
        return;
    }
    let mut pairs: Vec<(String, String)> = head
        .query()
        .iter()
        .filter(|(name, _)| name != "X-Amz-Signature")
        .map(|(name, value)| {
            (
                percent::encode(name, Slash::Encode),
                percent::encode(value, Slash::Encode),
            )
        })
        .collect();
    pairs.sort_unstable();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        out.push_str(value);
    }
}

/// A header's value without outer white space and with runs of spaces as one.
fn push_trimmed(out: &mut Vec<u8>, value: &[u8]) {
    let mut space = false;
    for &byte in value.trim_ascii() {
        if byte == b' ' && space {
            continue;
        }
        space = byte == b' ';
        out.push(byte);
    }
}

/// The string that the signature is made of.
pub(super) fn string_to_sign(timestamp: &str, scope: &str, canonical_request: &[u8]) -> String {
    let mut out = String::with_capacity(200);
    for part in [ALGORITHM, timestamp, scope] {
        out.push_str(part);
        out.push('\n');
    }
    push_hex(&mut out, &sha256(canonical_request));
    out
}

/// Appends lower case hex.
pub(super) fn push_hex(out: &mut String, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
}
