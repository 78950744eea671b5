//! How a client of the metadata service finds the node that answers: which address is called, what follows a
//! call that did not bring an answer, and when to give up. Pure code: time and randomness come as arguments, the
//! calls themselves are the caller's.
//!
//! Any node may be called. One that follows answers questions itself and forwards the rest, so a client works
//! with any address; it is quickest with the leader's, which it learns from [`Addresses::learn`].
//!
//! ```text
//! let mut attempts = Attempts::new(Repeat::of(path), patience_ms);
//! let mut next = attempts.first(&addresses);
//! loop {
//!     match next {
//!         Next::Call { address, after_ms, within_ms } => {
//!             // sleep after_ms, call address within within_ms
//!             next = match the result {
//!                 an answer, or an error that is the service's word => { addresses.answered(&address); return it }
//!                 Failure => attempts.failed(&mut addresses, &address, failure, elapsed_ms, random),
//!             };
//!         }
//!         Next::GiveUp(error) => return Err(error.into()),
//!     }
//! }
//! ```

use crate::rejection::Rejection;
use crate::wire::members::MembersReply;
use crate::wire::metad::MetadError;
use crate::wire::routes;

/// First pause after all addresses failed, in ms; doubled with each round that fails.
pub const PAUSE_MS: u64 = 50;
/// Longest such pause, in ms. An election takes about a second.
pub const PAUSE_MS_MAX: u64 = 800;
/// How long one call of a few may take, in ms, before another address is asked.
pub const ATTEMPT_MS: u64 = 3_000;
/// As [`ATTEMPT_MS`], for calls that the leader itself may keep waiting (leases are recalled, members are
/// added): another node could not answer sooner.
pub const LONG_ATTEMPT_MS: u64 = 15_000;
/// Addresses kept.
pub const ADDRESSES_MAX: usize = 64;

/// What may be done after a call whose outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing: it is asked again, and at last counts as not answered.
    Question,
    /// Doing it twice is as good as once: it is called again.
    Idempotent,
    /// As [`Repeat::Idempotent`], and may take long.
    Slow,
    /// Never called again: what became of it must be asked.
    Never,
}

impl Repeat {
    /// What holds for the route `path` of the metadata service.
    ///
    /// Opening a session twice ends the first; an allocation is decided once per sequence; a
    /// vendor registers and enrols by its key; an invitation that nobody saw expires.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path {
            routes::QUERY | routes::QUERY_MANY | routes::STATUS | routes::JUDGE => Self::Question,
            routes::SESSION_OPEN
            | routes::SESSION_RENEW
            | routes::SESSION_END
            | routes::RESOLVE
            | routes::REPORT_DAMAGED
            | routes::INVITE
            | routes::ENROL
            | routes::REGISTER
            | routes::HEARTBEAT => Self::Idempotent,
            routes::ALLOCATE => Self::Slow,
            _ => Self::Never,
        }
    }

    fn attempt_ms(self) -> u64 {
        match self {
            Self::Question | Self::Idempotent => ATTEMPT_MS,
            Self::Slow => LONG_ATTEMPT_MS,
            Self::Never => u64::MAX,
        }
    }
}

/// Why a call brought no answer of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Surely not done: not connected, or somebody else is there.
    NotSent(String),
    /// An HTTP status instead of an answer, with its words.
    Status(u16, String),
    /// Surely not done: [`MetadError::Unavailable`].
    Unavailable(String),
    /// Surely not done: [`MetadError::NotLeader`].
    NotLeader(Option<String>),
    /// Surely not done: [`MetadError::Overloaded`].
    Overloaded,
    /// Maybe done: the connection broke, no answer came in time, or [`MetadError::Unknown`].
    Unknown(String),
}

