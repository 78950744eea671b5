//! A session: the gateway's replicated identity. Commands go out under its sequences, room is taken from its
//! leases, reads are registered with it. Opening, renewing and upkeep are `keeper.rs`.

use crate::agent_client::AgentClient;
use crate::crypt::BlobKey;
use crate::environment::{Clock, Randomness};
use crate::error::Error;
use crate::kek::Kek;
use crate::limits::{
    ABANDONED_RETRIES, LEFTOVERS_MAX, NO_ROOM_KEPT, RESOLVE_PATIENCE, RETRY_PAUSE, SUBMIT_PATIENCE,
};
use crate::metad_client::MetadClient;
use crate::metrics::Metrics;
use crate::path::PathTable;
use crate::readers::{Reader, Readers};
use crate::rooms::{Now, Rooms};
use crate::sequences::{Sequence, Sequences};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::command::{Reply, SessionCommand};
use ullage_model::fat::rows::{ClassRow, InlineRow, VendorState};
use ullage_model::ids::{BlobId, ClusterId, Epoch, LeaseId, SessionId, VendorId};
use ullage_model::namespace::rows::WrappedKey;
use ullage_model::rejection::Rejection;
use ullage_model::units::room_bound;
use ullage_model::wire::agent::DamagedCopy;
use ullage_model::wire::metad::{
    AllocateRequest, MetadError, OpenSessionReply, ProvisionalFat, Query, QueryReply, RenewSessionReply,
    ResolveRequest, SubmitReply, SubmitRequest, VendorInfo,
};

/// What the gateway knows of the cluster, replaced as a whole at each sign of life.
#[derive(Clone, Debug)]
pub struct View {
    /// Cluster time when it was read.
    pub cluster_time: ClusterTime,
    /// The gateway's clock then.
    pub read_at: Duration,
    /// All vendors.
    pub vendors: BTreeMap<VendorId, Arc<VendorInfo>>,
    /// All classes by name.
    pub classes: BTreeMap<String, Arc<ClassRow>>,
    /// Inlining.
    pub inline: InlineRow,
}

impl View {
    /// What a reply says, read at `read_at`.
    #[must_use]
    pub fn of(reply: RenewSessionReply, read_at: Duration) -> Self {
        Self {
            cluster_time: reply.cluster_time,
            read_at,
            vendors: reply
                .vendors
                .into_iter()
                .map(|it| (it.row.vendor, Arc::new(it)))
                .collect(),
            classes: reply
                .classes
                .into_iter()
                .map(|it| (it.name.clone(), Arc::new(it)))
                .collect(),
            inline: reply.inline,
        }
    }

    /// State of a vendor as the metadata service sees it; unknown ones are dead.
    #[must_use]
    pub fn state(&self, vendor: VendorId) -> VendorState {
        self.vendors
            .get(&vendor)
            .map_or(VendorState::Dead, |info| info.row.state)
    }

    /// All vendors with their states.
    #[must_use]
    pub fn states(&self) -> Vec<(VendorId, VendorState)> {
        self.vendors
            .iter()
            .map(|(&vendor, info)| (vendor, info.row.state))
            .collect()
    }
}

/// What every session of one gateway shares.
#[derive(Debug)]
pub struct Surroundings {
    /// The metadata service.
    pub metad: Arc<dyn MetadClient>,
    /// Vendor agents.
    pub agents: Arc<dyn AgentClient>,
    /// Clocks.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Randomness>,
    /// The key-encryption key.
    pub kek: Kek,
    /// Paths to vendors.
    pub paths: PathTable,
    /// Metrics.
    pub metrics: Metrics,
}

/// What is left over when requests end early, to be told to the metadata service.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Building blobs to be abandoned.
    pub blobs: BTreeSet<BlobId>,
    /// Copies found damaged or missing.
    pub damaged: BTreeMap<(VendorId, ullage_model::ids::CopyId), DamagedCopy>,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The epoch.
    pub epoch: Epoch,
    /// Room it holds.
    pub rooms: Arc<Rooms>,
    /// Its reads.
    pub readers: Arc<Readers>,
    /// Its sequences.
    pub sequences: Arc<Sequences>,
    /// Wakes the keeper: something is due early.
    pub wake: Arc<Notify>,
    around: Arc<Surroundings>,
    blobs: AtomicU64,
    gone: AtomicBool,
    view: RwLock<Arc<View>>,
    leftovers: Mutex<Leftovers>,
}

impl Session {
    /// A session that was opened, with the first view of the cluster.
    #[must_use]
    pub fn new(around: Arc<Surroundings>, opened: &OpenSessionReply, view: View, wake: Arc<Notify>) -> Self {
        Self {
            id: opened.session,
            cluster: opened.cluster,
            epoch: opened.epoch,
            rooms: Arc::new(Rooms::default()),
            readers: Arc::new(Readers::default()),
            sequences: Arc::new(Sequences::default()),
            wake,
            around,
            blobs: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            view: RwLock::new(Arc::new(view)),
            leftovers: Mutex::new(Leftovers::default()),
        }
    }

