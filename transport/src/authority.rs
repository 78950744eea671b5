//! The cluster's certificate authority: derived from the cluster secret, so that every holder of the secret
//! (metadata nodes, gateways) has the same one and issues for itself.

use crate::credentials::{Chain, LIFE, PublicHalf};
use crate::identity::Identity;
use crate::secret_file;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use aws_lc_rs::{digest, hkdf};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose,
    PKCS_ED25519, SanType, SerialNumber, SignatureAlgorithm,
};
use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// What HKDF binds the authority's key to.
const KEY_INFO: &[u8] = b"ullage cluster authority v1";
/// The authority's name, the same in every cluster: the key tells clusters apart.
const NAME: &str = "Ullage cluster authority";
/// How far certificates are backdated, for clocks that are behind.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// Why keys and certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A secret, key or certificate is not what it should be.
    #[error("{what}: {reason}")]
    Unusable {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

/// `what` cannot be used because of `reason`.
pub(crate) fn unusable(what: &'static str, reason: impl fmt::Display) -> TrustError {
    TrustError::Unusable {
        what,
        reason: reason.to_string(),
    }
}

/// The secret that the metadata nodes and gateways of a cluster share: 32 random bytes.
#[derive(Clone)]
pub struct ClusterSecret(Zeroizing<[u8; 32]>);

impl ClusterSecret {
    /// The secret `bytes`.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads the file that `ullage keygen` made.
    ///
    /// # Errors
    /// When the file cannot be read, is readable by others, or is no such file.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let refused = |reason: String| unusable("the cluster secret", reason);
        let text = secret_file::read(path).map_err(refused)?;
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), bytes.as_mut_slice()).map_err(|_| {
            let reason = "not 64 hexadecimal digits, as `ullage keygen` writes them";
            refused(format!("{}: {reason}", path.display()))
        })?;
        Ok(Self(bytes))
    }
}

// The secret stays out of logs.
impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSecret").finish_non_exhaustive()
    }
}

/// SHA-256 of the authority's certificate: what a join token pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of the certificate `der`.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(bytes)
    }
}

/// The cluster's authority.
pub struct Authority {
    issuer: Issuer<'static, Key>,
    certificate: Vec<u8>,
}

/// The authority's key as the certificate writer wants it.
struct Key(Ed25519KeyPair);

impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl rcgen::PublicKeyData for PublicHalf {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl Authority {
    /// The authority of `secret`'s cluster: always the same key and certificate (Ed25519 by HKDF-SHA256).
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn derive(secret: &ClusterSecret) -> Result<Self, TrustError> {
        let what = "the cluster's authority";
        let mut seed = Zeroizing::new([0; 32]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
            .extract(secret.0.as_slice())
            .expand(&[KEY_INFO], hkdf::HKDF_SHA256)
            .and_then(|output| output.fill(seed.as_mut_slice()))
            .map_err(|error| unusable(what, error))?;
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|error| unusable(what, error))?;
        let key = Key(pair);
        // Nothing here may vary: every holder must arrive at the same certificate, byte for byte, because join
        // tokens pin it.
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.serial_number = Some(SerialNumber::from(1));
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2120, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params
            .self_signed(&key)
            .map_err(|error| unusable(what, error))?
            .der()
            .to_vec();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// What a join token pins.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// A certificate for `identity` over the public key `spki` (DER, `SubjectPublicKeyInfo`, as a client's
    /// enrolment request carries it): valid from a day before `now` for [`LIFE`].
    ///
    /// # Errors
    /// When `spki` is no key that certificates are made for.
    pub fn issue(&self, identity: Identity, spki: &[u8], now: SystemTime) -> Result<Chain, TrustError> {
        let what = "a certificate";
        let key = PublicHalf::from_spki(spki)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, identity.to_string());
        let uri = identity
            .to_string()
            .try_into()
            .map_err(|error| unusable(what, error))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.serial_number = Some(random_serial()?);
        let from = whole_seconds(now)?
            .checked_sub(BACKDATED)
            .ok_or_else(|| unusable(what, "its time is before all time"))?;
        params.not_before = from.into();
        params.not_after = (from + LIFE).into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let leaf = params
            .signed_by(&key, &self.issuer)
            .map_err(|error| unusable(what, error))?;
        Ok(Chain {
            leaf: leaf.der().to_vec(),
            authority: self.certificate.clone(),
        })
    }
}

// Its key stays out of logs.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &hex::encode(self.fingerprint().0))
            .finish_non_exhaustive()
    }
}

