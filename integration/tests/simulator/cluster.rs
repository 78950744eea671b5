//! The whole cluster: three metadata nodes, four vendors, two gateways with their clients, started as processes are
//! and killed as they are.

use crate::driver::Scenario;
use crate::gateway::{self, GatewayHome};
use crate::history::History;
use crate::metad::{self, MetadHome};
use crate::plan::{GATEWAYS, Host, METADS, Plan, VENDORS};
use crate::raft::disk_of;
use crate::register::all_rows;
use crate::stage::{Mark, Stage};
use crate::vendor::{self, VendorHome};
use anyhow::{Context, ensure};
use std::path::Path;
use std::sync::Arc;
use turmoil::Sim;
use ullage_model::invariants;

/// The scenario.
pub struct ClusterScenario {
    metads: Vec<MetadHome>,
    vendors: Vec<VendorHome>,
    gateways: Vec<GatewayHome>,
    stage: Stage,
}

impl ClusterScenario {
    /// Everything empty; files lie in `scratch`.
    pub fn new(plan: &Plan, stage: &Stage, history: &History, scratch: &Path) -> Self {
        let plan = Arc::new(plan.clone());
        let metads = (0..METADS).map(|number| MetadHome::new(number, &plan, disk_of(&plan, number, scratch)));
        let vendors = (0..VENDORS).map(|number| VendorHome::new(number, &plan, scratch));
        let gateways = (0..GATEWAYS).map(|number| GatewayHome::new(number, &plan, stage, history, scratch));
        Self {
            metads: metads.collect(),
            vendors: vendors.collect(),
            gateways: gateways.collect(),
            stage: stage.clone(),
        }
    }
}

impl Scenario for ClusterScenario {
    fn start(&mut self, sim: &mut Sim<'_>) {
        for home in &self.metads {
            let home = home.clone();
            sim.host(Host::Metad(home.number).to_string(), move || {
                let home = home.clone();
                async move { metad::run(home).await.map_err(Into::into) }
            });
        }
        for home in &self.vendors {
            let home = home.clone();
            sim.host(Host::Vendor(home.number).to_string(), move || {
                let home = home.clone();
                async move { vendor::run(home).await.map_err(Into::into) }
            });
        }
        for home in &self.gateways {
            let home = home.clone();
            sim.host(Host::Gateway(home.number).to_string(), move || {
                let home = home.clone();
                async move { gateway::run(home).await.map_err(Into::into) }
            });
        }
    }

    fn crashed(&mut self, host: Host) {
        match host {
            Host::Metad(number) => self.metads[number].disk.crash(),
            Host::Vendor(number) => self.vendors[number].crash(),
            // A gateway keeps nothing.
            Host::Gateway(_) => {}
        }
    }

    fn works(&self) -> bool {
        self.stage.all_reached(Mark::Works)
    }

    fn works_again(&self) -> bool {
        self.stage.all_reached(Mark::WorksAgain)
    }

    fn has_read(&self) -> bool {
        self.stage.all_reached(Mark::HasRead)
    }

    fn verify(&mut self) -> anyhow::Result<()> {
        let mut states = Vec::new();
        for home in &self.metads {
            let number = home.number;
            let metad = home
                .metad()
                .with_context(|| format!("metad-{number} does not run"))?;
            ensure!(metad.is_live(), "metad-{number} has failed");
            let (index, state) = metad.applied();
            let state = state.snapshot();
            invariants::check(&state).with_context(|| format!("the table of metad-{number} at {index}"))?;
            states.push((index, all_rows(&state)?));
        }
        let (first, rows) = &states[0];
        for (number, (index, other)) in states.iter().enumerate().skip(1) {
            ensure!(
                index == first,
                "metad-{number} has applied {index}, metad-0 {first}"
            );
            ensure!(other == rows, "metad-{number} and metad-0 differ at {first}");
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for home in &self.metads {
            let metad = home.metad().map(|metad| (metad.is_ready(), metad.status()));
            text.push_str(&format!("metad-{}: {metad:?}\n", home.number));
        }
        text
    }
}
