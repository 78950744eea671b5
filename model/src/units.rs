//! How many bytes things take: plaintext to stored, and `room`, the one rule for the room of a chunk. And how people
//! write numbers of bytes.

use crate::limits::{
    ALIGNED_RECORD_BYTES, BLOCK_BYTES, FRAME_BYTES, FRAME_CRC_BYTES, FRAME_TAG_BYTES, RECORD_HEADER_BYTES,
};

/// Frames of `plaintext_bytes` of a chunk. An empty chunk has none.
#[must_use]
pub fn frames(plaintext_bytes: u64) -> u64 {
    plaintext_bytes.div_ceil(FRAME_BYTES)
}

/// Bytes of a chunk as it travels and is stored: its frames, each with its tag.
#[must_use]
pub fn stored_bytes(plaintext_bytes: u64) -> u64 {
    // What others say may be any number, and is refused by its bounds, not by a panic in the sum.
    plaintext_bytes.saturating_add(frames(plaintext_bytes).saturating_mul(FRAME_TAG_BYTES))
}

/// Room, in bytes of device space, that a chunk of `plaintext_bytes` takes at one vendor when cut into
/// `pieces`: every piece is a record with a header, a checksum per frame and, if large, alignment to blocks.
/// Gateway, metad and agents all use this rule. It is an upper bound: records never take more.
///
/// The pieces really cut may be fewer frames than asked (a chunk of one frame is one piece); callers pass
/// the number from the receipt when they settle and the class's number when they reserve.
#[must_use]
pub fn room(plaintext_bytes: u64, pieces: u32) -> u64 {
    let pieces = u64::from(pieces.max(1)).min(frames(plaintext_bytes).max(1));
    let checks = frames(plaintext_bytes).saturating_mul(FRAME_CRC_BYTES);
    let payload = stored_bytes(plaintext_bytes).saturating_add(checks);
    let bytes = payload.saturating_add(pieces * RECORD_HEADER_BYTES);
    if bytes < ALIGNED_RECORD_BYTES {
        bytes
    } else {
        // Each piece may be padded at its head (first block kept when its hole is punched) and at its tail.
        bytes.saturating_add(pieces * 2 * BLOCK_BYTES)
    }
}

/// Greatest room that a copy of a chunk of at most `plaintext_bytes` may take with `pieces` pieces.
#[must_use]
pub fn room_bound(plaintext_bytes: u64, pieces: u32) -> u64 {
    room(plaintext_bytes, pieces.max(1))
}

/// Reads a number of bytes as people write it: alone, or with KiB, MiB, GiB or TiB (k, m, g, t for short).
///
/// # Errors
/// What is wrong with it, for whoever wrote it.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1_u64 << 40,
        other => return Err(format!("{other:?} is none of KiB, MiB, GiB, TiB")),
    };
    let number: u64 = digits
        .trim()
        .parse()
        .map_err(|_| format!("{text:?} is no number of bytes"))?;
    number
        .checked_mul(unit)
        .ok_or_else(|| format!("{text:?} is too much"))
}

#[cfg(test)]
mod tests {
    use super::{frames, parse_bytes, room, stored_bytes};
    use crate::limits::{CHUNK_BYTES_DEFAULT, FRAME_BYTES};

    #[test]
    fn room_covers_the_stored_bytes_and_grows_with_length_and_pieces() {
        let mut last = 0;
        for len in [
            0,
            1,
            4096,
            FRAME_BYTES - 1,
            FRAME_BYTES,
            FRAME_BYTES + 1,
            CHUNK_BYTES_DEFAULT,
        ] {
            assert!(room(len, 1) >= stored_bytes(len));
            assert!(room(len, 1) >= last);
            assert!(room(len, 4) >= room(len, 1));
            last = room(len, 1);
        }
        assert_eq!(frames(FRAME_BYTES + 1), 2);
    }

    #[test]
    fn numbers_of_bytes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("100", Some(100)),
            ("0b", Some(0)),
            ("4KiB", Some(4096)),
            ("128k", Some(131_072)),
            ("210M", Some(210 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("2t", Some(2 << 40)),
            ("16777215T", Some(16_777_215 << 40)),
            ("16777216T", None),
            ("99999999999999999999", None),
            ("4KB", None),
            ("x", None),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1.5g", None),
            ("1ä", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn lengths_that_nothing_has_are_sums_too() {
        for pieces in [0, 1, u32::MAX] {
            assert_eq!(stored_bytes(u64::MAX), u64::MAX);
            assert_eq!(room(u64::MAX, pieces), u64::MAX);
        }
    }
}
