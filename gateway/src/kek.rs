//! The key-encryption key: reading its file, its name and check value, and what is sealed under
//! it (blobs' data keys, users' secrets). The KEK never leaves this module.
//!
//! Formats. The file, which `ullage keygen` makes, holds 32 random bytes as 64 hexadecimal digits and a line end,
//! mode 0600. From it BLAKE3 `derive_key` makes three values, each under a context of its own: the id (first 8
//! bytes, big-endian), the check value (32 bytes) and the wrapping key. Whatever is sealed under the KEK is `salt
//! (24 random bytes) || ciphertext || tag (16)`: AES-256-GCM with an all-zero nonce under the key `BLAKE3
//! keyed_hash(wrapping key, purpose || salt)`, and the thing it is bound to as associated data. A fresh key per
//! sealing lifts the bound of 2^32 sealings that random 96-bit nonces would put on a KEK (NIST SP 800-38D, section
//! 8.3).

use crate::environment::Randomness;
use crate::error::Error;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::Bytes;
use std::fmt;
use std::path::Path;
use ullage_model::ids::{BlobId, KekId};
use ullage_model::namespace::rows::WrappedKey;
use ullage_transport::secret_file;
use zeroize::Zeroizing;

/// Bytes of a KEK and of a data key.
pub const KEY_BYTES: usize = 32;
const SALT_BYTES: usize = 24;
/// Of AES-256-GCM.
const TAG_BYTES: usize = 16;
const ID_CONTEXT: &str = "Ullage 2026 key-encryption key: id v1";
const CHECK_CONTEXT: &str = "Ullage 2026 key-encryption key: check value v1";
const WRAP_CONTEXT: &str = "Ullage 2026 key-encryption key: wrapping v1";
const DATA_KEY: &[u8] = b"data key";
const SECRET: &[u8] = b"user secret";

/// A key-encryption key.
#[derive(Clone)]
pub struct Kek {
    id: KekId,
    check_value: Bytes,
    wrapping: Zeroizing<[u8; KEY_BYTES]>,
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({})", self.id)
    }
}

impl Kek {
    /// The KEK made of `key`.
    #[must_use]
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        let id = blake3::derive_key(ID_CONTEXT, key);
        let mut first = [0; 8];
        first.copy_from_slice(&id[..8]);
        Self {
            id: KekId(u64::from_be_bytes(first)),
            check_value: Bytes::copy_from_slice(&blake3::derive_key(CHECK_CONTEXT, key)),
            wrapping: Zeroizing::new(blake3::derive_key(WRAP_CONTEXT, key)),
        }
    }

    /// Reads the KEK in `path`.
    ///
    /// # Errors
    /// When the file cannot be read, may be read by others than its owner, or is not 64 hexadecimal digits.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = secret_file::read(path).map_err(Error::Kek)?;
        Self::parse(&text).map_err(|_| {
            let reason = "not 64 hexadecimal digits, as `ullage keygen` writes them";
            Error::Kek(format!("{}: {reason}", path.display()))
        })
    }

    /// The KEK written as 64 hexadecimal digits, white space around them allowed.
    ///
    /// # Errors
    /// When `text` is anything else.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        hex::decode_to_slice(text.trim(), key.as_mut_slice())
            .map_err(|_| Error::Kek("not 64 hexadecimal digits".to_owned()))?;
        Ok(Self::new(&key))
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> KekId {
        self.id
    }

    /// What a wrong KEK cannot show; tells nothing about the key.
    #[must_use]
    pub fn check_value(&self) -> &Bytes {
        &self.check_value
    }

    /// Wraps a blob's data key, bound to the blob.
    #[must_use]
    pub fn wrap_data_key(&self, blob: BlobId, key: &[u8; KEY_BYTES], random: &dyn Randomness) -> WrappedKey {
        self.seal(DATA_KEY, &blob.to_bytes(), key, random)
    }

    /// The inverse of [`Kek::wrap_data_key`].
    ///
    /// # Errors
    /// When it was wrapped by another KEK, for another blob, or was changed.
    pub fn unwrap_data_key(
        &self,
        blob: BlobId,
        wrapped: &WrappedKey,
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, Error> {
        let opened = self.open(DATA_KEY, &blob.to_bytes(), wrapped)?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if opened.len() != KEY_BYTES {
            return Err(Error::Kek(format!(
                "the wrapped key of {blob} has a wrong length"
            )));
        }
        key.copy_from_slice(&opened);
        Ok(key)
    }

    /// Seals a user's secret, bound to its access key.
    #[must_use]
    pub fn seal_secret(&self, access_key: &str, secret: &str, random: &dyn Randomness) -> WrappedKey {
        self.seal(SECRET, access_key.as_bytes(), secret.as_bytes(), random)
    }

    /// The inverse of [`Kek::seal_secret`].
    ///
    /// # Errors
    /// When it was sealed under another KEK, for another access key, or was changed.
    pub fn open_secret(&self, access_key: &str, sealed: &WrappedKey) -> Result<Zeroizing<String>, Error> {
        let opened = self.open(SECRET, access_key.as_bytes(), sealed)?;
        let text = std::str::from_utf8(&opened)
            .map_err(|_| Error::Kek(format!("the secret of {access_key} is not text")))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    fn seal(&self, purpose: &[u8], bound_to: &[u8], plain: &[u8], random: &dyn Randomness) -> WrappedKey {
        let mut bytes = Vec::with_capacity(SALT_BYTES + plain.len() + TAG_BYTES);
        bytes.resize(SALT_BYTES, 0);
        random.fill(&mut bytes);
        let key = self.sealing_key(purpose, &bytes);
        bytes.extend_from_slice(plain);
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(bound_to), &mut bytes[SALT_BYTES..]);
        // AES-256-GCM refuses only inputs beyond 64 GiB.
        let Ok(tag) = tag else {
            panic!("AES-256-GCM refused {} bytes", plain.len())
        };
        bytes.extend_from_slice(tag.as_ref());
        WrappedKey {
            kek: self.id,
            bytes: Bytes::from(bytes),
        }
    }

    fn open(
        &self,
        purpose: &[u8],
        bound_to: &[u8],
        sealed: &WrappedKey,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        if sealed.kek != self.id {
            return Err(Error::Kek(format!(
                "sealed under {}, not under {}",
                sealed.kek, self.id
            )));
        }
        let plain_bytes = sealed.bytes.len().checked_sub(SALT_BYTES + TAG_BYTES);
        let Some(plain_bytes) = plain_bytes else {
            return Err(Error::Kek("what was sealed under it is too short".to_owned()));
        };
        let (salt, rest) = sealed.bytes.split_at(SALT_BYTES);
        let (ciphertext, tag) = rest.split_at(plain_bytes);
        let mut plain = Zeroizing::new(vec![0; plain_bytes]);
        self.sealing_key(purpose, salt)
            .open_separate_gather(nonce(), Aad::from(bound_to), ciphertext, tag, &mut plain)
            .map_err(|_| Error::Kek("what was sealed under it was changed".to_owned()))?;
        Ok(plain)
    }

    fn sealing_key(&self, purpose: &[u8], salt: &[u8]) -> LessSafeKey {
        let mut hasher = blake3::Hasher::new_keyed(&self.wrapping);
        hasher.update(purpose).update(salt);
        let key = Zeroizing::new(*hasher.finalize().as_bytes());
        gcm_key(&key)
    }
}

