//! The day's signing keys, so that four HMACs are not made anew for each
//! request. Bounded: two generations of limited size; when the young one is
//! full it becomes the old one, and the old one is forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::super::error::{ErrorCode, Result, S3Error};
use super::super::limits::SIGNING_KEYS_PER_GENERATION;
use super::super::sha256::sha256;
use super::super::time::UnixMs;

/// A signing key, wiped when dropped.
pub(super) type SigningKey = Zeroizing<[u8; 32]>;

/// A bounded cache of signing keys, shared by all requests.
#[derive(Default)]
pub struct SigningKeys {
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<String, Entry>,
    old: HashMap<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    /// SHA-256 of the secret: an access key may get another secret within a day.
    secret_digest: [u8; 32],
    key: SigningKey,
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKeys(..)")
    }
}

impl SigningKeys {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// The signing key of `ACCESS/date/region/service/aws4_request`.
    pub(super) fn signing_key(&self, full_scope: &str, secret: &str) -> Result<SigningKey> {
        let secret_digest = sha256(secret.as_bytes());
        if let Some(key) = self.cached(full_scope, &secret_digest) {
            return Ok(key);
        }
        let key = derive(full_scope, secret)?;
        let entry = Entry {
            secret_digest,
            key: key.clone(),
        };
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= SIGNING_KEYS_PER_GENERATION {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(full_scope.to_owned(), entry);
        Ok(key)
    }

    fn cached(&self, full_scope: &str, secret_digest: &[u8; 32]) -> Option<SigningKey> {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = generations
            .young
            .get(full_scope)
            .or_else(|| generations.old.get(full_scope))?;
        bool::from(entry.secret_digest.ct_eq(secret_digest)).then(|| entry.key.clone())
    }
}

fn derive(full_scope: &str, secret: &str) -> Result<SigningKey> {
    let mut fields = full_scope.rsplitn(5, '/').skip(1);
    let (Some(service), Some(region), Some(date)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(ErrorCode::AuthorizationHeaderMalformed.into());
    };
    let day = UnixMs::parse_amz_date(&format!("{date}T000000Z"))
        .ok_or_else(|| S3Error::from(ErrorCode::AuthorizationHeaderMalformed))?;
    let made = aws_sigv4::sign::v4::generate_signing_key(secret, day.to_system_time(), region, service);
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(made.as_ref());
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(number: usize) -> String {
        format!("AK{number}/20130524/us-east-1/s3/aws4_request")
    }

    #[test]
    fn the_cache_is_bounded_and_a_new_secret_gets_a_new_key() {
        let keys = SigningKeys::new();
        let first = keys.signing_key(&scope(0), "a").unwrap();
        assert_eq!(first, keys.signing_key(&scope(0), "a").unwrap());
        assert_ne!(first, keys.signing_key(&scope(0), "b").unwrap());
        assert_eq!(first, keys.signing_key(&scope(0), "a").unwrap());
        for number in 0..SIGNING_KEYS_PER_GENERATION * 3 {
            keys.signing_key(&scope(number), "a").unwrap();
        }
        let generations = keys.generations.lock().unwrap();
        assert!(generations.young.len() <= SIGNING_KEYS_PER_GENERATION);
        assert!(generations.old.len() <= SIGNING_KEYS_PER_GENERATION);
    }
}
