//! Continuation tokens: opaque to clients, base64 of a tagged position. They
//! hold no secret and grant nothing: whoever makes one up starts a listing
//! elsewhere in a bucket that it may list anyhow.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::error::{Result, S3Error};
use super::limits::KEY_BYTES_MAX;

/// Where the next page of a listing begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// After this key (or bucket name).
    AfterKey(String),
    /// After all keys with this common prefix.
    AfterPrefix(String),
}

impl Position {
    /// The key or prefix.
    pub fn text(&self) -> &str {
        match self {
            Self::AfterKey(text) | Self::AfterPrefix(text) => text,
        }
    }

    /// As a token.
    pub fn encode(&self) -> String {
        let tag = match self {
            Self::AfterKey(_) => b'k',
            Self::AfterPrefix(_) => b'p',
        };
        let mut bytes = Vec::with_capacity(self.text().len() + 2);
        // The leading byte is the version.
        bytes.extend_from_slice(&[1, tag]);
        bytes.extend_from_slice(self.text().as_bytes());
        BASE64.encode(bytes)
    }

    /// Reads a token.
    ///
    /// # Errors
    /// InvalidArgument for what [`Position::encode`] did not make.
    pub fn decode(token: &str) -> Result<Self> {
        let bad = || {
            S3Error::argument(
                "continuation-token",
                token,
                "The continuation token provided is incorrect",
            )
        };
        if token.len() > (KEY_BYTES_MAX + 2) * 4 / 3 + 4 {
            return Err(bad());
        }
        let bytes = BASE64.decode(token).map_err(|_| bad())?;
        let (head, text) = bytes.split_first_chunk::<2>().ok_or_else(bad)?;
        let text = std::str::from_utf8(text).map_err(|_| bad())?.to_owned();
        match head {
            [1, b'k'] => Ok(Self::AfterKey(text)),
            [1, b'p'] => Ok(Self::AfterPrefix(text)),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn tokens_survive_the_round_trip(text in "\\PC{0,40}") {
            for position in [Position::AfterKey(text.clone()), Position::AfterPrefix(text)] {
                proptest::prop_assert_eq!(Position::decode(&position.encode()), Ok(position));
            }
        }

        #[test]
        fn reading_never_panics(token in "[A-Za-z0-9_=+/-]{0,30}") {
            let _ = Position::decode(&token);
        }
    }

    #[test]
    fn foreign_tokens_are_refused() {
        for token in ["", "a", "AAAA", "!!", &"A".repeat(5000)] {
            assert!(Position::decode(token).is_err(), "{token}");
        }
    }
}
