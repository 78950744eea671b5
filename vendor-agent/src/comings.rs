//! Devices that come and go while the agent runs: a directory that vanishes (unmounted, pulled) takes its device
//! away at once; when it is back with its marker, the device is opened anew, replayed and in use again. Settings
//! that are read again bring and take away devices the same way.

use crate::agent::Agent;
use crate::config::DeviceConfig;
use crate::device::{DeviceError, data_dir};
use crate::devices::ToStart;
use crate::error::AgentError;
use crate::opening::{check_devices, marker, open_device, replay};
use crate::sync::lock;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use ullage_model::ids::DeviceId;
use ullage_model::wire::agent::DeviceState;

/// How often the devices are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// A device of the settings.
pub(crate) struct Configured {
    config: DeviceConfig,
    id: DeviceId,
    /// The last reason why it did not come back, so that each is logged once.
    said: Option<String>,
}

impl Configured {
    /// Devices as they were opened, in the same order.
    pub(crate) fn all(configs: &[DeviceConfig], started: &[ToStart]) -> Vec<Self> {
        let both = configs.iter().zip(started);
        both.map(|(config, start)| Self::new(config.clone(), start.id))
            .collect()
    }

    fn new(config: DeviceConfig, id: DeviceId) -> Self {
        Self {
            config,
            id,
            said: None,
        }
    }
}

impl Agent {
    /// Takes over the devices of settings that were read again: what is not named any more is gone, what is new
    /// is made or opened, what has other settings is opened anew. What fails leaves the others as they are to
    /// be.
    ///
    /// # Errors
    /// The first that went wrong.
    pub async fn set_devices(self: &Arc<Self>, devices: Vec<DeviceConfig>) -> Result<(), AgentError> {
        check_devices(&devices)?;
        let mut wanted = self.wanted.lock().await;
        let (mut kept, changed): (Vec<Configured>, Vec<Configured>) = wanted
            .drain(..)
            .partition(|known| devices.contains(&known.config));
        let mut outcome = Ok(());
        for known in &changed {
            tracing::info!(device = %known.id, path = %known.config.path.display(), "device is taken out");
            // Whatever comes of it, the others are still watched.
            outcome = outcome.and(self.end(self.devices.retire(known.id)).await);
        }
        for config in devices {
            if kept.iter().any(|known| known.config == config) {
                continue;
            }
            let taken = kept.iter().map(|known| known.id).collect();
            match self.bring(config.clone(), taken).await {
                Ok(id) => kept.push(Configured::new(config, id)),
                Err(error) if outcome.is_ok() => outcome = Err(error),
                Err(error) => tracing::error!(path = %config.path.display(), %error, "device is not taken"),
            }
        }
        *wanted = kept;
        outcome
    }

    /// Watches the devices; ends only by being dropped.
    pub(crate) async fn watch_devices_forever(self: &Arc<Self>) {
        let mut before = Vec::new();
        loop {
            sleep(PERIOD).await;
            // Held from the look on: what it saw still holds when it is acted upon.
            let mut wanted = self.wanted.lock().await;
            let agent = Arc::clone(self);
            let looked = self.workers.blocking(move || agent.devices.reports()).await;
            let Ok(reports) = looked else { return };
            let states: Vec<(DeviceId, DeviceState)> = reports
                .iter()
                .map(|report| (report.device, report.state))
                .collect();
            if states != before {
                self.report.notify_one();
            }
            before = states;
            for known in wanted.iter_mut() {
                let gone = (known.id, DeviceState::Gone);
                if !before.contains(&gone) {
                    continue;
                }
                match self.bring_back(known).await {
                    Ok(()) => known.said = None,
                    // Not in place yet; that it is gone was said when it went.
                    Err(AgentError::Device(DeviceError::Gone { .. })) => {}
                    Err(error) => {
                        let error = error.to_string();
                        if known.said.as_ref() != Some(&error) {
                            tracing::warn!(device = %known.id, error, "a device that is gone cannot be taken back");
                            known.said = Some(error);
                        }
                    }
                }
            }
        }
    }

    /// Opens a device that is gone anew, if it is in place again.
    async fn bring_back(self: &Arc<Self>, known: &Configured) -> Result<(), AgentError> {
        let agent = Arc::clone(self);
        let (path, id) = (known.config.path.clone(), known.id);
        let in_place = move || {
            let expected = marker(id, &lock(&agent.data_dir));
            data_dir::check_device(&path, &expected)
        };
        self.workers.blocking(in_place).await??;
        self.end(self.devices.retire(id)).await?;
        self.bring(known.config.clone(), Vec::new()).await?;
        tracing::info!(device = %id, path = %known.config.path.display(), "device is back");
        Ok(())
    }

    /// Opens a device, replays it and puts it to use. Nothing else may have it open.
    async fn bring(
        self: &Arc<Self>,
        config: DeviceConfig,
        taken: Vec<DeviceId>,
    ) -> Result<DeviceId, AgentError> {
        let agent = Arc::clone(self);
        let opening = move || {
            let mut data_dir = lock(&agent.data_dir);
            let start = open_device(&config, &mut data_dir, &taken)?;
            data_dir.save_devices()?;
            drop(data_dir);
            let start = replay(&agent.fat, start, &agent.metrics);
            let id = start.id;
            Ok::<(DeviceId, ToStart), AgentError>((id, start))
        };
        let (id, start) = self.workers.blocking(opening).await??;
        self.devices.put(start)?;
        Ok(id)
    }
}
