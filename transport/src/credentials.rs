//! What a service proves itself with, replaced while it runs.

use crate::authority::{Authority, Fingerprint, TrustError, unusable};
use crate::identity::{Identity, of_certificate};
use crate::tls;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use futures::future::BoxFuture;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// How long a certificate lives; renewed at half of it. Clocks may be days apart.
pub const LIFE: Duration = Duration::from_secs(14 * 24 * 3600);
/// How often the wall clock is looked at for a renewal: it may jump.
const LOOK: Duration = Duration::from_secs(3600);
/// How long after a failed renewal the next one is tried.
const RETRY: Duration = Duration::from_secs(60);

/// DER of everything that comes before an Ed25519 key in its `SubjectPublicKeyInfo` (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// An Ed25519 public key to be certified.
pub(crate) struct PublicHalf(pub(crate) [u8; 32]);

impl PublicHalf {
    pub(crate) fn from_spki(spki: &[u8]) -> Result<Self, TrustError> {
        let key = spki
            .strip_prefix(&SPKI_PREFIX)
            .and_then(|key| <[u8; 32]>::try_from(key).ok());
        key.map(Self)
            .ok_or_else(|| unusable("the public key", "not an Ed25519 SubjectPublicKeyInfo"))
    }
}

/// Where the wall clock is read; the simulator has its own.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A certificate and the authority's certificate, DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The certificate.
    pub leaf: Vec<u8>,
    /// The authority's.
    pub authority: Vec<u8>,
}

/// A TLS key pair (Ed25519) on its way to a certificate.
#[derive(Clone)]
pub struct TlsKey {
    pkcs8: Zeroizing<Vec<u8>>,
    public: [u8; 32],
}

impl TlsKey {
    /// A fresh key.
    ///
    /// # Errors
    /// When the generator fails.
    pub fn generate() -> Result<Self, TrustError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|error| unusable("a new TLS key", error))?;
        Self::from_pkcs8(document.as_ref())
    }

    /// The key that [`TlsKey::to_pkcs8`] wrote.
    ///
    /// # Errors
    /// When the bytes are no such key.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, TrustError> {
        let what = "the TLS key";
        let pair = Ed25519KeyPair::from_pkcs8(bytes).map_err(|error| unusable(what, error))?;
        let public =
            <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|error| unusable(what, error))?;
        Ok(Self {
            pkcs8: Zeroizing::new(bytes.to_vec()),
            public,
        })
    }

    /// The key pair, DER (PKCS #8, RFC 5958), to be kept where only its owner can read it.
    #[must_use]
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.pkcs8.clone()
    }

    /// Its public half, DER `SubjectPublicKeyInfo`: what goes into an enrolment request.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.public].concat()
    }
}

// The private half stays out of logs.
impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsKey")
            .field("public", &hex::encode(self.public))
            .finish_non_exhaustive()
    }
}

/// What a service proves itself with, and whom it trusts. Clones share: a renewal reaches all connections made
/// afterwards.
#[derive(Clone)]
pub struct Credentials {
    current: Arc<Mutex<Arc<Current>>>,
    /// By which certificates are valid or not; the system's, if not set.
    wall: Option<WallClock>,
}

/// One state of credentials.
#[derive(Clone)]
pub(crate) struct Current {
    identity: Option<Identity>,
    renew_at: SystemTime,
    pub(crate) client: Arc<rustls::ClientConfig>,
    /// `None` without a certificate.
    pub(crate) server: Option<Arc<rustls::ServerConfig>>,
}

