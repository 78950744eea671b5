//! The one encoding of everything stored or sent between services: a version byte, then postcard
//! (<https://postcard.jamesmunns.com/wire-format>). JSON appears in the admin API only.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// A value with a version of its own layout. A layout that changes gets a new struct and the next number;
/// golden files keep the old ones readable.
pub trait Versioned: Serialize + DeserializeOwned {
    /// The leading byte of this layout.
    const VERSION: u8 = 1;
    /// What error messages call it.
    const NAME: &'static str;
}

/// Bytes that are not a value of the expected type and version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is no byte at all.
    #[error("cannot decode {0}: no bytes")]
    Empty(&'static str),
    /// The leading byte names a layout this build does not know.
    #[error("cannot decode {name}: layout {found}, this build knows {known}")]
    Version {
        /// The type.
        name: &'static str,
        /// The byte found.
        found: u8,
        /// The byte expected.
        known: u8,
    },
    /// The bytes are not postcard of the type, or bytes are left over.
    #[error("cannot decode {name}: {reason}")]
    Layout {
        /// The type.
        name: &'static str,
        /// What postcard says.
        reason: String,
    },
}

/// `value` as its version byte and postcard.
///
/// # Panics
/// Never for the types of this crate: postcard fails only on maps of unknown length and on a full buffer,
/// and neither occurs.
pub fn encode<T: Versioned>(value: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(128);
    bytes.push(T::VERSION);
    match postcard::to_extend(value, bytes) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) => panic!("cannot encode {}: {error}", T::NAME),
    }
}

/// The inverse of [`encode`].
///
/// # Errors
/// When the bytes are empty, of another layout version, not postcard of `T`, or have a tail.
pub fn decode<T: Versioned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (&found, rest) = bytes.split_first().ok_or(DecodeError::Empty(T::NAME))?;
    if found != T::VERSION {
        return Err(DecodeError::Version {
            name: T::NAME,
            found,
            known: T::VERSION,
        });
    }
    match postcard::take_from_bytes::<T>(rest) {
        Ok((value, [])) => Ok(value),
        Ok((_, tail)) => Err(DecodeError::Layout {
            name: T::NAME,
            reason: format!("{} bytes are left over", tail.len()),
        }),
        Err(error) => Err(DecodeError::Layout {
            name: T::NAME,
            reason: error.to_string(),
        }),
    }
}

/// `versioned!(A, B = 2)`: `A` has its first layout, `B` its second.
macro_rules! versioned {
    ($($type:ty $(= $version:literal)?),* $(,)?) => {$(
        impl $crate::codec::Versioned for $type {
            $(const VERSION: u8 = $version;)?
            const NAME: &'static str = stringify!($type);
        }
    )*};
}
pub(crate) use versioned;