/// An AES-256-GCM key of 32 bytes.
pub(crate) fn gcm_key(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    match UnboundKey::new(&AES_256_GCM, key) {
        Ok(key) => LessSafeKey::new(key),
        // The length is right by its type, and nothing else is checked.
        Err(_) => panic!("AES-256 refused a key of {KEY_BYTES} bytes"),
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::{KEY_BYTES, Kek};
    use crate::environment::SystemRandomness;
    use bytes::Bytes;
    use std::os::unix::fs::PermissionsExt;
    use ullage_model::ids::{BlobId, SessionId};

    fn blob(counter: u64) -> BlobId {
        BlobId {
            session: SessionId(7),
            counter,
        }
    }

    #[test]
    fn data_keys_open_only_for_their_blob_under_their_kek() {
        let kek = Kek::new(&[1; KEY_BYTES]);
        let wrapped = kek.wrap_data_key(blob(1), &[9; KEY_BYTES], &SystemRandomness);
        assert_eq!(*kek.unwrap_data_key(blob(1), &wrapped).unwrap(), [9; KEY_BYTES]);
        assert!(kek.unwrap_data_key(blob(2), &wrapped).is_err());
        assert!(
            Kek::new(&[2; KEY_BYTES])
                .unwrap_data_key(blob(1), &wrapped)
                .is_err()
        );
        for at in 0..wrapped.bytes.len() {
            let mut changed = wrapped.clone();
            let mut bytes = changed.bytes.to_vec();
            bytes[at] ^= 1;
            changed.bytes = Bytes::from(bytes);
            assert!(kek.unwrap_data_key(blob(1), &changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn secrets_are_bound_to_their_access_key() {
        let kek = Kek::new(&[1; KEY_BYTES]);
        let sealed = kek.seal_secret("AKIA1", "very secret", &SystemRandomness);
        assert_eq!(kek.open_secret("AKIA1", &sealed).unwrap().as_str(), "very secret");
        assert!(kek.open_secret("AKIA2", &sealed).is_err());
        let as_key = kek.unwrap_data_key(blob(1), &sealed);
        assert!(as_key.is_err(), "purposes are apart");
    }

    #[test]
    fn a_key_file_that_is_not_private_or_not_a_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kek");
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::write(&path, format!("{}\n", hex::encode([1; KEY_BYTES]))).unwrap();
        mode(0o600);
        assert_eq!(Kek::read(&path).unwrap().id(), Kek::new(&[1; KEY_BYTES]).id());
        mode(0o660);
        let error = Kek::read(&path).unwrap_err().to_string();
        assert!(error.contains("660"), "{error}");
        mode(0o600);
        std::fs::write(&path, "abc").unwrap();
        assert!(Kek::read(&path).is_err());
    }
}