impl Credentials {
    /// Credentials that a holder of the cluster secret issues for itself.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn issued_by(authority: &Authority, identity: Identity, now: SystemTime) -> Result<Self, TrustError> {
        let key = TlsKey::generate()?;
        let chain = authority.issue(identity, &key.spki(), now)?;
        Self::enrolled(key, &chain, authority.fingerprint())
    }

    /// Credentials of a vendor: the chain answered to its enrolment, checked against the pinned fingerprint.
    /// Whether it is valid now is not looked at: see [`Credentials::renew_at`].
    ///
    /// # Errors
    /// When chain, key and fingerprint do not belong together.
    pub fn enrolled(key: TlsKey, chain: &Chain, authority: Fingerprint) -> Result<Self, TrustError> {
        let what = "the certificate";
        if Fingerprint::of(&chain.authority) != authority {
            return Err(unusable("the authority", "it is not the one that is pinned"));
        }
        let identity = of_certificate(&chain.leaf)?;
        let (from, until) = validity(&chain.leaf, &key)?;
        let middle = from
            + until
                .duration_since(from)
                .map_err(|error| unusable(what, error))?
                / 2;
        tls::verify_chain(chain, middle)?;
        Ok(Self::of(Current {
            identity: Some(identity),
            renew_at: middle,
            client: Arc::new(tls::client(Some((&key, chain)), authority)?),
            server: Some(Arc::new(tls::server(&key, chain)?)),
        }))
    }

    /// No identity of its own, for a vendor that enrols: the other side must belong to the pinned authority.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn anonymous(authority: Fingerprint) -> Result<Self, TrustError> {
        Ok(Self::of(Current {
            identity: None,
            renew_at: UNIX_EPOCH,
            client: Arc::new(tls::client(None, authority)?),
            server: None,
        }))
    }

    /// The same credentials, which from now on judge certificates by `wall` instead of the system's clock. To
    /// be called before they are cloned.
    #[must_use]
    pub fn with_wall_clock(mut self, wall: WallClock) -> Self {
        self.wall = Some(wall);
        self.replace(&self);
        self
    }

    /// Puts `newer` in the place of these, in all clones.
    pub fn replace(&self, newer: &Self) {
        let newer = match &self.wall {
            Some(wall) => Arc::new(newer.current().judged_by(wall)),
            None => newer.current(),
        };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = newer;
    }

    /// Whose they are.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.current().identity
    }

    /// When they should be renewed: half of their life; long ago, if they have no certificate.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        self.current().renew_at
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn of(current: Current) -> Self {
        Self {
            current: Arc::new(Mutex::new(Arc::new(current))),
            wall: None,
        }
    }
}

impl Current {
    fn judged_by(&self, wall: &WallClock) -> Self {
        let mut client = rustls::ClientConfig::clone(&self.client);
        client.time_provider = tls::judged_by(wall);
        let server = self.server.as_ref().map(|server| {
            let mut server = rustls::ServerConfig::clone(server);
            server.time_provider = tls::judged_by(wall);
            Arc::new(server)
        });
        Self {
            client: Arc::new(client),
            server,
            ..self.clone()
        }
    }
}

// Keys stay out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current();
        f.debug_struct("Credentials")
            .field("identity", &current.identity)
            .field("renew_at", &current.renew_at)
            .finish_non_exhaustive()
    }
}

/// From when until when the certificate `leaf`, which must be over `key`, is valid.
fn validity(leaf: &[u8], key: &TlsKey) -> Result<(SystemTime, SystemTime), TrustError> {
    let what = "the certificate";
    let (_, certificate) =
        x509_parser::parse_x509_certificate(leaf).map_err(|error| unusable(what, error))?;
    if certificate.public_key().raw != key.spki() {
        return Err(unusable(what, "it is over another key"));
    }
    let at = |time: x509_parser::time::ASN1Time| {
        u64::try_from(time.timestamp())
            .ok()
            .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
            .ok_or_else(|| unusable(what, "its validity is before 1970"))
    };
    let validity = certificate.validity();
    Ok((at(validity.not_before)?, at(validity.not_after)?))
}

/// What a renewal comes to.
pub type Renewed = Result<Credentials, Box<dyn Error + Send + Sync>>;

