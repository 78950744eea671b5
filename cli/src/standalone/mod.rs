//! `ullage standalone`: a whole store in one process, each part the same code as in a cluster, connected by
//! calls instead of connections.

mod in_process;
mod layout;
mod services;
mod vendor_metrics;

use crate::BadConfiguration;
use crate::admin::Credentials;
use anyhow::Context;
use layout::Layout;
use services::Services;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// Vendors of one standalone store at most.
const VENDORS_MAX: u32 = 64;
/// Devices of one of its vendors at most.
const DEVICES_MAX: u32 = 16;
/// A device below this could not hold one segment beside those it keeps in hand.
const DEVICE_BYTES_MIN: u64 = 4 * ullage_model::limits::SEGMENT_BYTES;

/// Options of `ullage standalone`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Directory for everything; made on first start.
    #[arg(long, env = "ULLAGE_DATA")]
    pub data: PathBuf,
    /// Vendors (simulated servers, each with a directory of its own).
    #[arg(long, default_value_t = 3, env = "ULLAGE_VENDORS")]
    pub vendors: u32,
    /// Devices of each vendor (directories).
    #[arg(long, default_value_t = 2, env = "ULLAGE_DEVICES_PER_VENDOR")]
    pub devices_per_vendor: u32,
    /// Copies of each chunk that the class STANDARD asks for, each at a vendor of its own. Settles a new
    /// store's class; `ullage admin class set` changes it later.
    #[arg(long, default_value_t = 2, env = "ULLAGE_COPIES")]
    pub copies: u32,
    /// Bytes that each device may take. On first start, an equal share of what the file system has free if
    /// not given; later, what it was.
    #[arg(long, env = "ULLAGE_DEVICE_CAPACITY")]
    pub device_capacity: Option<u64>,
    /// Address of the S3 endpoint.
    #[arg(long, default_value = "127.0.0.1:9000", env = "ULLAGE_LISTEN")]
    pub listen: SocketAddr,
    /// Address of the admin API, health and metrics.
    #[arg(long, default_value = "127.0.0.1:9001", env = "ULLAGE_ADMIN_LISTEN")]
    pub admin_listen: SocketAddr,
    /// Listen with plain HTTP on addresses that other machines reach.
    #[arg(long, env = "ULLAGE_INSECURE")]
    pub insecure: bool,
    /// Region that clients sign for.
    #[arg(long, default_value = "us-east-1", env = "ULLAGE_REGION")]
    pub region: String,
    /// Domain for virtual-host style: BUCKET.DOMAIN.
    #[arg(long, env = "ULLAGE_DOMAIN")]
    pub domain: Option<String>,
    /// Longest object kept in the FAT itself, in bytes; 0 = none. May only lower the store's setting.
    #[arg(long, env = "ULLAGE_INLINE_BYTES")]
    pub inline_bytes: Option<u64>,
    /// Memory for bodies being uploaded, in bytes; beyond it uploads are told to slow down.
    #[arg(long, env = "ULLAGE_UPLOAD_MEMORY")]
    pub upload_memory: Option<u64>,
}

/// Runs `ullage standalone`.
pub fn run(options: Options) -> anyhow::Result<()> {
    check(&options)?;
    let layout = Layout::open(&options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(serve(&options, layout))
}

async fn serve(options: &Options, layout: Layout) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut services = Services::start(options, &layout).await?;
    greet(options, &layout, &services);
    let ended = tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        ended = services.ended() => ended,
    };
    services.shutdown().await;
    ended
}

fn check(options: &Options) -> anyhow::Result<()> {
    let bad = |text: String| Err(BadConfiguration(text).into());
    let Options {
        vendors,
        devices_per_vendor: devices,
        copies,
        ..
    } = *options;
    if !(1..=VENDORS_MAX).contains(&vendors) {
        return bad(format!("--vendors {vendors}: give 1 to {VENDORS_MAX}"));
    }
    if !(1..=DEVICES_MAX).contains(&devices) {
        return bad(format!("--devices-per-vendor {devices}: give 1 to {DEVICES_MAX}"));
    }
    if !(1..=vendors.min(ullage_model::limits::COPIES_MAX)).contains(&copies) {
        return bad(format!(
            "--copies {copies}: each copy of a chunk needs a vendor of its own, and --vendors is {vendors}"
        ));
    }
    if let Some(capacity) = options
        .device_capacity
        .filter(|capacity| *capacity < DEVICE_BYTES_MIN)
    {
        return bad(format!(
            "--device-capacity {capacity}: a device needs {DEVICE_BYTES_MIN} bytes at least"
        ));
    }
    for (flag, address) in [
        ("--listen", options.listen),
        ("--admin-listen", options.admin_listen),
    ] {
        if !address.ip().is_loopback() && !options.insecure {
            return bad(format!(
                "{flag} {address}: this is plain HTTP, and other machines reach that address; put a TLS proxy \
                 in front of a loopback address, or give --insecure"
            ));
        }
    }
    Ok(())
}

fn greet(options: &Options, layout: &Layout, services: &Services) {
    let Credentials {
        access_key,
        secret_key,
    } = &layout.credentials;
    let data = options.data.display();
    let (s3, admin) = (services.s3_address(), services.admin_address());
    if layout.is_new {
        println!(
            "A new store was made in {data}.\n\
             Its key-encryption key is {data}/kek: without that file everything stored here is lost.\n\
             Keep a copy of it in a safe place.\n"
        );
    }
    println!(
        "S3 endpoint   http://{s3}   (region {})\n\
         admin         http://{admin}   (/metrics, /health/ready)\n\
         access key    {access_key}\n\
         secret key    {secret_key}\n\n\
         Try:\n  \
         export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret_key} AWS_REGION={}\n  \
         aws --endpoint-url http://{s3} s3 mb s3://cellar\n  \
         aws --endpoint-url http://{s3} s3 cp --recursive . s3://cellar/\n  \
         ullage admin --endpoint http://{admin} --data {data} status",
        options.region, options.region,
    );
}

#[cfg(test)]
mod tests {
    use super::{BadConfiguration, Options, check};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(flags: &[&str]) -> Options {
        Line::parse_from(["ullage", "--data", "d"].iter().chain(flags)).options
    }

    #[test]
    fn what_cannot_be_is_refused_by_the_name_of_its_flag() {
        assert!(check(&options(&[])).is_ok());
        let bad = [
            (&["--vendors", "0"][..], "--vendors"),
            (&["--devices-per-vendor", "99"], "--devices-per-vendor"),
            (&["--copies", "4"], "--copies"),
            (&["--device-capacity", "1000"], "--device-capacity"),
            (&["--listen", "0.0.0.0:9000"], "--listen"),
            (&["--admin-listen", "10.0.0.1:9001"], "--admin-listen"),
        ];
        for (flags, named) in bad {
            let refused = check(&options(flags)).expect_err("a bad setting was taken");
            assert!(refused.is::<BadConfiguration>());
            assert!(refused.to_string().starts_with(named), "{refused}");
        }
        assert!(check(&options(&["--listen", "0.0.0.0:9000", "--insecure"])).is_ok());
    }
}
