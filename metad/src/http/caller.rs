//! On whose behalf a call is answered, and how long it may take.

use http::HeaderMap;
use std::time::Duration;
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::MetadError;
use ullage_model::wire::routes::{DEADLINE_MS, FORWARDED_FOR};
use ullage_transport::api::Caller;
use ullage_transport::identity::{Callers, Identity, Peer};

/// What [`FORWARDED_FOR`] says of a caller that has shown no certificate.
pub(super) const ANONYMOUS: &str = "anonymous";
/// A call whose caller does not say how long it waits.
const WITHIN: Duration = Duration::from_secs(15);
/// No call is worked at for longer.
const WITHIN_MAX: Duration = Duration::from_secs(600);

/// Who acts, by way of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acting {
    /// For whom the call is answered.
    pub(super) who: Peer,
    /// Whether another metadata node passed it on: then it is not passed on again.
    pub(super) forwarded: bool,
    /// How long it may take.
    pub(super) within: Duration,
    /// Whether the caller said so.
    told: bool,
}

impl Acting {
    /// Who acts by `caller`. Another metadata node's word is believed on who that is; anybody else's is not.
    ///
    /// # Errors
    /// When that is not one of `callers`, or cannot be told.
    pub(super) fn of(caller: &Caller, callers: Callers) -> Result<Self, MetadError> {
        let told = within(&caller.headers);
        let within = told.unwrap_or(WITHIN).min(WITHIN_MAX);
        let (who, forwarded) = match caller.peer {
            Peer::Known(Identity::Metad(_)) => (forwarded_for(&caller.headers)?, true),
            direct => (direct, false),
        };
        if !callers.admit(&who) || matches!(who, Peer::Known(Identity::Metad(_))) {
            return Err(refused(format!("this call is not for {who}")));
        }
        Ok(Self {
            who,
            forwarded,
            within,
            told: told.is_some(),
        })
    }

    /// The same, for a call that may take long: a caller that stops waiting resets its stream, which ends it.
    pub(super) fn patiently(self) -> Self {
        let within = if self.told { self.within } else { WITHIN_MAX };
        Self { within, ..self }
    }

    /// The gateway that acts.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn gateway(&self) -> Result<u64, MetadError> {
        match self.who {
            Peer::Known(Identity::Gateway(instance)) => Ok(instance),
            other => Err(refused(format!("this call is not for {other}"))),
        }
    }

    /// How [`FORWARDED_FOR`] names who acts.
    pub(super) fn named(&self) -> String {
        match self.who {
            Peer::Anonymous => ANONYMOUS.to_owned(),
            Peer::Known(identity) => identity.to_string(),
        }
    }
}

fn within(headers: &HeaderMap) -> Option<Duration> {
    let told = headers.get(DEADLINE_MS).and_then(|told| told.to_str().ok());
    told.and_then(|told| told.parse().ok()).map(Duration::from_millis)
}

fn forwarded_for(headers: &HeaderMap) -> Result<Peer, MetadError> {
    let named = headers.get(FORWARDED_FOR).and_then(|named| named.to_str().ok());
    match named {
        Some(ANONYMOUS) => Ok(Peer::Anonymous),
        Some(named) => {
            let identity: Identity = named.parse().map_err(|error| refused(format!("{error}")))?;
            Ok(Peer::Known(identity))
        }
        None => Err(refused("a metadata node calls for others only, and names them")),
    }
}

pub(super) fn refused(words: impl Into<String>) -> MetadError {
    MetadError::Refused(Rejection::Invalid(words.into()))
}

#[cfg(test)]
mod tests {
    use super::{
        Acting, Caller, Callers, DEADLINE_MS, Duration, FORWARDED_FOR, HeaderMap, Identity, Peer, WITHIN,
    };
    use ullage_model::ids::VendorId;

    fn caller(peer: Peer, headers: &[(&'static str, &str)]) -> Caller {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Caller { peer, headers: map }
    }

    const METAD: Peer = Peer::Known(Identity::Metad(1));
    const GATEWAY: Peer = Peer::Known(Identity::Gateway(5));
    const VENDOR: Peer = Peer::Known(Identity::Vendor(VendorId(7)));

    #[test]
    fn only_metadata_nodes_are_believed_on_who_calls() {
        let callers = Callers::GATEWAY.and(Callers::METAD);
        let forged = [(FORWARDED_FOR, "ullage:gateway/0000000000000009")];
        let acting = Acting::of(&caller(GATEWAY, &forged), callers).unwrap();
        assert_eq!(
            (acting.who, acting.forwarded),
            (GATEWAY, false),
            "its own word on others is nothing"
        );
        let acting = Acting::of(&caller(METAD, &forged), callers).unwrap();
        assert_eq!(
            (acting.who, acting.forwarded),
            (Peer::Known(Identity::Gateway(9)), true)
        );
        for named in [
            "ullage:vendor/0000000000000007",
            "ullage:metad/0000000000000001",
            "anonymous",
            "root",
        ] {
            assert!(
                Acting::of(&caller(METAD, &[(FORWARDED_FOR, named)]), callers).is_err(),
                "{named}"
            );
        }
        assert!(
            Acting::of(&caller(METAD, &[]), callers).is_err(),
            "for itself it has nothing to ask"
        );
        assert!(Acting::of(&caller(VENDOR, &forged), callers).is_err());
        let anonymous = Acting::of(&caller(METAD, &[(FORWARDED_FOR, "anonymous")]), Callers::ANYONE).unwrap();
        assert_eq!(anonymous.named(), "anonymous");
    }

    #[test]
    fn a_call_ends_when_its_caller_stops_waiting() {
        let within = |headers: &[(&'static str, &str)]| {
            Acting::of(&caller(GATEWAY, headers), Callers::GATEWAY)
                .unwrap()
                .within
        };
        assert_eq!(within(&[(DEADLINE_MS, "250")]), Duration::from_millis(250));
        assert_eq!(within(&[]), WITHIN);
        let untold = Acting::of(&caller(GATEWAY, &[]), Callers::GATEWAY).unwrap();
        assert_eq!(untold.patiently().within, super::WITHIN_MAX);
        assert_eq!(within(&[(DEADLINE_MS, "never")]), WITHIN);
        assert_eq!(within(&[(DEADLINE_MS, "99999999999")]), super::WITHIN_MAX);
    }
}