/// Keeps `credentials` fresh until `stop`: whenever they are at half of their life, `renew` is asked for newer
/// ones, again and again until it succeeds.
pub async fn keep_renewed<F>(credentials: Credentials, wall: WallClock, stop: CancellationToken, mut renew: F)
where
    F: FnMut() -> BoxFuture<'static, Renewed> + Send,
{
    loop {
        let wait = match credentials.renew_at().duration_since(wall()) {
            Ok(left) if !left.is_zero() => left.min(LOOK),
            _ => {
                let renewed = tokio::select! {
                    () = stop.cancelled() => return,
                    renewed = renew() => renewed,
                };
                match renewed {
                    Ok(newer) => {
                        credentials.replace(&newer);
                        tracing::info!(renew_at = ?credentials.renew_at(), "renewed the certificate");
                    }
                    Err(error) => tracing::warn!(%error, "cannot renew the certificate yet"),
                }
                RETRY
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// [`keep_renewed`] for a holder of the cluster secret, which issues for itself.
pub async fn keep_issued(
    credentials: Credentials,
    authority: Arc<Authority>,
    wall: WallClock,
    stop: CancellationToken,
) {
    let Some(identity) = credentials.identity() else {
        tracing::error!("credentials without an identity are not renewed");
        return;
    };
    let now = wall.clone();
    let renew = move || -> BoxFuture<'static, Renewed> {
        let issued = Credentials::issued_by(&authority, identity, now());
        Box::pin(async move { issued.map_err(Into::into) })
    };
    keep_renewed(credentials, wall, stop, renew).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Credentials, LIFE, keep_issued, keep_renewed};
    use crate::authority::{Authority, ClusterSecret};
    use crate::identity::Identity;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};
    use tokio_util::sync::CancellationToken;

    const START: Duration = Duration::from_secs(1_800_000_000);

    fn authority() -> Arc<Authority> {
        Arc::new(Authority::derive(&ClusterSecret::new([7; 32])).unwrap())
    }

    /// A wall clock that goes with tokio's.
    fn wall() -> super::WallClock {
        let started = tokio::time::Instant::now();
        Arc::new(move || UNIX_EPOCH + START + started.elapsed())
    }

    fn issued(authority: &Authority, now: SystemTime) -> Credentials {
        Credentials::issued_by(authority, Identity::Gateway(1), now).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn certificates_are_renewed_at_half_of_their_life_for_ever() {
        let (authority, wall, stop) = (authority(), wall(), CancellationToken::new());
        let credentials = issued(&authority, wall());
        assert_eq!(
            credentials.renew_at(),
            wall() - Duration::from_secs(24 * 3600) + LIFE / 2
        );
        let keeper = tokio::spawn(keep_issued(
            credentials.clone(),
            authority,
            wall.clone(),
            stop.clone(),
        ));
        for _ in 0..60 {
            tokio::time::sleep(LIFE / 14).await;
            assert!(
                credentials.renew_at() > wall() - Duration::from_secs(3700),
                "renewed in time"
            );
        }
        stop.cancel();
        keeper.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_fails_is_tried_again() {
        let (authority, wall, stop) = (authority(), wall(), CancellationToken::new());
        let credentials = issued(&authority, wall());
        let tries = Arc::new(AtomicUsize::new(0));
        let (counted, now, first) = (tries.clone(), wall.clone(), credentials.renew_at());
        let renew = move || -> futures::future::BoxFuture<'static, super::Renewed> {
            let tried = counted.fetch_add(1, SeqCst);
            let newer = issued(&authority, now());
            Box::pin(async move {
                if tried < 3 {
                    Err("not yet".into())
                } else {
                    Ok(newer)
                }
            })
        };
        let keeper = tokio::spawn(keep_renewed(credentials.clone(), wall, stop.clone(), renew));
        tokio::time::sleep(LIFE / 2 + Duration::from_secs(3600)).await;
        assert!(credentials.renew_at() > first);
        assert_eq!(tries.load(SeqCst), 4);
        stop.cancel();
        keeper.await.unwrap();
    }
}