/// A serial number of 16 bytes, positive and always of the same length (RFC 5280, 4.1.2.2).
fn random_serial() -> Result<SerialNumber, TrustError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|error| unusable("a certificate", error))?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// `now` as certificates can say it.
fn whole_seconds(now: SystemTime) -> Result<SystemTime, TrustError> {
    let since = now
        .duration_since(UNIX_EPOCH)
        .map_err(|error| unusable("the wall clock", error))?;
    // The authority's own validity ends with 2119.
    if since > Duration::from_secs(150 * 365 * 24 * 3600) {
        return Err(unusable("the wall clock", "it is past the year 2119"));
    }
    Ok(UNIX_EPOCH + Duration::from_secs(since.as_secs()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Authority, ClusterSecret};
    use crate::credentials::{LIFE, TlsKey};
    use crate::identity::{Identity, of_certificate};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::time::{Duration, UNIX_EPOCH};

    /// Join tokens in operators' hands pin it: whatever changes it breaks them.
    #[test]
    fn the_authority_of_a_secret_never_changes() {
        let authority = Authority::derive(&ClusterSecret::new([7; 32])).unwrap();
        let again = Authority::derive(&ClusterSecret::new([7; 32])).unwrap();
        assert_eq!(authority.fingerprint(), again.fingerprint());
        assert_eq!(
            hex::encode(authority.fingerprint().0),
            "4538cebb3dcf9fb47694c183fcc00718887feb98d035f748272b222769d9802b"
        );
        let other = Authority::derive(&ClusterSecret::new([8; 32])).unwrap();
        assert_ne!(authority.fingerprint(), other.fingerprint());
    }

    #[test]
    fn a_certificate_names_its_identity_and_is_backdated_a_day() {
        let authority = Authority::derive(&ClusterSecret::new([7; 32])).unwrap();
        let key = TlsKey::generate().unwrap();
        let now = UNIX_EPOCH + Duration::from_millis(1_800_000_000_999);
        let one = authority.issue(Identity::Gateway(5), &key.spki(), now).unwrap();
        let two = authority.issue(Identity::Gateway(5), &key.spki(), now).unwrap();
        assert_ne!(one.leaf, two.leaf, "serial numbers differ");
        assert_eq!(of_certificate(&one.leaf).unwrap(), Identity::Gateway(5));
        assert!(of_certificate(&one.authority).is_err(), "the authority is nobody");
        let (_, leaf) = x509_parser::parse_x509_certificate(&one.leaf).unwrap();
        let from = leaf.validity().not_before.timestamp();
        let until = leaf.validity().not_after.timestamp();
        assert_eq!(from, 1_800_000_000 - 24 * 3600);
        assert_eq!(u64::try_from(until - from).unwrap(), LIFE.as_secs());
    }

    #[test]
    fn only_ed25519_keys_are_certified() {
        let authority = Authority::derive(&ClusterSecret::new([7; 32])).unwrap();
        let spki = TlsKey::generate().unwrap().spki();
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut other_kind = spki.clone();
        other_kind[8] ^= 1;
        let longer = [spki.as_slice(), &[0]].concat();
        for bad in [&spki[..spki.len() - 1], &longer, &other_kind, &[]] {
            assert!(authority.issue(Identity::Metad(1), bad, now).is_err());
        }
        let before_all_time = UNIX_EPOCH - Duration::from_secs(1);
        assert!(
            authority
                .issue(Identity::Metad(1), &spki, before_all_time)
                .is_err()
        );
    }

    #[test]
    fn a_secret_is_read_from_a_file_that_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: u32| -> PathBuf {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let text = format!("{}\n", "07".repeat(32));
        let read = ClusterSecret::read(&write("good", &text, 0o600)).unwrap();
        assert_eq!(*read.0, [7; 32]);
        ClusterSecret::read(&write("read-only", &text, 0o400)).unwrap();
        for (name, text, mode) in [
            ("group", text.as_str(), 0o660),
            ("world", &text, 0o604),
            ("short", &text[2..], 0o600),
            ("long", &format!("00{text}"), 0o600),
            ("none", "", 0o600),
            ("huge", &" ".repeat(10_000), 0o600),
        ] {
            let refused = ClusterSecret::read(&write(name, text, mode))
                .unwrap_err()
                .to_string();
            assert!(refused.contains(name) && !refused.contains("0707"), "{refused}");
        }
        assert!(ClusterSecret::read(&directory.path().join("absent")).is_err());
        assert!(!format!("{read:?}").contains('7'));
    }
}
