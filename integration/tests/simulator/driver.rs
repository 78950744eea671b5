//! Drives a run: steps the simulated time, makes and undoes faults when they are due, and sees to it that each phase
//! ends. Knows nothing of the services.

use crate::history::History;
use crate::plan::{Event, FAULTS_MS, Fault, Host, Plan};
use crate::stage::{Phase, Stage};
use crate::watch;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use turmoil::Sim;

/// One step of simulated time.
pub const TICK: Duration = Duration::from_millis(5);
/// How long a phase may take that waits for something, in ms.
const PHASE_MS: u64 = 180_000;
/// How long nothing happens before replicas are compared, in ms.
const QUIET_MS: u64 = 3_000;

/// What a run simulates: hosts, and what a crash does to them.
pub trait Scenario {
    /// Registers the hosts.
    fn start(&mut self, sim: &mut Sim<'_>);
    /// A host has crashed: what it had not made durable is lost.
    fn crashed(&mut self, host: Host);
    /// Whether the cluster works, before anything goes wrong.
    fn works(&self) -> bool;
    /// Whether it works again for every client.
    fn works_again(&self) -> bool;
    /// Whether everything was read.
    fn has_read(&self) -> bool;
    /// Checks replicas and vendors when nothing goes on any more. Called within the simulation's time.
    ///
    /// # Errors
    /// What does not hold.
    fn verify(&mut self) -> anyhow::Result<()>;
    /// Where everybody is, for whoever looks at a run that does not go on.
    fn describe(&self) -> String;
}

/// A run under way.
pub struct Driver<'a, S> {
    sim: Sim<'a>,
    plan: Plan,
    stage: Stage,
    history: History,
    scenario: S,
    /// Hosts that are down, by how many faults want them so.
    down: BTreeMap<Host, u32>,
    /// Faults under way with the time of their end.
    under_way: Vec<(u64, Fault)>,
    verbose: bool,
}

