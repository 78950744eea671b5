//! Grants: short-lived tokens, signed by this node's own key, that let one session do one thing at one
//! vendor.

use crate::error::Error;
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use ullage_model::cluster_time::ClusterTime;
use ullage_model::codec;
use ullage_model::ids::{ClusterId, Epoch, SessionId, VendorId};
use ullage_model::limits::GRANT_MS;
use ullage_model::wire::chunk::{GRANT_CONTEXT, Grant, GrantAction, GrantBody, PublicKey, Signature};

/// Read grants are signed anew when less than this is left of them.
const READ_GRANT_RENEWED_MS: u64 = GRANT_MS / 2;
/// Read grants kept; beyond, all are forgotten and signed again as they are asked for.
const READ_GRANTS_MAX: usize = 65_536;

/// To whom a grant is made out, and when.
#[derive(Clone, Copy, Debug)]
pub struct Grantee {
    /// The cluster.
    pub cluster: ClusterId,
    /// The session that may act.
    pub session: SessionId,
    /// Where.
    pub vendor: VendorId,
    /// Cluster time now.
    pub now: ClusterTime,
}

/// Signs grants.
pub struct GrantSigner {
    key: SigningKey,
    read: Mutex<HashMap<(SessionId, VendorId), (ClusterTime, Grant)>>,
}

impl std::fmt::Debug for GrantSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrantSigner")
            .field("issuer", &self.issuer())
            .finish_non_exhaustive()
    }
}

impl GrantSigner {
    /// Opens the key in `directory`, or makes it from `seed` on first start.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is not a key.
    pub fn open(directory: &Path, seed: [u8; 32]) -> Result<Self, Error> {
        let path = directory.join("grant-key");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write_key(&path, &seed)?;
                seed.to_vec()
            }
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let bytes: [u8; 32] = bytes
            .try_into()
            .map_err(|_| Error::damaged(&path, "a grant key has 32 bytes"))?;
        let key = SigningKey::from_bytes(&bytes);
        Ok(Self {
            key,
            read: Mutex::default(),
        })
    }

    /// The public half of the key.
    #[must_use]
    pub fn issuer(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    /// A grant for `action`, good for [`GRANT_MS`] from `to.now`.
    #[must_use]
    pub fn sign(&self, to: Grantee, action: GrantAction) -> Grant {
        let Grantee {
            cluster,
            session,
            vendor,
            now,
        } = to;
        let epoch = Epoch::of(session.0);
        let deadline = now.plus(GRANT_MS);
        let body = codec::encode(&GrantBody {
            cluster,
            epoch,
            session,
            vendor,
            action,
            deadline,
        });
        let signature = self.key.sign(&[GRANT_CONTEXT, &body].concat());
        Grant {
            body,
            issuer: self.issuer(),
            signature: Signature(Bytes::copy_from_slice(&signature.to_bytes())),
        }
    }

    /// A read grant, signed once and used until half its life is over.
    #[must_use]
    pub fn read(&self, to: Grantee) -> Grant {
        let Grantee {
            session, vendor, now, ..
        } = to;
        let mut signed = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((until, grant)) = signed.get(&(session, vendor))
            && *until > now
        {
            return grant.clone();
        }
        if signed.len() >= READ_GRANTS_MAX {
            signed.clear();
        }
        let grant = self.sign(to, GrantAction::Read);
        signed.insert(
            (session, vendor),
            (now.plus(READ_GRANT_RENEWED_MS), grant.clone()),
        );
        grant
    }
}

fn write_key(path: &Path, seed: &[u8; 32]) -> Result<(), Error> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(seed)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(Error::io("write", path))
}