impl Failure {
    /// The failure that `error` is; an error that is the service's own word is given back.
    ///
    /// # Errors
    /// `error`, when it is an answer like any other.
    pub fn of(error: MetadError) -> Result<Self, MetadError> {
        match error {
            MetadError::Unavailable(reason) => Ok(Self::Unavailable(reason)),
            MetadError::Overloaded => Ok(Self::Overloaded),
            MetadError::Unknown(reason) => Ok(Self::Unknown(reason)),
            MetadError::NotLeader { leader } => Ok(Self::NotLeader(leader)),
            word @ (MetadError::Refused(_) | MetadError::NoRoom(_)) => Err(word),
        }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Call this address.
    Call {
        /// Where.
        address: String,
        /// After this pause, in ms.
        after_ms: u64,
        /// For as long as this at most, in ms, the pause not counted.
        within_ms: u64,
    },
    /// Give up with this.
    GiveUp(MetadError),
}

/// The metadata nodes that a client knows. Shared by its calls.
#[derive(Clone, Debug)]
pub struct Addresses {
    configured: Vec<String>,
    /// Configured and learned, each once; the one to be called first is `first`.
    known: Vec<String>,
    first: usize,
    /// Addresses that failed since they answered last, or since the membership was learned.
    failing: Vec<String>,
}

impl Addresses {
    /// Those of the configuration; repeated ones and those beyond [`ADDRESSES_MAX`] are left out.
    #[must_use]
    pub fn new(configured: impl IntoIterator<Item = String>) -> Self {
        let mut known = Vec::new();
        add(&mut known, configured);
        Self {
            configured: known.clone(),
            known,
            first: 0,
            failing: Vec::new(),
        }
    }

    /// The address to be called first; `None` when none is known.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.known.get(self.first).map(String::as_str)
    }

    /// All known addresses.
    #[must_use]
    pub fn known(&self) -> &[String] {
        &self.known
    }

    /// `address` has answered: it is called first from now on, unless another leads.
    pub fn answered(&mut self, address: &str) {
        self.failing.retain(|failing| failing != address);
        self.prefer(address);
    }

    /// A node that answered has passed the call on to `leader`: that is called first from now on, unless it was
    /// tried from here and failed.
    pub fn passed_on_to(&mut self, leader: &str) {
        if !self.failing.iter().any(|failing| failing == leader) {
            self.led_to(leader);
        }
    }

    fn prefer(&mut self, address: &str) {
        if let Some(at) = self.known.iter().position(|known| known == address) {
            self.first = at;
        }
    }

    /// Takes over the membership: its addresses, its leader first. Addresses of the configuration stay known,
    /// behind them, in case the members move back to them.
    pub fn learn(&mut self, members: &MembersReply) {
        if members.members.iter().all(|member| member.address.is_empty()) {
            return;
        }
        let before = self.first().map(str::to_owned);
        let leader = members.members.iter().find(|member| member.leads);
        let mut known = Vec::new();
        add(
            &mut known,
            members.members.iter().map(|member| member.address.clone()),
        );
        add(&mut known, self.configured.iter().cloned());
        self.known = known;
        self.first = 0;
        self.failing.clear();
        if let Some(first) = leader.map(|leader| leader.address.clone()).or(before) {
            self.prefer(&first);
        }
    }

    /// `address` is said to lead.
    fn led_to(&mut self, address: &str) {
        if self.known.len() < ADDRESSES_MAX || self.known.iter().any(|known| known == address) {
            add(&mut self.known, [address.to_owned()]);
            self.prefer(address);
        }
    }

    /// `address` has failed: another is called first from now on.
    fn failed(&mut self, address: &str) {
        add(&mut self.failing, [address.to_owned()]);
        if self.first() == Some(address) {
            self.first = (self.first + 1) % self.known.len();
        }
    }
}

fn add(known: &mut Vec<String>, addresses: impl IntoIterator<Item = String>) {
    for address in addresses {
        if !address.is_empty() && known.len() < ADDRESSES_MAX && !known.contains(&address) {
            known.push(address);
        }
    }
}

/// The attempts of one call.
#[derive(Clone, Debug)]
pub struct Attempts {
    repeat: Repeat,
    patience_ms: u64,
    /// Addresses that failed since the last pause.
    tried: Vec<String>,
    pauses: u32,
    /// Why an attempt may have been done, if one may.
    maybe_done: Option<String>,
}

impl Attempts {
    /// A call that may take `patience_ms` in all.
    #[must_use]
    pub fn new(repeat: Repeat, patience_ms: u64) -> Self {
        Self {
            repeat,
            patience_ms,
            tried: Vec::new(),
            pauses: 0,
            maybe_done: None,
        }
    }

    /// The first attempt.
    #[must_use]
    pub fn first(&self, addresses: &Addresses) -> Next {
        match addresses.first() {
            Some(address) => self.call(address.to_owned(), 0, 0),
            None => self.give_up(MetadError::Unavailable("no address is known".to_owned())),
        }
    }

