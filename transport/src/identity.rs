//! Who a service is, as its certificate says it.

use crate::authority::{TrustError, unusable};
use std::fmt;
use std::str::FromStr;
use ullage_model::ids::VendorId;

/// Who stands at the other end. A certificate carries it as its only subject alternative name, a URI:
/// `ullage:metad/<16 hex digits>`, `ullage:gateway/<16 hex digits>` or `ullage:vendor/<16 hex digits>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A metadata node, by the id minted with its data directory.
    Metad(u64),
    /// A gateway, by a random number of its process.
    Gateway(u64),
    /// A registered vendor.
    Vendor(VendorId),
}

/// Whom a client insists on meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expect {
    /// Any metadata node of the cluster.
    AnyMetad,
    /// Exactly this service.
    Exactly(Identity),
}

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// No certificate was shown.
    Anonymous,
    /// Proven by a certificate of this cluster.
    Known(Identity),
}

/// Which callers a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callers(u8);

impl Callers {
    /// Nobody: what a path that is in no table answers.
    pub const NOBODY: Self = Self(0);
    /// Metadata nodes.
    pub const METAD: Self = Self(1);
    /// Gateways.
    pub const GATEWAY: Self = Self(2);
    /// Vendors.
    pub const VENDOR: Self = Self(4);
    /// Anybody, without a certificate too: the short public list.
    pub const ANYONE: Self = Self(8);

    /// These callers and `others`.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether `peer` is one of them.
    #[must_use]
    pub const fn admit(self, peer: &Peer) -> bool {
        let kind = match peer {
            Peer::Anonymous => 0,
            Peer::Known(Identity::Metad(_)) => 1,
            Peer::Known(Identity::Gateway(_)) => 2,
            Peer::Known(Identity::Vendor(_)) => 4,
        };
        self.0 & (kind | 8) != 0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metad(node) => write!(f, "ullage:metad/{node:016x}"),
            Self::Gateway(instance) => write!(f, "ullage:gateway/{instance:016x}"),
            Self::Vendor(vendor) => write!(f, "ullage:vendor/{:016x}", vendor.0),
        }
    }
}

/// Text that is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no identity")]
pub struct NotAnIdentity(String);

impl FromStr for Identity {
    type Err = NotAnIdentity;

    /// The inverse of `Display`, and nothing else: 16 lower-case digits, no more, no less.
    fn from_str(text: &str) -> Result<Self, NotAnIdentity> {
        let parse = || {
            let (kind, digits) = text.strip_prefix("ullage:")?.split_once('/')?;
            let number = u64::from_str_radix(digits, 16).ok()?;
            let identity = match kind {
                "metad" => Self::Metad(number),
                "gateway" => Self::Gateway(number),
                "vendor" => Self::Vendor(VendorId(number)),
                _ => return None,
            };
            (identity.to_string() == text).then_some(identity)
        };
        parse().ok_or_else(|| NotAnIdentity(text.chars().take(64).collect()))
    }
}

impl Expect {
    /// Whether `identity` is whom the client insists on.
    #[must_use]
    pub fn admits(&self, identity: Identity) -> bool {
        match self {
            Self::AnyMetad => matches!(identity, Identity::Metad(_)),
            Self::Exactly(expected) => *expected == identity,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyMetad => f.write_str("any metadata node"),
            Self::Exactly(identity) => identity.fmt(f),
        }
    }
}

impl Peer {
    /// Who it is, if it has proven that.
    #[must_use]
    pub const fn identity(&self) -> Option<Identity> {
        match self {
            Self::Anonymous => None,
            Self::Known(identity) => Some(*identity),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("a caller without a certificate"),
            Self::Known(identity) => identity.fmt(f),
        }
    }
}

/// Whom the certificate `der` names. Its signature is not checked here.
pub(crate) fn of_certificate(der: &[u8]) -> Result<Identity, TrustError> {
    use x509_parser::extensions::GeneralName;
    let what = "a certificate";
    let (rest, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|error| unusable(what, error))?;
    if !rest.is_empty() {
        return Err(unusable(what, "bytes are left over"));
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| unusable(what, error))?
        .ok_or_else(|| unusable(what, "it names nobody"))?;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => uri.parse().map_err(|error| unusable(what, error)),
        _ => Err(unusable(what, "it must name one URI and nothing else")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Callers, Expect, Identity, Peer};
    use ullage_model::ids::VendorId;

    const ALL: [Identity; 3] = [
        Identity::Metad(0xabc),
        Identity::Gateway(u64::MAX),
        Identity::Vendor(VendorId(1)),
    ];

    #[test]
    fn an_identity_survives_its_text_and_nothing_else_passes_for_one() {
        for identity in ALL {
            assert_eq!(identity.to_string().parse::<Identity>().unwrap(), identity);
        }
        for text in [
            "",
            "ullage:metad/abc",
            "ullage:metad/0000000000000ABC",
            "ullage:metad/00000000000000abc",
            "ullage:metad/+00000000000abc",
            "ullage:metad/0000000000000abc ",
            "ullage:metads/0000000000000abc",
            "Ullage:metad/0000000000000abc",
            "metad/0000000000000abc",
            "ullage:metad/0000000000000abc/0",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn routes_admit_whom_they_name_and_clients_meet_whom_they_expect() {
        let peers = ALL.map(Peer::Known);
        let admitted = |callers: Callers| peers.map(|peer| callers.admit(&peer));
        assert_eq!(admitted(Callers::METAD), [true, false, false]);
        assert_eq!(
            admitted(Callers::GATEWAY.and(Callers::VENDOR)),
            [false, true, true]
        );
        assert_eq!(admitted(Callers::ANYONE), [true; 3]);
        assert!(Callers::ANYONE.admit(&Peer::Anonymous));
        assert_eq!(admitted(Callers::NOBODY), [false; 3]);
        assert!(!Callers::NOBODY.admit(&Peer::Anonymous));
        let services = Callers::METAD.and(Callers::GATEWAY).and(Callers::VENDOR);
        assert!(!services.admit(&Peer::Anonymous));
        assert_eq!(
            ALL.map(|identity| Expect::AnyMetad.admits(identity)),
            [true, false, false]
        );
        assert_eq!(
            ALL.map(|identity| Expect::Exactly(ALL[2]).admits(identity)),
            [false, false, true]
        );
    }
}
