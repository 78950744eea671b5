//! An endpoint under load: where it is, as whom to sign, and what may be looked at from outside.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::cluster::Cluster;
use crate::sign::Credentials;
use crate::standalone::read_credentials;

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name in tables.
    pub label: String,
    /// Its address.
    pub address: SocketAddr,
    /// The `Host` header.
    pub host: String,
    /// As whom requests are signed.
    pub credentials: Credentials,
    /// The region of the signature.
    pub region: String,
    /// The bucket, made if absent.
    pub bucket: String,
    /// The server's processes, for their processor time.
    pub pids: Vec<u32>,
    /// The server's data directory, for bytes on disk.
    pub data: Option<PathBuf>,
}

impl Target {
    /// Reads `URL[,label=L][,credentials=FILE][,region=R][,bucket=B][,pid=N]...[,data=DIR]`. Keys come
    /// from the credentials file (AWS's format, profile `default`), else from `AWS_ACCESS_KEY_ID` and
    /// `AWS_SECRET_ACCESS_KEY`.
    ///
    /// # Errors
    /// If a part is unknown or unusable.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.split(',');
        let url = parts.next().unwrap_or_default();
        let host = url
            .strip_prefix("http://")
            .with_context(|| format!("{url:?} does not begin with http://"))?;
        let host = host.trim_end_matches('/');
        let address = host
            .to_socket_addrs()
            .with_context(|| format!("resolve {host}"))?
            .next();
        let mut target = Self {
            label: host.to_owned(),
            address: address.with_context(|| format!("{host} has no address"))?,
            host: host.to_owned(),
            credentials: Credentials {
                access_key: std::env::var("AWS_ACCESS_KEY_ID").unwrap_or_else(|_| "none".to_owned()),
                secret_key: std::env::var("AWS_SECRET_ACCESS_KEY").unwrap_or_else(|_| "none".to_owned()),
            },
            region: "us-east-1".to_owned(),
            bucket: "bench".to_owned(),
            pids: Vec::new(),
            data: None,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("label", value)) => target.label = value.to_owned(),
                Some(("credentials", value)) => target.credentials = read_credentials(value.as_ref())?,
                Some(("region", value)) => target.region = value.to_owned(),
                Some(("bucket", value)) => target.bucket = value.to_owned(),
                Some(("pid", value)) => {
                    let pid = value.parse().with_context(|| format!("pid {value:?}"))?;
                    target.pids.push(pid);
                }
                Some(("data", value)) => target.data = Some(value.into()),
                _ => bail!("{part:?} is none of label=, credentials=, region=, bucket=, pid=, data="),
            }
        }
        Ok(target)
    }

    /// A cluster of processes, by its first gateway.
    ///
    /// # Errors
    /// If one of its processes does not run.
    pub fn of_cluster(cluster: &mut Cluster) -> anyhow::Result<Self> {
        let pids: anyhow::Result<Vec<u32>> = cluster.nodes_mut().map(|node| node.daemon.pid()).collect();
        let address = cluster.gateways[0].address;
        Ok(Self {
            label: "ullage".to_owned(),
            address,
            host: address.to_string(),
            credentials: cluster.credentials().clone(),
            region: "us-east-1".to_owned(),
            bucket: "bench".to_owned(),
            pids: pids?,
            data: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_and_an_unknown_part_refused() {
        let target =
            Target::parse("http://127.0.0.1:9000,label=a,bucket=b,pid=7,pid=8,data=/x").expect("target");
        assert_eq!((target.label.as_str(), target.bucket.as_str()), ("a", "b"));
        assert_eq!((target.pids, target.address.port()), (vec![7, 8], 9000));
        assert!(Target::parse("http://127.0.0.1:9000,colour=red").is_err());
        assert!(Target::parse("127.0.0.1:9000").is_err());
    }
}
