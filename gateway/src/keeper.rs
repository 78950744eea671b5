//! Keeps the gateway's session alive: opens it, renews it, opens another one when it was lost, looks after its
//! leases and tells what is left over.

use crate::error::Error;
use crate::limits::{
    METAD_PATIENCE_ALLOCATE, PERHAPS_GONE, REFRESH_AFTER, RENEW_EVERY, RETRY_PAUSE, UPKEEP_EVERY,
};
use crate::rooms::LeaseDuty;
use crate::session::{Session, Surroundings, View};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;
use ullage_model::command::{Reply, SessionCommand};
use ullage_model::fat::rows::LeaseState;
use ullage_model::ids::{LeaseId, VendorId};
use ullage_model::limits::{COPIES_PER_BATCH, LEASE_MS};
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::{
    MetadError, OpenSessionRequest, RenewSessionReply, RenewSessionRequest, ReportDamagedRequest,
};

/// Holds the present session and runs what keeps it.
#[derive(Debug)]
pub struct Keeper {
    around: Arc<Surroundings>,
    gateway: String,
    current: RwLock<Arc<Session>>,
    wake_renewal: Arc<Notify>,
    wake_upkeep: Notify,
    renewing: tokio::sync::Mutex<()>,
    /// When the last attempt to give a sign of life began that brought no answer, and why it did not.
    silence: Mutex<Option<(Duration, Error)>>,
    /// Leases the metadata service named at the last renewal that this gateway does not hold, with the time since
    /// when it names them.
    strangers: Mutex<BTreeMap<LeaseId, Duration>>,
}

impl Keeper {
    /// Opens the first session.
    ///
    /// # Errors
    /// `Error::WrongKek` when the cluster's data was sealed under another key; or when the metadata service does
    /// not answer.
    pub async fn open(around: Arc<Surroundings>, gateway: String) -> Result<Arc<Self>, Error> {
        let wake = Arc::new(Notify::new());
        let session = open_session(&around, &gateway, &wake).await?;
        Ok(Arc::new(Self {
            around,
            gateway,
            current: RwLock::new(session),
            wake_renewal: wake,
            wake_upkeep: Notify::new(),
            renewing: tokio::sync::Mutex::new(()),
            silence: Mutex::default(),
            strangers: Mutex::default(),
        }))
    }

    /// The present session.
    #[must_use]
    pub fn session(&self) -> Arc<Session> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The present session, if it has not ended; otherwise one that is opened now. One that was not heard of for
    /// as long as sessions live is asked for first.
    ///
    /// # Errors
    /// When no session can be opened.
    pub async fn live_session(&self) -> Result<Arc<Session>, Error> {
        let session = self.session();
        if session.is_gone() {
            self.reopen().await?;
            return Ok(self.session());
        }
        if self.view_age() >= PERHAPS_GONE {
            // This process stood still, or the metadata service did: the session has ended without a word.
            self.renew_unless(|keeper| keeper.view_age() < PERHAPS_GONE)
                .await?;
            return Ok(self.session());
        }
        Ok(session)
    }