    /// The cluster as last heard of.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the view.
    pub fn set_view(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let view = self.view();
        let local = self.around.clock.monotonic();
        let passed = local.saturating_sub(view.read_at).as_millis();
        Now {
            local,
            cluster: view.cluster_time.plus(u64::try_from(passed).unwrap_or(u64::MAX)),
        }
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// The metadata service said that the session has ended: the keeper opens another one.
    pub fn lost(&self) {
        if !self.gone.swap(true, Ordering::AcqRel) {
            tracing::warn!(session = %self.id, "the session has ended; opening another one");
        }
        self.wake.notify_one();
    }

    /// A fresh blob: its name, its key and its key wrapped.
    #[must_use]
    pub fn new_blob(&self) -> (BlobKey, WrappedKey) {
        let blob = BlobId {
            session: self.id,
            counter: self.blobs.fetch_add(1, Ordering::Relaxed),
        };
        let key = crate::crypt::fresh_key(&*self.around.random);
        let wrapped = self.around.kek.wrap_data_key(blob, &key, &*self.around.random);
        (BlobKey::new(blob, &key), wrapped)
    }

    /// Registers a read: to be called before asking where bytes are.
    #[must_use]
    pub fn enter_read(&self) -> Reader {
        self.readers.enter(self.around.clock.monotonic())
    }

    /// Asks for the replicated state.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn query(&self, query: Query) -> Result<QueryReply, Error> {
        let mut patience = Patience::new(&*self.around.clock, SUBMIT_PATIENCE);
        loop {
            match self.around.metad.query(query.clone()).await {
                Ok(reply) => {
                    self.readers.observe(reply.index);
                    return Ok(reply);
                }
                // A question changes nothing: one whose answer was lost is asked again.
                Err(
                    error @ (MetadError::Unavailable(_) | MetadError::Overloaded | MetadError::Unknown(_)),
                ) => {
                    patience.wait(error).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Has `command` decided exactly once, and answers its outcome. A refusal is an error.
    ///
    /// # Errors
    /// A refusal; `OutcomeUnknown` when it could not be learned in time whether it was done; otherwise it was
    /// surely not done.
    pub async fn submit(&self, command: SessionCommand) -> Result<Reply, Error> {
        let began = self.around.clock.monotonic();
        for _ in 0..ABANDONED_RETRIES {
            let sequence = self.sequences.take(&self.wake).await;
            match self.submit_once(&command, &sequence).await? {
                // Surely not done: the next sequence says it again, unless that has taken all the time there is.
                Reply::Abandoned | Reply::Refused(Rejection::SequenceAbandoned(_)) => {
                    let passed = self.around.clock.monotonic().saturating_sub(began);
                    if passed > SUBMIT_PATIENCE + RESOLVE_PATIENCE {
                        break;
                    }
                }
                Reply::Refused(Rejection::WindowFull) => {
                    self.wake.notify_one();
                    tokio::time::sleep(RETRY_PAUSE.1).await;
                }
                Reply::Refused(rejection) => return Err(self.refused(rejection)),
                reply => return Ok(reply),
            }
        }
        Err(Error::Unavailable("every try was abandoned".to_owned()))
    }

    async fn submit_once(&self, command: &SessionCommand, sequence: &Sequence) -> Result<Reply, Error> {
        let mut patience = Patience::new(&*self.around.clock, SUBMIT_PATIENCE);
        loop {
            let request = SubmitRequest {
                session: self.id,
                sequence: sequence.number,
                command: command.clone(),
            };
            match self.around.metad.submit(request).await {
                Ok(SubmitReply { index, reply, .. }) => {
                    self.readers.observe(index);
                    return Ok(reply);
                }
                Err(MetadError::Unknown(reason)) => return self.resolve(sequence, reason).await,
                Err(MetadError::Refused(rejection)) => return Ok(Reply::Refused(rejection)),
                Err(error) => patience.wait(error).await?,
            }
        }
    }

    /// Asks what became of a sequence until there is an answer.
    async fn resolve(&self, sequence: &Sequence, reason: String) -> Result<Reply, Error> {
        self.around.metrics.outcomes_resolved.inc();
        let mut patience = Patience::new(&*self.around.clock, RESOLVE_PATIENCE);
        loop {
            let request = ResolveRequest {
                session: self.id,
                sequence: sequence.number,
            };
            match self.around.metad.resolve(request).await {
                Ok(SubmitReply { index, reply, .. }) => {
                    self.readers.observe(index);
                    return match reply {
                        // Nothing is known of a session or a sequence that was forgotten.
                        Reply::Refused(Rejection::SessionGone | Rejection::SequenceForgotten(_)) => {
                            self.lost();
                            Err(Error::OutcomeUnknown(reason))
                        }
                        reply => Ok(reply),
                    };
                }
                Err(MetadError::Refused(Rejection::SessionGone | Rejection::SequenceForgotten(_))) => {
                    self.lost();
                    return Err(Error::OutcomeUnknown(reason));
                }
                Err(error) => {
                    if patience.wait(error).await.is_err() {
                        return Err(Error::OutcomeUnknown(reason));
                    }
                }
            }
        }
    }

    fn refused(&self, rejection: Rejection) -> Error {
        if rejection == Rejection::SessionGone {
            self.lost();
        }
        rejection.into()
    }

    /// A blob that is being built is given up; the keeper says so to the metadata service.
    pub fn abandon(&self, blob: BlobId) {
        let mut leftovers = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner);
        if leftovers.blobs.len() < LEFTOVERS_MAX {
            leftovers.blobs.insert(blob);
        } else {
            // The end of the session abandons what is dropped here.
            tracing::warn!(%blob, "too many blobs wait to be abandoned");
        }
        drop(leftovers);
        self.wake.notify_one();
    }

    /// A copy was found damaged, or (`lost`) not there; the keeper reports it.
    pub fn damaged(&self, vendor: VendorId, copy: DamagedCopy) {
        let mut leftovers = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner);
        if leftovers.damaged.len() < LEFTOVERS_MAX {
            leftovers.damaged.insert((vendor, copy.copy), copy);
        }
        drop(leftovers);
        self.wake.notify_one();
    }

    /// Takes what is left over, to tell it.
    #[must_use]
    pub fn take_leftovers(&self) -> Leftovers {
        std::mem::take(&mut *self.leftovers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks for a provisional FAT of `class` in the background, unless that goes on already.
    pub fn ask_for_room(self: &Arc<Self>, class: &Arc<ClassRow>) {
        let Some(bytes) = self.rooms.begin_asking(&class.name, self.now()) else {
            return;
        };
        let session = Arc::clone(self);
        let class = Arc::clone(class);
        tokio::spawn(async move {
            let answer = session.allocate(&class, bytes).await;
            let outcome = if answer.is_ok() { "granted" } else { "refused" };
            session.around.metrics.leases.with_label_values(&[outcome]).inc();
            let answer = answer.map_err(|error| (NO_ROOM_KEPT, error));
            session.rooms.answered(&class.name, session.now(), answer);
        });
    }

    async fn allocate(&self, class: &ClassRow, bytes: u64) -> Result<ProvisionalFat, Error> {
        match self.allocate_once(class, bytes).await {
            Err(Error::NoRoom(_)) => {}
            other => return other,
        }
        // What this gateway holds for other classes and does not use may be just what is missing.
        self.wake.notify_one();
        for (lease, rows) in self.rooms.give_up_others(&class.name) {
            if let Err(error) = self.submit(SessionCommand::ShrinkLease { lease, rows }).await {
                tracing::debug!(%lease, %error, "cannot shrink a lease of another class");
            }
        }
        self.allocate_once(class, bytes).await
    }

    async fn allocate_once(&self, class: &ClassRow, bytes: u64) -> Result<ProvisionalFat, Error> {
        let least_bytes = room_bound(class.chunk_bytes, class.pieces);
        let mut patience = Patience::new(&*self.around.clock, SUBMIT_PATIENCE);
        loop {
            let sequence = self.sequences.take(&self.wake).await;
            let request = AllocateRequest {
                session: self.id,
                sequence: sequence.number,
                class: class.name.clone(),
                bytes: bytes.max(least_bytes),
                least_bytes,
                avoid: Vec::new(),
            };
            match self.around.metad.allocate(request).await {
                Ok(fat) => return Ok(fat),
                Err(MetadError::Refused(rejection)) => return Err(self.refused(rejection)),
                Err(MetadError::Unknown(reason)) => {
                    // The lease may be there, but its grants were lost with the answer.
                    if let Reply::Lease { lease, .. } = self.resolve(&sequence, reason).await? {
                        self.return_lease(lease).await?;
                    }
                    let reason = "an allocation was not answered".to_owned();
                    patience.wait(MetadError::Unavailable(reason)).await?;
                }
                Err(error @ (MetadError::Unavailable(_) | MetadError::Overloaded)) => {
                    patience.wait(error).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns a lease; one that is closed already is fine.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn return_lease(&self, lease: LeaseId) -> Result<(), Error> {
        match self.submit(SessionCommand::ReturnLease { lease }).await {
            Ok(_) | Err(Error::Rejected(Rejection::LeaseClosed(_))) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Patience with something that may be tried again: pauses that double, and an end.
#[derive(Debug)]
pub struct Patience<'a> {
    clock: &'a dyn Clock,
    until: Duration,
    pause: Duration,
}

impl<'a> Patience<'a> {
    /// Patience that lasts for `lasts`.
    #[must_use]
    pub fn new(clock: &'a dyn Clock, lasts: Duration) -> Self {
        Self {
            clock,
            until: clock.monotonic() + lasts,
            pause: RETRY_PAUSE.0,
        }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// `error`, when patience is at its end.
    pub async fn wait(&mut self, error: MetadError) -> Result<(), Error> {
        if self.clock.monotonic() + self.pause > self.until {
            return Err(error.into());
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(RETRY_PAUSE.1);
        Ok(())
    }
}
