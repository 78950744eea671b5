//! `ullage standalone`: a whole store in one process, each part the same code as in a cluster, connected by
//! calls instead of connections.

mod in_process;
mod layout;
mod services;
mod settings;
mod vendor_metrics;

use crate::admin::Credentials;
use anyhow::Context;
use layout::Layout;
use services::Services;
pub use settings::Options;
use settings::Settings;
use tokio::signal::unix::{SignalKind, signal};

/// Runs `ullage standalone`.
pub fn run(options: Options) -> anyhow::Result<()> {
    let settings = Settings::resolve(options)?;
    let layout = Layout::open(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(serve(&settings, layout))
}

async fn serve(settings: &Settings, layout: Layout) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut services = Services::start(settings, &layout).await?;
    greet(settings, &layout, &services);
    let ended = tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        ended = services.ended() => ended,
    };
    services.shutdown().await;
    ended
}

fn greet(settings: &Settings, layout: &Layout, services: &Services) {
    let Credentials {
        access_key,
        secret_key,
    } = &layout.credentials;
    let data = settings.data.display();
    let (s3, admin) = (services.s3_address(), services.admin_address());
    let program = std::env::args().next().unwrap_or_else(|| "ullage".to_owned());
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
         export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret_key} AWS_DEFAULT_REGION={}\n  \
         aws --endpoint-url http://{s3} s3 mb s3://cellar\n  \
         echo hello | aws --endpoint-url http://{s3} s3 cp - s3://cellar/hello\n  \
         aws --endpoint-url http://{s3} s3 ls s3://cellar\n  \
         {program} admin --endpoint http://{admin} --data {data} status",
        settings.region, settings.region,
    );
}
