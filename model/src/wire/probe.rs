//! Path probes: datagrams by which a gateway measures round trip and hops to a vendor. A reply is as long as
//! its probe, and is sent only for a probe with a cookie that the vendor gave out over a proven connection.

use serde::{Deserialize, Serialize};

/// Length of probe and reply in bytes.
pub const PROBE_BYTES: usize = 40;
/// First bytes of both.
const MAGIC: [u8; 4] = *b"ULP1";
/// How long a cookie is good at least, in ms.
pub const COOKIE_MS: u64 = 600_000;

/// What a vendor gives a gateway that may probe it: a keyed digest that only the vendor can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeCookie(pub [u8; 16]);

/// A probe (`reply` false) or its reply. Layout, big-endian: magic `ULP1`, kind (1 probe, 2 reply), time to
/// live left in the probe when it came (reply; 0 = not known), 2 zero bytes, nonce (8), cookie (16; zero in a
/// reply), 8 zero bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whether this is the answer.
    pub reply: bool,
    /// Time to live that was left in the probe.
    pub ttl_left: u8,
    /// Chosen by the gateway, repeated by the vendor.
    pub nonce: u64,
    /// Proof that the prober may ask.
    pub cookie: ProbeCookie,
}

impl Probe {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PROBE_BYTES] {
        let mut bytes = [0; PROBE_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = if self.reply { 2 } else { 1 };
        bytes[5] = self.ttl_left;
        bytes[8..16].copy_from_slice(&self.nonce.to_be_bytes());
        bytes[16..32].copy_from_slice(&self.cookie.0);
        bytes
    }

    /// The probe or reply in `bytes`; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != PROBE_BYTES || bytes[..4] != MAGIC || !(1..=2).contains(&bytes[4]) {
            return None;
        }
        let nonce = u64::from_be_bytes(*bytes[8..].first_chunk()?);
        let cookie = ProbeCookie(*bytes[16..].first_chunk()?);
        Some(Self {
            reply: bytes[4] == 2,
            ttl_left: bytes[5],
            nonce,
            cookie,
        })
    }
}

crate::codec::versioned!(ProbeCookie);

#[cfg(test)]
mod tests {
    use super::{PROBE_BYTES, Probe, ProbeCookie};

    #[test]
    fn a_probe_survives_its_encoding_and_nothing_else_passes_for_one() {
        let probe = Probe {
            reply: true,
            ttl_left: 61,
            nonce: 0x0123_4567_89ab_cdef,
            cookie: ProbeCookie([7; 16]),
        };
        let bytes = probe.encode();
        assert_eq!(Probe::decode(&bytes), Some(probe));
        assert_eq!(Probe::decode(&bytes[..PROBE_BYTES - 1]), None);
        for (at, value) in [(0, b'X'), (4, 0), (4, 3)] {
            let mut other = bytes;
            other[at] = value;
            assert_eq!(Probe::decode(&other), None, "byte {at} = {value}");
        }
    }
}