    /// Runs renewal and upkeep until dropped.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.run_renewal(), self.run_upkeep());
    }

    /// Renews the session and takes over what the metadata service says.
    ///
    /// # Errors
    /// When it does not answer, or no session can be opened in place of a lost one.
    pub async fn renew(&self) -> Result<(), Error> {
        self.renew_unless(|_| false).await
    }

    async fn renew_unless(&self, is_done: impl FnOnce(&Self) -> bool) -> Result<(), Error> {
        let came = self.around.clock.monotonic();
        let one_at_a_time = self.renewing.lock().await;
        if is_done(self) {
            return Ok(());
        }
        let now = self.around.clock.monotonic();
        self.heard_since(came)?;
        let session = self.session();
        let acknowledged_below = session.sequences.acknowledged_below();
        let request = RenewSessionRequest {
            session: session.id,
            acknowledged_below,
            observed_index: session.readers.observed_index(now),
        };
        match self.around.metad.renew_session(request).await {
            Ok(reply) => {
                session.readers.observe(reply.index);
                session.sequences.was_told(acknowledged_below);
                self.take_over(&session, reply);
                Ok(())
            }
            Err(MetadError::Refused(Rejection::SessionGone)) => {
                session.lost();
                drop(one_at_a_time);
                self.reopen().await
            }
            Err(error) => Err(self.unheard(now, error.into())),
        }
    }

    /// Whoever came before an attempt that brought no answer is told so with it: were each to try for itself, one
    /// after the other, those who come while the metadata service is away would wait longer and longer.
    ///
    /// # Errors
    /// Why an attempt failed that began after `came`.
    fn heard_since(&self, came: Duration) -> Result<(), Error> {
        let silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        match &*silence {
            Some((began, error)) if *began > came => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Notes that the attempt that began at `began` failed with `error`.
    fn unheard(&self, began: Duration, error: Error) -> Error {
        let mut silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        *silence = Some((began, error.clone()));
        error
    }

    /// Renews unless that was done a moment ago: a client names something that this gateway has not heard of yet.
    ///
    /// # Errors
    /// As [`Keeper::renew`].
    pub async fn refresh(&self) -> Result<(), Error> {
        if self.view_age() < REFRESH_AFTER {
            return Ok(());
        }
        self.renew().await
    }

    /// Renews unless all of `vendors` are known; answers whether one was not. They are named by what the metadata
    /// service said, so it knows them, however fresh what it said last of all vendors is.
    ///
    /// # Errors
    /// As [`Keeper::renew`].
    pub async fn learn(&self, vendors: &[VendorId]) -> Result<bool, Error> {
        let knows_all = |keeper: &Self| {
            let view = keeper.session().view();
            vendors.iter().all(|vendor| view.vendors.contains_key(vendor))
        };
        if knows_all(self) {
            return Ok(false);
        }
        self.renew_unless(knows_all).await?;
        Ok(true)
    }

    /// Ends the session in good order: leases are returned by its end.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn close(&self) -> Result<(), Error> {
        let session = self.session();
        let _ = session.rooms.retire_all();
        self.around
            .metad
            .end_session(session.id)
            .await
            .map_err(Error::from)
    }

    async fn reopen(&self) -> Result<(), Error> {
        let came = self.around.clock.monotonic();
        let _one_at_a_time = self.renewing.lock().await;
        if !self.session().is_gone() {
            return Ok(());
        }
        let now = self.around.clock.monotonic();
        self.heard_since(came)?;
        let opened = open_session(&self.around, &self.gateway, &self.wake_renewal).await;
        let session = opened.map_err(|error| self.unheard(now, error))?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = session;
        Ok(())
    }

    fn take_over(&self, session: &Arc<Session>, reply: RenewSessionReply) {
        let held = session.rooms.held();
        let mut strangers = Vec::new();
        for row in &reply.leases {
            let known = held.contains(&row.lease);
            if row.state == LeaseState::Closing {
                session.rooms.closed(row.lease);
            } else if !known {
                strangers.push(row.lease);
            } else if row.recalled {
                self.give_back(session, row.lease);
            }
        }
        self.around.agents.learn(&reply.vendors);
        session.set_view(View::of(reply, self.around.clock.monotonic()));
        for lease in self.lost(strangers) {
            let session = Arc::clone(session);
            tokio::spawn(async move {
                if let Err(error) = session.return_lease(lease).await {
                    tracing::warn!(%lease, %error, "cannot return a lease whose grants were lost");
                }
            });
        }
    }

    /// Those of `strangers` that have been there for longer than an answer may take that makes one: theirs was lost.
    /// Renewals may follow each other quickly, so that being named twice says nothing.
    fn lost(&self, strangers: Vec<LeaseId>) -> Vec<LeaseId> {
        let now = self.around.clock.monotonic();
        let mut known = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |lease: LeaseId| (lease, known.get(&lease).copied().unwrap_or(now));
        let named: BTreeMap<LeaseId, Duration> = strangers.into_iter().map(since).collect();
        let (lost, kept) = named
            .into_iter()
            .partition(|(_, since)| now.saturating_sub(*since) >= METAD_PATIENCE_ALLOCATE);
        *known = kept;
        let lost: BTreeMap<LeaseId, Duration> = lost;
        lost.into_keys().collect()
    }

    fn give_back(&self, session: &Arc<Session>, lease: LeaseId) {
        let rows = session.rooms.recall(lease);
        if rows.is_empty() {
            return;
        }
        let session = Arc::clone(session);
        tokio::spawn(async move {
            if let Err(error) = session.submit(SessionCommand::ShrinkLease { lease, rows }).await {
                tracing::warn!(%lease, %error, "cannot shrink a recalled lease");
            }
        });
    }

    async fn run_renewal(&self) {
        let mut due = RENEW_EVERY;
        loop {
            let _ = tokio::time::timeout(due, self.wake_renewal.notified()).await;
            self.wake_upkeep.notify_one();
            due = match self.renew_if_due().await {
                Ok(()) => RENEW_EVERY.saturating_sub(self.view_age()).max(RETRY_PAUSE.0),
                Err(error) => {
                    tracing::warn!(%error, "cannot renew the session");
                    RETRY_PAUSE.1
                }
            };
        }
    }

    /// A wake-up may be meant for upkeep only; a renewal is due by time, by untold outcomes or by loss.
    async fn renew_if_due(&self) -> Result<(), Error> {
        let session = self.session();
        if session.is_gone() {
            return self.reopen().await;
        }
        if self.view_age() + Duration::from_millis(1) >= RENEW_EVERY || session.sequences.should_tell() {
            return self.renew().await;
        }
        Ok(())
    }

    fn view_age(&self) -> Duration {
        self.around
            .clock
            .monotonic()
            .saturating_sub(self.session().view().read_at)
    }

    async fn run_upkeep(&self) {
        loop {
            let _ = tokio::time::timeout(UPKEEP_EVERY, self.wake_upkeep.notified()).await;
            let session = self.session();
            self.keep_leases(&session).await;
            self.tell_leftovers(&session).await;
            self.show(&session);
        }
    }

    async fn keep_leases(&self, session: &Arc<Session>) {
        for duty in session.rooms.duties(session.now()) {
            let done = match duty {
                LeaseDuty::Ask(class) => {
                    if let Some(class) = session.view().classes.get(&class) {
                        session.ask_for_room(class);
                    }
                    Ok(())
                }
                LeaseDuty::Return(lease) => session.return_lease(lease).await,
                LeaseDuty::Renew(lease) => renew_lease(session, lease).await,
            };
            if let Err(error) = done {
                // One not returned ends by its deadline; one not renewed is tried again in a moment.
                tracing::warn!(session = %session.id, %error, "cannot look after a lease");
            }
        }
    }

    async fn tell_leftovers(&self, session: &Arc<Session>) {
        let mut leftovers = session.take_leftovers();
        while let Some(blob) = leftovers.blobs.pop_first() {
            match session.submit(SessionCommand::AbandonBlob { blob }).await {
                Ok(_) => self.around.metrics.blobs_abandoned.inc(),
                // It became an object after all, or was abandoned before.
                Err(Error::Rejected(_)) => {}
                // The end of the session abandons them.
                Err(Error::SessionLost) => return,
                Err(error) => {
                    tracing::warn!(%blob, %error, "cannot abandon a blob yet");
                    session.abandon(blob);
                    break;
                }
            }
        }
        for blob in leftovers.blobs {
            session.abandon(blob);
        }
        let mut by_vendor: BTreeMap<VendorId, Vec<_>> = BTreeMap::new();
        for ((vendor, _), copy) in leftovers.damaged {
            by_vendor.entry(vendor).or_default().push(copy);
        }
        for (vendor, copies) in by_vendor {
            for copies in copies.chunks(COPIES_PER_BATCH) {
                let request = ReportDamagedRequest {
                    session: session.id,
                    vendor,
                    copies: copies.to_vec(),
                };
                if let Err(error) = self.around.metad.report_damaged(request).await {
                    // Whoever reads the copy next finds it damaged again.
                    tracing::warn!(%vendor, %error, "cannot report damaged copies");
                }
            }
        }
    }

    fn show(&self, session: &Session) {
        let metrics = &self.around.metrics;
        let (leases, unused) = session.rooms.sums();
        metrics.leases_open.set(i64::try_from(leases).unwrap_or(i64::MAX));
        metrics
            .lease_unused_bytes
            .set(i64::try_from(unused).unwrap_or(i64::MAX));
        let states = session.view().states();
        for path in self.around.paths.view(&states, self.around.clock.monotonic()) {
            let vendor = path.vendor.0.to_string();
            metrics
                .path_score
                .with_label_values(&[&vendor])
                .set(i64::from(path.score));
        }
    }
}