    /// What follows after `address` failed, `elapsed_ms` after the first attempt began; `random` spreads
    /// pauses, so that clients do not come back all at once.
    pub fn failed(
        &mut self,
        addresses: &mut Addresses,
        address: &str,
        failure: Failure,
        elapsed_ms: u64,
        random: u64,
    ) -> Next {
        addresses.failed(address);
        self.tried.push(address.to_owned());
        let mut leader = None;
        let reason = match failure {
            Failure::Overloaded => return self.give_up(MetadError::Overloaded),
            Failure::Status(status, words) => match status {
                // Another node would say the same: the request or the caller is at fault.
                400 | 401 | 403 | 413 => {
                    let words = format!("{address} answered {status}: {words}");
                    return self.give_up(MetadError::Refused(Rejection::Invalid(words)));
                }
                // Not taken: no such route (an older release), or too busy.
                404 | 429 | 503 => format!("{address} answered {status}: {words}"),
                // The service broke while it was at it.
                _ => {
                    let reason = format!("{address} answered {status}: {words}");
                    if let Some(over) = self.unknown(&reason) {
                        return over;
                    }
                    reason
                }
            },
            Failure::Unknown(reason) => {
                if let Some(over) = self.unknown(&reason) {
                    return over;
                }
                reason
            }
            Failure::NotLeader(named) => {
                leader = named.filter(|named| !self.tried.contains(named));
                format!("{address} does not lead")
            }
            Failure::NotSent(reason) | Failure::Unavailable(reason) => reason,
        };
        if let Some(leader) = leader {
            addresses.led_to(&leader);
            return self.within(leader, 0, elapsed_ms, reason);
        }
        // All others of this round at once, then a pause.
        let known = addresses.known();
        let from = known
            .iter()
            .position(|known| Some(known.as_str()) == addresses.first());
        let order = known.iter().cycle().skip(from.unwrap_or(0)).take(known.len());
        if let Some(other) = order.into_iter().find(|other| !self.tried.contains(other)) {
            return self.within(other.clone(), 0, elapsed_ms, reason);
        }
        self.tried.clear();
        let pause = PAUSE_MS
            .saturating_mul(1 << self.pauses.min(16))
            .min(PAUSE_MS_MAX);
        self.pauses += 1;
        let first = addresses.first().unwrap_or(address).to_owned();
        self.within(first, pause / 2 + random % (pause / 2 + 1), elapsed_ms, reason)
    }

    /// Notes that an attempt may have been done; what to do if that is the end.
    fn unknown(&mut self, reason: &str) -> Option<Next> {
        match self.repeat {
            Repeat::Question => {}
            Repeat::Idempotent | Repeat::Slow => self.maybe_done = Some(reason.to_owned()),
            Repeat::Never => return Some(Next::GiveUp(MetadError::Unknown(reason.to_owned()))),
        }
        None
    }

    fn within(&self, address: String, after_ms: u64, elapsed_ms: u64, reason: String) -> Next {
        if elapsed_ms.saturating_add(after_ms) >= self.patience_ms {
            return self.give_up(MetadError::Unavailable(reason));
        }
        self.call(address, after_ms, elapsed_ms)
    }

    fn call(&self, address: String, after_ms: u64, elapsed_ms: u64) -> Next {
        let left = self
            .patience_ms
            .saturating_sub(elapsed_ms.saturating_add(after_ms));
        Next::Call {
            address,
            after_ms,
            within_ms: left.min(self.repeat.attempt_ms()),
        }
    }