impl<S: Scenario> Driver<'_, S> {
    /// A run of `plan`.
    pub fn new(plan: Plan, stage: Stage, history: History, mut scenario: S, verbose: bool) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
            .simulation_duration(Duration::from_secs(24 * 3600))
            .tick_duration(TICK)
            .min_message_latency(Duration::ZERO)
            .max_message_latency(Duration::from_millis(plan.latency_ms))
            .tcp_capacity(4096)
            .udp_capacity(64)
            .enable_random_order()
            .build();
        scenario.start(&mut sim);
        Self {
            sim,
            plan,
            stage,
            history,
            scenario,
            down: BTreeMap::new(),
            under_way: Vec::new(),
            verbose,
        }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// What went wrong, and when.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let done = self.phases();
        done.with_context(|| {
            format!(
                "at {:.3} s, {:?}\n{}last troubles:\n  {}",
                self.sim.elapsed().as_secs_f64(),
                self.stage.phase(),
                self.scenario.describe(),
                self.stage.troubles().join("\n  ")
            )
        })
    }

    fn phases(&mut self) -> anyhow::Result<()> {
        self.until("the cluster works", S::works)?;
        self.stage.enter(Phase::Faults);
        self.faults()?;
        self.heal();
        self.stage.enter(Phase::Healed);
        self.until("the healed cluster works again", S::works_again)?;
        self.stage.enter(Phase::Reading);
        self.until("every key is read", S::has_read)?;
        // Until then vendors may have been on their way back.
        watch::forgive_gateways();
        if let Err((key, violation)) = self.history.check() {
            bail!("{key} is not linearizable: {violation}");
        }
        self.stage.enter(Phase::Quiet);
        let quiet = self.now() + QUIET_MS;
        while self.now() < quiet {
            self.step()?;
        }
        self.verified()
    }

    /// Verifies, and again for a while: replicas may still be catching up.
    fn verified(&mut self) -> anyhow::Result<()> {
        let deadline = self.now() + PHASE_MS;
        loop {
            match self.scenario.verify() {
                Ok(()) => return Ok(()),
                Err(error) if self.now() >= deadline => return Err(error),
                Err(_) => {
                    let next = self.now() + 1_000;
                    while self.now() < next {
                        self.step()?;
                    }
                }
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.sim.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn step(&mut self) -> anyhow::Result<()> {
        self.history.set_now(self.now());
        if let Err(error) = self.sim.step() {
            bail!("a host ended: {error}");
        }
        Ok(())
    }

    fn until(&mut self, what: &str, reached: impl Fn(&S) -> bool) -> anyhow::Result<()> {
        let deadline = self.now() + PHASE_MS;
        while !reached(&self.scenario) {
            if self.now() >= deadline {
                bail!("waited {} s until {what}", PHASE_MS / 1000);
            }
            self.step()?;
        }
        self.say(what);
        Ok(())
    }

    fn faults(&mut self) -> anyhow::Result<()> {
        let begin = self.now();
        let mut events: Vec<Event> = self.plan.events.clone();
        events.reverse();
        loop {
            let now = self.now() - begin;
            while let Some(event) = events.pop_if(|event| event.at_ms <= now) {
                self.make(&event.fault);
                self.under_way
                    .push((begin + event.at_ms + event.lasts_ms, event.fault));
            }
            let due: Vec<Fault> = {
                let now = self.now();
                let (due, left) = std::mem::take(&mut self.under_way)
                    .into_iter()
                    .partition(|(end, _)| *end <= now);
                self.under_way = left;
                Vec::from_iter::<Vec<(u64, Fault)>>(due)
                    .into_iter()
                    .map(|(_, fault)| fault)
                    .collect()
            };
            for fault in due {
                self.undo(&fault);
            }
            if now >= FAULTS_MS {
                return Ok(());
            }
            self.step()?;
        }
    }

    fn heal(&mut self) {
        for (_, fault) in std::mem::take(&mut self.under_way) {
            self.undo(&fault);
        }
        self.repair();
        self.say("everything is whole again");
    }

    fn make(&mut self, fault: &Fault) {
        self.say(&format!("{fault:?}"));
        match fault {
            Fault::Crash(hosts) => self.crash(hosts),
            Fault::Partition(one, other) => each(one, other, |one, other| self.sim.partition(one, other)),
            Fault::OneWay(from, to) => each(from, to, |from, to| self.sim.partition_oneway(from, to)),
            Fault::Hold(one, other) => each(one, other, |one, other| self.sim.hold(one, other)),
            Fault::Slow(ms) => self.sim.set_max_message_latency(Duration::from_millis(*ms)),
            Fault::Loss(one_in) => self.sim.set_fail_rate(1.0 / f64::from(*one_in)),
        }
    }

    fn undo(&mut self, fault: &Fault) {
        self.say(&format!("over: {fault:?}"));
        match fault {
            Fault::Crash(hosts) => {
                for &host in hosts {
                    let wanted = self.down.entry(host).or_default();
                    *wanted = wanted.saturating_sub(1);
                    if *wanted == 0 {
                        self.sim.bounce(host.to_string());
                    }
                }
            }
            Fault::Partition(..) | Fault::OneWay(..) | Fault::Hold(..) => {
                self.relink();
            }
            Fault::Slow(_) => {
                let usual = Duration::from_millis(self.plan.latency_ms);
                self.sim.set_max_message_latency(usual);
            }
            Fault::Loss(_) => self.sim.set_fail_rate(0.0),
        }
    }

    /// A process that is killed still has its connections closed by the kernel; of a machine without power nobody
    /// hears any more.
    fn crash(&mut self, hosts: &[Host]) {
        let silent = self.plan.silent_crashes;
        for &host in hosts {
            let wanted = self.down.entry(host).or_default();
            *wanted += 1;
            if *wanted > 1 {
                continue;
            }
            if silent {
                for other in self.plan.shape.hosts() {
                    if other != host {
                        self.sim.partition(host.to_string(), other.to_string());
                    }
                }
            }
            self.sim.crash(host.to_string());
            self.scenario.crashed(host);
        }
        if silent {
            self.relink();
        }
    }

    /// A link has one state only: makes all whole, and whatever goes on between hosts anew.
    fn relink(&mut self) {
        self.repair();
        for (_, other) in self.under_way.clone() {
            if matches!(other, Fault::Partition(..) | Fault::OneWay(..) | Fault::Hold(..)) {
                self.make(&other);
            }
        }
    }

    /// Makes every link whole; what was held is delivered.
    fn repair(&mut self) {
        let hosts = self.plan.shape.hosts();
        for (at, one) in hosts.iter().enumerate() {
            for other in &hosts[at + 1..] {
                self.sim.release(one.to_string(), other.to_string());
                self.sim.repair(one.to_string(), other.to_string());
            }
        }
    }

    fn say(&self, what: &str) {
        if self.verbose {
            println!("{:>9.3} ---- {what}", self.sim.elapsed().as_secs_f64());
        }
    }
}

fn each(one: &[Host], other: &[Host], mut act: impl FnMut(String, String)) {
    for one in one {
        for other in other {
            act(one.to_string(), other.to_string());
        }
    }
}