async fn renew_lease(session: &Session, lease: LeaseId) -> Result<(), Error> {
    let command = SessionCommand::RenewLease {
        lease,
        duration_ms: LEASE_MS,
    };
    match session.submit(command).await {
        Ok(Reply::Deadline(deadline)) => session.rooms.renewed(lease, deadline),
        Ok(_) => return Err(Error::UnexpectedAnswer("renew lease")),
        Err(Error::Rejected(Rejection::LeaseClosed(_))) => session.rooms.closed(lease),
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn open_session(
    around: &Arc<Surroundings>,
    gateway: &str,
    wake: &Arc<Notify>,
) -> Result<Arc<Session>, Error> {
    let request = OpenSessionRequest {
        gateway: gateway.to_owned(),
        kek: around.kek.id(),
        kek_value: around.kek.check_value().clone(),
    };
    let opened = around.metad.open_session(request).await?;
    if opened.kek_value != *around.kek.check_value() {
        return Err(Error::WrongKek(around.kek.id()));
    }
    let request = RenewSessionRequest {
        session: opened.session,
        acknowledged_below: 1,
        observed_index: 0,
    };
    let reply = around.metad.renew_session(request).await?;
    let index = reply.index;
    around.agents.learn(&reply.vendors);
    let view = View::of(reply, around.clock.monotonic());
    let session = Session::new(Arc::clone(around), &opened, view, Arc::clone(wake));
    session.readers.observe(index);
    around.metrics.sessions.inc();
    tracing::info!(session = %session.id, cluster = %session.cluster, "session opened");
    Ok(Arc::new(session))
}
