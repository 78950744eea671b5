//! How the agent comes into the cluster: with the operator's join token the first time, with its registered key
//! from then on. What it has been given is kept in the data directory; the token is not needed again.

use crate::config::Config;
use crate::device::data_dir::{DataDir, StoredCredentials};
use crate::error::AgentError;
use crate::network::NetworkMetad;
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use ullage_model::wire::agent::{Characteristics, DeviceReport, RegisterRequest};
use ullage_model::wire::chunk::{PublicKey, Signature};
use ullage_model::wire::enrol::{EnrolReply, EnrolRequest, JoinToken};
use ullage_model::wire::metad::MetadError;
use ullage_model::wire::routes;
use ullage_transport::authority::Fingerprint;
use ullage_transport::client::{Client, ClientLimits};
use ullage_transport::credentials::{Chain, Credentials, LIFE, TlsKey, WallClock};
use ullage_transport::network::Network;

/// How long one enrolment may take with all its attempts.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two enrolments that reached nobody.
const PAUSE: Duration = Duration::from_secs(1);

/// What it takes to enrol, at the start and for every renewal.
#[derive(Clone)]
pub(crate) struct Enroller {
    name: String,
    characteristics: Characteristics,
    key: SigningKey,
    authority: Fingerprint,
    metad: Arc<NetworkMetad>,
}

/// What an enrolment came to.
pub(crate) struct Enrolled {
    pub(crate) credentials: Credentials,
    pub(crate) reply: EnrolReply,
    /// To be kept.
    pub(crate) stored: StoredCredentials,
}

/// What the agent knows of its place in a cluster before it has said a word.
pub(crate) struct Entry {
    /// What it was given before.
    credentials: Option<(Credentials, StoredCredentials)>,
    token: Option<JoinToken>,
    /// Whom it trusts.
    authority: Fingerprint,
    /// Where metadata nodes may be.
    pub(crate) addresses: Vec<String>,
}

impl Entry {
    /// Looks at the data directory and at the join token. Blocks.
    ///
    /// # Errors
    /// When there is neither, one is not what it should be, or they are of two clusters.
    pub(crate) fn read(config: &Config, data_dir: &DataDir) -> Result<Self, AgentError> {
        let stored = data_dir.credentials()?;
        let token = match &config.join_token_file {
            Some(path) if stored.is_none() => Some(read_token(path)?),
            // What has done its work may be gone, or hold anything but a token of another cluster.
            Some(path) => read_token(path).ok(),
            None => None,
        };
        let authority = match (&stored, &token) {
            (Some(stored), Some(token)) if stored.authority != token.authority => {
                return Err(AgentError::Enrol(
                    "the join token is of another cluster than the data directory; a vendor belongs to one \
                     cluster: give it another data directory, or take the token away"
                        .to_owned(),
                ));
            }
            (Some(stored), _) => stored.authority,
            (None, Some(token)) => token.authority,
            (None, None) => {
                return Err(AgentError::Config {
                    key: "join_token_file",
                    reason: "a vendor's first start needs a join token (`ullage admin invite vendor`)"
                        .to_owned(),
                });
            }
        };
        let told = token.iter().flat_map(|token| &token.metad);
        let known = stored.iter().flat_map(|stored| &stored.metad);
        let addresses = config.metad.iter().chain(known).chain(told).cloned().collect();
        let authority = Fingerprint(authority);
        let credentials = match stored {
            Some(stored) => Some((of_stored(&stored, authority)?, stored)),
            None => None,
        };
        Ok(Self {
            credentials,
            token,
            authority,
            addresses,
        })
    }

