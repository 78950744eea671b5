//! Settings of the gateway, as they stand in its TOML file, its environment and its flags. Reading them together
//! is the command line's; what they may be is said here.

use crate::error::Error;
use crate::limits::UPLOAD_MEMORY_DEFAULT;
use serde::Deserialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use ullage_model::limits::{CHUNK_BYTES_MAX, INLINE_BYTES_MAX};
use zeroize::Zeroizing;

/// A value that must not appear in logs.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The value.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(Zeroizing::new(value))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Settings of `ullage gateway`. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Directory in which the gateway keeps who it is over restarts; none = another one with each start.
    pub data: Option<PathBuf>,
    /// Where S3 is served.
    pub listen: SocketAddr,
    /// Where the admin API, health and metrics are served.
    pub admin_listen: SocketAddr,
    /// Addresses of the metadata service.
    pub metad: Vec<String>,
    /// File with the secret the cluster's services share.
    pub cluster_secret_file: Option<PathBuf>,
    /// File with the key-encryption key, mode 0600.
    pub kek_file: Option<PathBuf>,
    /// Region that signatures name.
    pub region: String,
    /// Domain whose sub-domains are buckets (virtual-host style); none = path style only.
    pub domain: Option<String>,
    /// Access key of the root user.
    pub root_access_key: Option<String>,
    /// Secret key of the root user.
    pub root_secret_key: Option<Secret>,
    /// Plaintext bytes up to which bodies are kept in the FAT itself; may only lower the replicated cap.
    pub inline_bytes: u64,
    /// Memory for chunks being uploaded, in bytes.
    pub upload_memory: u64,
    /// Lets plain HTTP be served beyond loopback.
    pub insecure: bool,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            data: None,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9000),
            admin_listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9001),
            metad: Vec::new(),
            cluster_secret_file: None,
            kek_file: None,
            region: "us-east-1".to_owned(),
            domain: None,
            root_access_key: None,
            root_secret_key: None,
            inline_bytes: INLINE_BYTES_MAX,
            upload_memory: UPLOAD_MEMORY_DEFAULT,
            insecure: false,
        }
    }
}

impl GatewayConfig {
    /// Checks what can be checked without looking at anything else.
    ///
    /// # Errors
    /// `Error::Config`, naming the key.
    pub fn check(&self) -> Result<(), Error> {
        if self.upload_memory < CHUNK_BYTES_MAX {
            return Err(Error::Config(format!(
                "upload_memory is {}, less than one chunk of {CHUNK_BYTES_MAX} bytes",
                self.upload_memory
            )));
        }
        if self.inline_bytes > INLINE_BYTES_MAX {
            return Err(Error::Config(format!(
                "inline_bytes is {}, above {INLINE_BYTES_MAX}",
                self.inline_bytes
            )));
        }
        if self.region.is_empty() {
            return Err(Error::Config("region is empty".to_owned()));
        }
        if self.root_access_key.is_some() != self.root_secret_key.is_some() {
            return Err(Error::Config(
                "root_access_key and root_secret_key come together".to_owned(),
            ));
        }
        let open = [("listen", self.listen), ("admin_listen", self.admin_listen)];
        for (name, address) in open {
            if !address.ip().is_loopback() && !self.insecure {
                return Err(Error::Config(format!(
                    "{name} = {address} would serve plain HTTP beyond loopback; set insecure if that is meant"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::GatewayConfig;

    fn parse(json: &str) -> Result<GatewayConfig, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn defaults_are_sound_and_unknown_keys_are_refused() {
        parse("{}").unwrap().check().unwrap();
        assert!(parse(r#"{"upload_memroy": 1}"#).is_err());
    }

    #[test]
    fn settings_out_of_bounds_are_refused_by_name() {
        for (json, named) in [
            (r#"{"upload_memory": 1024}"#, "upload_memory"),
            (r#"{"inline_bytes": 1000000}"#, "inline_bytes"),
            (r#"{"listen": "0.0.0.0:9000"}"#, "listen"),
            (r#"{"root_access_key": "a"}"#, "root_secret_key"),
        ] {
            let error = parse(json).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let config = parse(r#"{"root_access_key": "a", "root_secret_key": "hidden"}"#).unwrap();
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
