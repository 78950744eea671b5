//! `ullage admin --json`: runs the command and reads its answers. The one place among the tests that
//! knows the shape of that output; unknown fields are passed over, missing ones are errors.

use std::fmt;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::daemon::binary;
use crate::sign::Credentials;
use crate::standalone::Standalone;

/// The placement class of objects that name none.
pub const DEFAULT_CLASS: &str = "STANDARD";

/// An identifier as the admin API prints it, a string or a number; opaque to the tests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub String);

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(u64),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Text(text) => Self(text),
            Either::Number(number) => Self(number.to_string()),
        })
    }
}

/// Bytes of room by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Room {
    /// Not given to anybody.
    pub free: u64,
    /// Locked by leases.
    pub leased: u64,
    /// Taken by chunks.
    pub used: u64,
    /// Given up, not yet acknowledged as erased.
    pub erasing: u64,
}

/// `status`.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Room of all vendors together.
    pub room: Room,
    /// Number of open leases.
    pub leases: u64,
    /// Number of open sessions.
    pub sessions: u64,
    /// Number of blobs and manifests in the release queue.
    pub release_queue: u64,
}

/// One row of `vendor list`.
#[derive(Clone, Debug, Deserialize)]
pub struct Vendor {
    /// Its id.
    pub vendor: Id,
    /// Its name.
    pub name: String,
    /// `alive`, `stale`, `dead`, `full`, `draining`.
    pub state: String,
    /// Its room.
    pub room: Room,
    /// Its devices.
    pub devices: Vec<Device>,
}

/// A device in `vendor list`.
#[derive(Clone, Debug, Deserialize)]
pub struct Device {
    /// Its id.
    pub device: Id,
    /// The directory.
    pub path: String,
    /// `ready`, `read-only`, `gone`.
    pub state: String,
}

/// `fat show BUCKET/KEY`.
#[derive(Clone, Debug, Deserialize)]
pub struct FatObject {
    /// Plaintext length in bytes.
    pub length: u64,
    /// Whether the bytes are kept in the FAT itself.
    pub inline: bool,
    /// The placement class.
    pub class: String,
    /// Its chunks in order; empty if inline.
    pub chunks: Vec<FatChunk>,
}

/// A chunk in `fat show`.
#[derive(Clone, Debug, Deserialize)]
pub struct FatChunk {
    /// Its id.
    pub chunk: Id,
    /// Offset of its first plaintext byte in the object.
    pub offset: u64,
    /// Plaintext length in bytes.
    pub length: u64,
    /// Where it is.
    pub copies: Vec<FatCopy>,
}

/// A copy in `fat show`.
#[derive(Clone, Debug, Deserialize)]
pub struct FatCopy {
    /// The vendor's id.
    pub vendor: Id,
    /// The lease under which it was placed.
    pub lease: Id,
    /// Number of pieces that the vendor cut it into.
    pub pieces: u64,
    /// `good`, `bad`, `missing`.
    pub state: String,
}

/// One row of `lease list`.
#[derive(Clone, Debug, Deserialize)]
pub struct Lease {
    /// Its id.
    pub lease: Id,
    /// The session that holds it.
    pub session: Id,
    /// `open`, `closing`.
    pub state: String,
}

/// A copy as the FAT (`fat copies VENDOR`) or the vendor's own table (`vendor local-fat VENDOR`) lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Copy {
    /// The chunk's id.
    pub chunk: Id,
    /// The lease under which it was placed.
    pub lease: Id,
}

/// `bucket show BUCKET`.
#[derive(Clone, Debug, Deserialize)]
pub struct Bucket {
    /// Versions of objects that it holds.
    pub versions: u64,
    /// Plaintext bytes of them.
    pub bytes: u64,
}

/// `metad list`.
#[derive(Clone, Debug, Deserialize)]
pub struct Members {
    /// The members.
    pub members: Vec<Member>,
    /// Whether a change of them is under way.
    pub joint: bool,
}

/// One of them.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: Id,
    /// Where it is.
    pub address: String,
    /// Whether it votes; else it learns.
    pub voter: bool,
    /// Whether it leads.
    pub leads: bool,
}

/// One row of `path`.
#[derive(Clone, Debug, Deserialize)]
pub struct PathRow {
    /// The vendor.
    pub vendor: Id,
    /// Round trip in microseconds, once measured.
    pub rtt_us: Option<f64>,
    /// Routers on the way, once measured.
    pub hops: Option<u32>,
    /// Its score: the greater, the better.
    pub score: u64,
    /// Why it is not used at the moment, if so.
    pub discarded: Option<String>,
}

/// Runs `ullage admin` against one cluster.
#[derive(Clone, Debug)]
pub struct Admin {
    endpoint: String,
    credentials: Credentials,
}

impl Admin {
    /// With the root credentials of a standalone.
    ///
    /// # Errors
    /// If its credentials cannot be read.
    pub fn of(standalone: &Standalone) -> anyhow::Result<Self> {
        Ok(Self::new(standalone.admin_address(), standalone.credentials()?))
    }