    /// What enrols `config`'s vendor.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn enroller(
        &self,
        config: &Config,
        key: SigningKey,
        network: Arc<dyn Network>,
        wall: &WallClock,
        random: u64,
    ) -> Result<Enroller, AgentError> {
        // Never with a certificate: an expired one would not get as far as the route.
        let anonymous = Credentials::anonymous(self.authority)?.with_wall_clock(Arc::clone(wall));
        let client = Client::new(network, anonymous, ClientLimits::default());
        Ok(Enroller {
            name: config.name.clone(),
            characteristics: config.characteristics(),
            key,
            authority: self.authority,
            metad: Arc::new(NetworkMetad::new(client, self.addresses.clone(), random)),
        })
    }

    /// The credentials to start with: those from before while they are good, else new ones, asked for until
    /// somebody answers. What is new is to be kept by the caller.
    ///
    /// # Errors
    /// When the metadata service will not have this vendor.
    pub(crate) async fn credentials(
        self,
        enroller: &Enroller,
        wall: &WallClock,
    ) -> Result<(Credentials, Option<Enrolled>), AgentError> {
        let secret = self.token.map(|token| token.secret);
        let mut before = self.credentials;
        if let Some((good, _)) = before.take_if(|(known, _)| known.renew_at() > wall()) {
            return Ok((good, None));
        }
        let mut said = None;
        loop {
            match enroller.enrol(secret, Vec::new()).await {
                Ok(enrolled) => return Ok((enrolled.credentials.clone(), Some(enrolled))),
                Err(MetadError::Refused(rejection)) => {
                    return Err(AgentError::Enrol(rejection.to_string()));
                }
                Err(error) => {
                    // It may be good for a while yet, and is renewed while the agent runs.
                    if let Some((old, _)) = before.take_if(|(old, _)| old.renew_at() + LIFE / 2 > wall()) {
                        tracing::warn!(%error, "cannot renew the certificate yet");
                        return Ok((old, None));
                    }
                    let error = error.to_string();
                    if said.as_ref() != Some(&error) {
                        tracing::warn!(error, "cannot enrol yet");
                        said = Some(error);
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Enroller {
    /// Asks for a certificate over a fresh key. A running agent names its devices, for what it says replaces what
    /// it said before.
    ///
    /// # Errors
    /// The metadata service's word, or that there was none.
    pub(crate) async fn enrol(
        &self,
        secret: Option<[u8; 32]>,
        devices: Vec<DeviceReport>,
    ) -> Result<Enrolled, MetadError> {
        let unusable = |error: ullage_transport::authority::TrustError| {
            MetadError::Unavailable(format!("its certificate cannot be used: {error}"))
        };
        let tls_key = TlsKey::generate().map_err(unusable)?;
        let spki = tls_key.spki();
        let signed = EnrolRequest::signed_bytes(&self.authority.0, &spki);
        let request = EnrolRequest {
            secret,
            register: RegisterRequest {
                public_key: PublicKey(self.key.verifying_key().to_bytes()),
                name: self.name.clone(),
                characteristics: self.characteristics.clone(),
                devices,
            },
            tls_key: Bytes::from(spki),
            signature: Signature(Bytes::copy_from_slice(&self.key.sign(&signed).to_bytes())),
        };
        let reply: EnrolReply = self.metad.call(routes::ENROL, &request, PATIENCE).await?;
        let chain = Chain {
            leaf: reply.certificate.to_vec(),
            authority: reply.authority.to_vec(),
        };
        let credentials = Credentials::enrolled(tls_key.clone(), &chain, self.authority).map_err(unusable)?;
        let stored = StoredCredentials {
            authority: self.authority.0,
            authority_certificate: chain.authority,
            certificate: chain.leaf,
            tls_key: tls_key.to_pkcs8(),
            metad: reply.metad.clone(),
        };
        Ok(Enrolled {
            credentials,
            reply,
            stored,
        })
    }
}

fn of_stored(stored: &StoredCredentials, authority: Fingerprint) -> Result<Credentials, AgentError> {
    let chain = Chain {
        leaf: stored.certificate.clone(),
        authority: stored.authority_certificate.clone(),
    };
    let key = TlsKey::from_pkcs8(&stored.tls_key)?;
    Ok(Credentials::enrolled(key, &chain, authority)?)
}

fn read_token(path: &Path) -> Result<JoinToken, AgentError> {
    let text = std::fs::read_to_string(path).map_err(AgentError::file("read", path))?;
    JoinToken::from_text(&text).map_err(|error| AgentError::Config {
        key: "join_token_file",
        reason: format!("{}: {error}", path.display()),
    })
}
