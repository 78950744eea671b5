//! The network that tests of partitions stand on does what it says: hosts reach each other, routers count,
//! what is cut is cut one way or both, and heals.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use ullage_integration::clients::skip;
use ullage_integration::cluster::{Direction, Host, Network, Placement};

/// Time to live of Linux's datagrams when they leave.
const TTL: u32 = 64;

fn datagrams(host: &Host, what: &str, address: &Host) -> anyhow::Result<Command> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/datagrams.py");
    let wrapper = host.wrapper();
    let (program, arguments) = wrapper.split_first().context("a namespace")?;
    let mut command = Command::new(program);
    command.args(arguments).arg("python3").arg(script);
    command.args([what, &address.ip.to_string()]);
    Ok(command)
}

/// A host that answers; ends with its drop.
struct Server(Child);

impl Server {
    fn on(host: &Host) -> anyhow::Result<Self> {
        let mut child = datagrams(host, "serve", host)?.stdout(Stdio::piped()).spawn()?;
        let printed = child.stdout.take().context("standard output")?;
        let server = Self(child);
        let mut line = String::new();
        BufReader::new(printed).read_line(&mut line)?;
        assert_eq!(line.trim_end(), "serving");
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(from: &Host, to: &Host) -> anyhow::Result<String> {
    let output = datagrams(from, "ask", to)?.output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[test]
fn hosts_reach_each_other_unless_cut_and_routers_count() -> anyhow::Result<()> {
    let name = "hosts_reach_each_other_unless_cut_and_routers_count";
    if let Some(reason) = Placement::Namespaces.unavailable() {
        skip(name, &reason);
        return Ok(());
    }
    let mut network = Network::new(Placement::Namespaces)?;
    let (near, also_near, far) = (network.add(0)?, network.add(0)?, network.add(3)?);
    let _servers = [Server::on(&near)?, Server::on(&also_near)?, Server::on(&far)?];
    let hops = |routers: u32| (TTL - routers).to_string();

    assert_eq!(ask(&near, &also_near)?, hops(0));
    assert_eq!(ask(&near, &far)?, hops(3));
    assert_eq!(ask(&far, &near)?, hops(3));

    near.cut(&far, Direction::Out)?;
    assert_eq!(ask(&near, &far)?, "nothing");
    assert_eq!(ask(&near, &also_near)?, hops(0), "only what was named is cut");
    near.heal()?;
    assert_eq!(ask(&near, &far)?, hops(3));

    near.cut(&also_near, Direction::In)?;
    assert_eq!(ask(&also_near, &near)?, "nothing");
    near.heal()?;
    assert_eq!(ask(&also_near, &near)?, hops(0));
    Ok(())
}