    /// At an address, as a user.
    #[must_use]
    pub fn new(address: SocketAddr, credentials: Credentials) -> Self {
        Self {
            endpoint: format!("http://{address}"),
            credentials,
        }
    }

    /// Runs a command; returns what it printed.
    ///
    /// # Errors
    /// If it fails; its standard error is part of the error.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(binary()?);
        command
            .arg("admin")
            .args(["--endpoint", &self.endpoint])
            .args(arguments);
        command.env("AWS_ACCESS_KEY_ID", &self.credentials.access_key);
        command.env("AWS_SECRET_ACCESS_KEY", &self.credentials.secret_key);
        let output = command
            .output()
            .with_context(|| format!("run ullage admin {arguments:?}"))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "ullage admin {arguments:?}: {}: {complaint}",
            output.status
        );
        String::from_utf8(output.stdout).context("admin output is not UTF-8")
    }

    fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> anyhow::Result<T> {
        let mut all = vec!["--json"];
        all.extend_from_slice(arguments);
        let text = self.run(&all)?;
        serde_json::from_str(&text).with_context(|| format!("read the answer to {arguments:?}: {text}"))
    }

    /// `status`.
    ///
    /// # Errors
    /// If the command fails or prints something else.
    pub fn status(&self) -> anyhow::Result<Status> {
        self.json(&["status"])
    }

    /// `vendor list`.
    ///
    /// # Errors
    /// If the command fails or prints something else.
    pub fn vendors(&self) -> anyhow::Result<Vec<Vendor>> {
        self.json(&["vendor", "list"])
    }

    /// `fat show BUCKET/KEY`.
    ///
    /// # Errors
    /// If the command fails or prints something else.
    pub fn fat_show(&self, bucket: &str, key: &str) -> anyhow::Result<FatObject> {
        self.json(&["fat", "show", &format!("{bucket}/{key}")])
    }

    /// `bucket show BUCKET`.
    ///
    /// # Errors
    /// If the command fails or prints something else.
    pub fn bucket(&self, bucket: &str) -> anyhow::Result<Bucket> {
        self.json(&["bucket", "show", bucket])
    }

    /// `lease list`.
    ///
    /// # Errors
    /// If the command fails or prints something else.
    pub fn leases(&self) -> anyhow::Result<Vec<Lease>> {
        self.json(&["lease", "list"])
    }

    /// The copies that the FAT says a vendor has, sorted.
    ///
    /// # Errors
    /// If the command fails or prints something else.
    pub fn fat_copies(&self, vendor: &Id) -> anyhow::Result<Vec<Copy>> {
        let mut copies: Vec<Copy> = self.json(&["fat", "copies", &vendor.0])?;
        copies.sort();
        Ok(copies)
    }

    /// The copies that a vendor says it has, sorted.
    ///
    /// # Errors
    /// If the command fails or prints something else.
    pub fn local_fat(&self, vendor: &Id) -> anyhow::Result<Vec<Copy>> {
        let mut copies: Vec<Copy> = self.json(&["vendor", "local-fat", &vendor.0])?;
        copies.sort();
        Ok(copies)
    }

    /// `metad list`.
    ///
    /// # Errors
    /// If the command fails or prints something else.
    pub fn members(&self) -> anyhow::Result<Members> {
        self.json(&["metad", "list"])
    }

    /// `path`.
    ///
    /// # Errors
    /// If the command fails or prints something else.
    pub fn paths(&self) -> anyhow::Result<Vec<PathRow>> {
        self.json(&["path"])
    }

    /// `invite vendor`: the token.
    ///
    /// # Errors
    /// If the command fails or prints something else.
    pub fn invite_vendor(&self) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Invitation {
            token: String,
        }
        let invitation: Invitation = self.json(&["invite", "vendor"])?;
        Ok(invitation.token)
    }

    /// Requires that every vendor's own table equals the FAT copy by copy.
    ///
    /// # Errors
    /// Names the copies that only one side has.
    pub fn compare_local_fats(&self) -> anyhow::Result<()> {
        for vendor in self.vendors()? {
            let (fat, local) = (self.fat_copies(&vendor.vendor)?, self.local_fat(&vendor.vendor)?);
            let only_fat: Vec<_> = fat
                .iter()
                .filter(|copy| local.binary_search(copy).is_err())
                .collect();
            let only_local: Vec<_> = local
                .iter()
                .filter(|copy| fat.binary_search(copy).is_err())
                .collect();
            let equal = only_fat.is_empty() && only_local.is_empty() && fat.len() == local.len();
            ensure!(
                equal,
                "{}: only in the FAT {only_fat:?}, only at the vendor {only_local:?}",
                vendor.name
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_text_and_numbers() {
        let copies: Vec<Copy> =
            serde_json::from_str(r#"[{"chunk":"12.7","lease":12,"length":4},{"chunk":3,"lease":"x"}]"#)
                .expect("json");
        assert_eq!(
            copies[0],
            Copy {
                chunk: Id("12.7".into()),
                lease: Id("12".into())
            }
        );
        assert_eq!(
            copies[1],
            Copy {
                chunk: Id("3".into()),
                lease: Id("x".into())
            }
        );
    }
}
