//! Settings checked, devices opened and brought into the local FAT: at the start, and when a device comes while
//! the agent runs.

use crate::config::{Config, DeviceConfig};
use crate::device::data_dir::{self, DataDir, DeviceMarker};
use crate::device::directory::{DirectoryDevice, DirectoryOptions, whole_file_system};
use crate::device::{Device, DeviceError};
use crate::devices::ToStart;
use crate::error::AgentError;
use crate::local_fat::LocalFat;
use crate::metrics::Metrics;
use std::sync::Arc;
use ullage_model::ids::DeviceId;
use ullage_model::limits::{DEVICES_PER_VENDOR, SEGMENT_BYTES};

pub(crate) fn check_config(config: &Config, has_devices: bool) -> Result<(), AgentError> {
    if config.name.is_empty() {
        return Err(AgentError::Config {
            key: "name",
            reason: "must not be empty".to_owned(),
        });
    }
    if has_devices {
        return Ok(());
    }
    check_devices(&config.device)
}

pub(crate) fn check_devices(devices: &[DeviceConfig]) -> Result<(), AgentError> {
    let bad = |key, reason: String| Err(AgentError::Config { key, reason });
    if devices.is_empty() {
        return bad("device", "at least one device is needed".to_owned());
    }
    if devices.len() > DEVICES_PER_VENDOR {
        return bad("device", format!("at most {DEVICES_PER_VENDOR} devices"));
    }
    for (index, device) in devices.iter().enumerate() {
        if devices[..index].iter().any(|other| other.path == device.path) {
            return bad("device.path", format!("{} is named twice", device.path.display()));
        }
        if device.capacity != 0 && device.capacity < 3 * SEGMENT_BYTES {
            return bad(
                "device.capacity",
                format!(
                    "{} is less than the least, {} bytes",
                    device.capacity,
                    3 * SEGMENT_BYTES
                ),
            );
        }
    }
    Ok(())
}

/// Opens the devices of the settings. One that is known and cannot be opened is started without: it counts as
/// gone.
pub(crate) fn open_devices(
    configs: &[DeviceConfig],
    data_dir: &mut DataDir,
) -> Result<Vec<ToStart>, AgentError> {
    let mut devices: Vec<ToStart> = Vec::new();
    for config in configs {
        let taken: Vec<DeviceId> = devices.iter().map(|start| start.id).collect();
        devices.push(open_device(config, data_dir, &taken)?);
    }
    data_dir.save_devices()?;
    Ok(devices)
}

/// Opens one device, which must be none of `taken`.
pub(crate) fn open_device(
    config: &DeviceConfig,
    data_dir: &mut DataDir,
    taken: &[DeviceId],
) -> Result<ToStart, AgentError> {
    let (id, is_new) = data_dir.device_id(&config.path)?;
    if taken.contains(&id) {
        return Err(AgentError::Foreign {
            path: config.path.clone(),
            reason: format!("it is {id}, and so is another path of the configuration"),
        });
    }
    let mut start = ToStart {
        id,
        class: config.class.clone(),
        device: None,
    };
    match open_directory(config, marker(id, data_dir), is_new) {
        Ok(opened) => start.device = Some(Arc::new(opened) as Arc<dyn Device>),
        Err(error @ (AgentError::Foreign { .. } | AgentError::Device(DeviceError::Unusable { .. }))) => {
            return Err(error);
        }
        Err(error) if is_new => return Err(error),
        Err(error) => {
            tracing::error!(device = %id, path = %config.path.display(), %error, "device cannot be opened");
        }
    }
    Ok(start)
}

fn open_directory(
    config: &DeviceConfig,
    marker: DeviceMarker,
    is_new: bool,
) -> Result<DirectoryDevice, AgentError> {
    let capacity = match config.capacity {
        0 => whole_file_system(&config.path)?,
        capacity => capacity,
    };
    DirectoryDevice::open(DirectoryOptions::new(
        config.path.clone(),
        marker,
        is_new,
        capacity,
    ))
}

/// What the marker of this vendor's device `id` says.
pub(crate) fn marker(id: DeviceId, data_dir: &DataDir) -> DeviceMarker {
    DeviceMarker {
        format: data_dir::FORMAT,
        device: id,
        vendor_key: data_dir::hex_of(data_dir.key().verifying_key().as_bytes()),
    }
}

/// Brings the index up to date; a device that cannot be read is left out, as gone.
pub(crate) fn replay(fat: &LocalFat, mut start: ToStart, metrics: &Metrics) -> ToStart {
    let Some(device) = &start.device else { return start };
    match fat.replay(device.as_ref()) {
        Ok(summary) => {
            tracing::info!(device = %start.id, records = summary.records, "replayed");
            if summary.damaged_bytes > 0 {
                metrics.replay_damaged_bytes.inc_by(summary.damaged_bytes);
                tracing::error!(device = %start.id, bytes = summary.damaged_bytes, "bytes between records are damaged");
            }
        }
        Err(error) => {
            tracing::error!(device = %start.id, %error, "device cannot be replayed");
            start.device = None;
        }
    }
    start
}
