//! The settings of TLS: version 1.3 only, no resumption, certificates checked against the cluster's authority
//! and the wall clock. Host names are not looked at: a certificate names an identity, which the caller compares.

use crate::authority::{Fingerprint, TrustError, unusable};
use crate::credentials::{Chain, TlsKey, WallClock};
use crate::identity::{Identity, of_certificate};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Sealed bytes of a connection that wait for the socket: enough for the longest frame of HTTP/2, so that it goes out
/// with one call. rustls would take 64 KiB.
pub(crate) const SEALED_BYTES: usize = 272 * 1024;

/// HTTP/2, as ALPN calls it.
const H2: &[u8] = b"h2";

/// aws-lc's primitives. AES-128 comes first: chunks are encrypted already, and it is the fastest.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    })
}

/// Why a handshake failed, in words for operators.
pub(crate) fn handshake_failure(error: &std::io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate is not of this cluster: are the cluster secrets the same?".to_owned()
        }
        _ => format!("the handshake failed: {error}"),
    }
}

/// What a client uses: with a certificate, or without one.
pub(crate) fn client(
    own: Option<(&TlsKey, &Chain)>,
    authority: Fingerprint,
) -> Result<ClientConfig, TrustError> {
    let what = "TLS of a client";
    let provider = provider();
    let verifier = ServerVerifier {
        authority,
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(what, error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own {
        Some((key, chain)) => builder
            .with_client_auth_cert(certificates(chain), private(key))
            .map_err(|error| unusable(what, error))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![H2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// What a server uses. It sends the authority's certificate too, for callers that know its fingerprint only.
pub(crate) fn server(key: &TlsKey, chain: &Chain) -> Result<ServerConfig, TrustError> {
    let what = "TLS of a server";
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(chain)?), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(what, error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(what, error))?
        .with_client_cert_verifier(Arc::new(ClientVerifier(verifier)))
        .with_single_cert(certificates(chain), private(key))
        .map_err(|error| unusable(what, error))?;
    config.alpn_protocols = vec![H2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// `wall` as TLS reads it.
pub(crate) fn judged_by(wall: &WallClock) -> Arc<dyn TimeProvider> {
    struct Wall(WallClock);
    impl fmt::Debug for Wall {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Wall")
        }
    }
    impl TimeProvider for Wall {
        fn current_time(&self) -> Option<UnixTime> {
            let since = (self.0)().duration_since(UNIX_EPOCH).ok()?;
            Some(UnixTime::since_unix_epoch(since))
        }
    }
    Arc::new(Wall(wall.clone()))
}

/// Whether `chain` hangs together at `now`.
pub(crate) fn verify_chain(chain: &Chain, now: SystemTime) -> Result<(), TrustError> {
    let what = "the certificate";
    let since = now
        .duration_since(UNIX_EPOCH)
        .map_err(|error| unusable(what, error))?;
    let leaf = CertificateDer::from(chain.leaf.as_slice());
    let parsed = ParsedCertificate::try_from(&leaf).map_err(|error| unusable(what, error))?;
    let algorithms = provider().signature_verification_algorithms;
    let now = UnixTime::since_unix_epoch(since);
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots(chain)?, &[], now, algorithms.all)
        .map_err(|error| unusable(what, error))
}

/// Whom the other side's certificates name; `None` if it showed none.
pub(crate) fn peer_identity(
    certificates: Option<&[CertificateDer<'_>]>,
) -> Result<Option<Identity>, TrustError> {
    match certificates.and_then(<[_]>::first) {
        Some(leaf) => of_certificate(leaf).map(Some),
        None => Ok(None),
    }
}

/// The name that a client gives to TLS, which wants one; nobody looks at it.
pub(crate) fn no_name() -> Result<ServerName<'static>, TrustError> {
    ServerName::try_from("ullage.internal").map_err(|error| unusable("TLS of a client", error))
}

fn certificates(chain: &Chain) -> Vec<CertificateDer<'static>> {
    vec![
        CertificateDer::from(chain.leaf.clone()),
        CertificateDer::from(chain.authority.clone()),
    ]
}

fn private(key: &TlsKey) -> rustls::pki_types::PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.to_pkcs8().to_vec()).into()
}

fn roots(chain: &Chain) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(chain.authority.clone()))
        .map_err(|error| unusable("the authority", error))?;
    Ok(roots)
}

/// Checks a server: its certificate must hang from the authority with the known fingerprint, which the server
/// sends along.
#[derive(Debug)]
struct ServerVerifier {
    authority: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == self.authority)
            .ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, self.algorithms.all)?;
        must_name_somebody(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Checks a client that shows a certificate as rustls does, and that it names somebody.
#[derive(Debug)]
struct ClientVerifier(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        must_name_somebody(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn only_tls13() -> rustls::Error {
    rustls::PeerIncompatible::Tls12NotOffered.into()
}

fn must_name_somebody(certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
    match of_certificate(certificate) {
        Ok(_) => Ok(()),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{client, no_name, peer_identity, server};
    use crate::authority::{Authority, ClusterSecret};
    use crate::credentials::{Chain, TlsKey};
    use crate::identity::Identity;
    use std::sync::Arc;
    use std::time::SystemTime;
    use tokio::io::AsyncReadExt;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    fn authority(secret: u8) -> Authority {
        Authority::derive(&ClusterSecret::new([secret; 32])).unwrap()
    }

    fn issued(authority: &Authority, identity: Identity) -> (TlsKey, Chain) {
        let key = TlsKey::generate().unwrap();
        let chain = authority.issue(identity, &key.spki(), SystemTime::now()).unwrap();
        (key, chain)
    }

    /// Whom a server of authority 1 meets in a client that trusts authority 1 and shows `shown`.
    async fn met(shown: Option<&(TlsKey, Chain)>) -> Result<Option<Identity>, String> {
        let ours = authority(1);
        let (key, chain) = issued(&ours, Identity::Metad(1));
        let acceptor = TlsAcceptor::from(Arc::new(server(&key, &chain).unwrap()));
        let shown = shown.map(|(key, chain)| (key, chain));
        let connector = TlsConnector::from(Arc::new(client(shown, ours.fingerprint()).unwrap()));
        let (near, far) = tokio::io::duplex(64 * 1024);
        let connecting = async {
            let mut stream = connector.connect(no_name().unwrap(), near).await.unwrap();
            // The server's refusal comes after the client's own handshake has ended.
            let _ = stream.read(&mut [0]).await;
        };
        let accepting = async {
            let stream = acceptor.accept(far).await.map_err(|error| error.to_string())?;
            peer_identity(stream.get_ref().1.peer_certificates()).map_err(|error| error.to_string())
        };
        tokio::join!(connecting, accepting).1
    }

    #[tokio::test]
    async fn a_server_knows_its_own_and_refuses_strangers() {
        let own = issued(&authority(1), Identity::Gateway(5));
        assert_eq!(met(Some(&own)).await, Ok(Some(Identity::Gateway(5))));
        assert_eq!(met(None).await, Ok(None));
        let (key, mut chain) = issued(&authority(2), Identity::Gateway(5));
        assert!(met(Some(&(key.clone(), chain.clone()))).await.is_err());
        // Claiming to hang from the right authority does not help, nor does the authority's own certificate.
        chain.authority.clone_from(&own.1.authority);
        assert!(met(Some(&(key.clone(), chain.clone()))).await.is_err());
        chain.leaf.clone_from(&own.1.leaf);
        assert!(
            client(Some((&key, &chain)), authority(1).fingerprint()).is_err(),
            "another key's certificate"
        );
    }
}