    /// Gives up: with `error`, unless an attempt may have been done, which is the graver word.
    fn give_up(&self, error: MetadError) -> Next {
        Next::GiveUp(match &self.maybe_done {
            Some(reason) => MetadError::Unknown(reason.clone()),
            None => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ADDRESSES_MAX, ATTEMPT_MS, Addresses, Attempts, Failure, LONG_ATTEMPT_MS, Next, PAUSE_MS,
        PAUSE_MS_MAX, Repeat,
    };
    use crate::rejection::Rejection;
    use crate::wire::members::{Member, MembersReply};
    use crate::wire::metad::MetadError;
    use crate::wire::routes;

    fn three() -> Addresses {
        Addresses::new(["a", "b", "c"].map(str::to_owned))
    }

    fn not_sent() -> Failure {
        Failure::NotSent("refused".to_owned())
    }

    /// The address of a call, its pause and its time.
    #[track_caller]
    fn called(next: Next) -> (String, u64, u64) {
        match next {
            Next::Call {
                address,
                after_ms,
                within_ms,
            } => (address, after_ms, within_ms),
            Next::GiveUp(error) => panic!("gave up: {error}"),
        }
    }

    #[test]
    fn a_call_that_was_passed_on_names_whom_to_call_next() {
        let mut known = three();
        known.passed_on_to("c");
        assert_eq!(known.first(), Some("c"));
        known.passed_on_to("new");
        assert_eq!(known.first(), Some("new"), "one that was not known is learned");
        // One that is not reached from here is not taken for another node's word, until it has answered.
        let mut attempts = Attempts::new(Repeat::Never, 60_000);
        called(attempts.first(&known));
        called(attempts.failed(&mut known, "new", not_sent(), 0, 0));
        known.answered("a");
        known.passed_on_to("new");
        assert_eq!(known.first(), Some("a"));
        known.answered("new");
        known.answered("a");
        known.passed_on_to("new");
        assert_eq!(known.first(), Some("new"));
    }

    #[test]
    fn every_address_is_tried_at_once_and_pauses_grow_between_rounds() {
        let (mut known, mut attempts) = (three(), Attempts::new(Repeat::Never, 60_000));
        let mut at = called(attempts.first(&known)).0;
        let mut order = vec![at.clone()];
        let mut pauses = Vec::new();
        for elapsed in 0..18 {
            let (address, after, _) = called(attempts.failed(&mut known, &at, not_sent(), elapsed, u64::MAX));
            if after > 0 {
                pauses.push(after);
            }
            order.push(address.clone());
            at = address;
        }
        assert_eq!(order[..6].concat(), "abcabc");
        assert_eq!(pauses.len(), 6);
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert!((PAUSE_MS / 2..=PAUSE_MS).contains(&pauses[0]));
        assert!(pauses[5] <= PAUSE_MS_MAX);
    }

    #[test]
    fn the_one_that_answered_is_called_first_until_it_fails() {
        let mut known = three();
        known.answered("c");
        known.answered("nobody");
        assert_eq!(known.first(), Some("c"));
        let mut attempts = Attempts::new(Repeat::Never, 1000);
        let next = attempts.failed(&mut known, "c", not_sent(), 0, 0);
        assert_eq!(called(next).0, "a");
        assert_eq!(known.first(), Some("a"), "for other calls too");
    }

    #[test]
    fn a_leader_that_is_named_is_called_at_once_but_two_that_name_each_other_are_not_called_for_ever() {
        let (mut known, mut attempts) = (three(), Attempts::new(Repeat::Never, 1000));
        let leads = |leader: &str| Failure::NotLeader(Some(leader.to_owned()));
        assert_eq!(called(attempts.failed(&mut known, "a", leads("c"), 0, 0)).0, "c");
        assert_eq!(called(attempts.failed(&mut known, "c", leads("a"), 0, 0)).0, "b");
        let next = called(attempts.failed(&mut known, "b", Failure::NotLeader(None), 0, 0));
        assert!(next.1 > 0, "an election takes its time");
        let (mut known, mut attempts) = (three(), Attempts::new(Repeat::Never, 1000));
        let next = attempts.failed(&mut known, "a", leads("new"), 0, 0);
        assert_eq!(called(next).0, "new", "an address that was not known");
        assert_eq!(known.known().len(), 4);
    }

    #[test]
    fn what_must_not_be_repeated_is_not() {
        let lost = || Failure::Unknown("the connection broke".to_owned());
        for path in [routes::SUBMIT, routes::OPERATE, routes::MEMBERS, "/v2/unheard-of"] {
            for failure in [lost(), Failure::Status(500, String::new())] {
                let mut attempts = Attempts::new(Repeat::of(path), 1000);
                let next = attempts.failed(&mut three(), "a", failure, 0, 0);
                assert!(
                    matches!(next, Next::GiveUp(MetadError::Unknown(_))),
                    "{path}: {next:?}"
                );
            }
            let mut attempts = Attempts::new(Repeat::of(path), 1000);
            for failure in [
                not_sent(),
                Failure::Unavailable(String::new()),
                Failure::Status(503, String::new()),
            ] {
                called(attempts.failed(&mut three(), "a", failure, 0, 0));
            }
        }
        for path in [
            routes::QUERY,
            routes::SESSION_RENEW,
            routes::RESOLVE,
            routes::HEARTBEAT,
        ] {
            let mut attempts = Attempts::new(Repeat::of(path), 1000);
            let next = attempts.failed(&mut three(), "a", lost(), 0, 0);
            assert_eq!(called(next).0, "b", "{path}");
        }
    }

    #[test]
    fn what_may_have_been_done_is_never_called_not_done() {
        let mut attempts = Attempts::new(Repeat::Idempotent, 1000);
        attempts.failed(&mut three(), "a", Failure::Unknown("lost".to_owned()), 0, 0);
        let next = attempts.failed(&mut three(), "b", not_sent(), 1000, 0);
        assert_eq!(next, Next::GiveUp(MetadError::Unknown("lost".to_owned())));
        let mut attempts = Attempts::new(Repeat::Question, 1000);
        attempts.failed(&mut three(), "a", Failure::Unknown("lost".to_owned()), 0, 0);
        let next = attempts.failed(&mut three(), "b", not_sent(), 1000, 0);
        assert!(
            matches!(next, Next::GiveUp(MetadError::Unavailable(_))),
            "{next:?}"
        );
    }

    #[test]
    fn an_attempt_never_outlasts_the_call_and_a_hung_node_does_not_hold_up_a_question() {
        let known = three();
        let within = |repeat, patience| called(Attempts::new(repeat, patience).first(&known)).2;
        assert_eq!(within(Repeat::Question, 60_000), ATTEMPT_MS);
        assert_eq!(within(Repeat::Slow, 60_000), LONG_ATTEMPT_MS);
        assert_eq!(within(Repeat::Never, 60_000), 60_000);
        assert_eq!(within(Repeat::Idempotent, 10), 10);
        let mut attempts = Attempts::new(Repeat::Never, 1000);
        let next = attempts.failed(&mut three(), "a", not_sent(), 990, 0);
        assert_eq!(called(next).2, 10);
        let next = attempts.failed(&mut three(), "b", not_sent(), 1000, 0);
        assert!(matches!(next, Next::GiveUp(MetadError::Unavailable(_))));
    }

    #[test]
    fn a_refusal_and_an_overload_are_final() {
        let failed = |failure| Attempts::new(Repeat::Question, 1000).failed(&mut three(), "a", failure, 0, 0);
        assert_eq!(failed(Failure::Overloaded), Next::GiveUp(MetadError::Overloaded));
        for status in [400, 401, 403, 413] {
            let next = failed(Failure::Status(status, "no".to_owned()));
            assert!(
                matches!(next, Next::GiveUp(MetadError::Refused(Rejection::Invalid(_)))),
                "{next:?}"
            );
        }
        let word = MetadError::NoRoom("full".to_owned());
        assert_eq!(Failure::of(word.clone()), Err(word));
        assert!(matches!(
            Attempts::new(Repeat::Question, 1000).first(&Addresses::new([])),
            Next::GiveUp(MetadError::Unavailable(_))
        ));
    }

    #[test]
    fn a_membership_replaces_what_was_known_and_the_configuration_stays() {
        let member = |address: &str, leads| Member {
            node: 1,
            address: address.to_owned(),
            voter: true,
            leads,
            matched_index: None,
            silent_ms: None,
            issuer: None,
        };
        let mut known = three();
        known.learn(&MembersReply {
            members: vec![member("b", false), member("d", true)],
            joint: false,
        });
        assert_eq!(known.known(), ["b", "d", "a", "c"]);
        assert_eq!(known.first(), Some("d"));
        known.learn(&MembersReply {
            members: vec![member("b", false), member("e", false)],
            joint: false,
        });
        assert_eq!(
            known.known(),
            ["b", "e", "a", "c"],
            "what left the membership is forgotten"
        );
        assert_eq!(known.first(), Some("b"));
        let many = (0..2 * ADDRESSES_MAX).map(|number| number.to_string());
        assert_eq!(Addresses::new(many).known().len(), ADDRESSES_MAX);
    }
}
