//! A network of the test's own: each member in a network namespace, on a bridge in one more. Packets
//! can be lost and members moved to a second bridge, as if a cable had been pulled.

use std::{
    io::Write,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A namespace; it is gone when the process that holds it ends, which it does with the test.
struct Space(Child);

impl Space {
    fn new() -> Result<Self, String> {
        let mut holder = Command::new("unshare");
        holder.args(["-n", "cat"]).stdin(Stdio::piped());
        holder.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = holder.spawn().map_err(|error| format!("unshare: {error}"))?;
        let network = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net"));
        let own = network("self").map_err(|error| error.to_string())?;
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let is_over = child.try_wait().is_ok_and(|ended| ended.is_some());
            if is_over || Instant::now() > deadline {
                return Err("unshare -n is not permitted".to_owned());
            }
            if network(&child.id().to_string()).is_ok_and(|theirs| theirs != own) {
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(Self(child))
    }

    fn run(&self, words: &str, stdin: &str) -> Result<(), String> {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-n"]).args(words.split_whitespace());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("nsenter: {error}"))?;
        let _ = child.stdin.take().map(|mut input| input.write_all(stdin.as_bytes()));
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let why = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("{words}: {}", why.trim())) }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// See the file's first line.
pub struct Net {
    hub: Space,
    hosts: Vec<Space>,
    scheme: &'static str,
}

impl Net {
    /// A network of so many hosts, or why there can be none here.
    fn new(hosts: usize, scheme: &'static str) -> Result<Self, String> {
        let hub = Space::new()?;
        for bridge in ["whole", "apart"] {
            hub.run(&format!("ip link add {bridge} type bridge"), "")?;
            hub.run(&format!("ip link set {bridge} up"), "")?;
        }
        let mut net = Self { hub, hosts: Vec::new(), scheme };
        for rank in 0..hosts {
            let host = Space::new()?;
            let pid = host.0.id();
            net.hub
                .run(&format!("ip link add v{rank} type veth peer name eth0 netns {pid}"), "")?;
            net.hub.run(&format!("ip link set v{rank} master whole up"), "")?;
            host.run(&format!("ip addr add {}/24 dev eth0", Self::ip(rank)), "")?;
            host.run("ip link set eth0 up", "")?;
            host.run("ip link set lo up", "")?;
            net.hosts.push(host);
        }
        net.lose(0, 0)?; // whether that can be done is to be known before
        Ok(net)
    }

    /// A network, or none and the reason printed.
    pub fn of(hosts: usize, scheme: &'static str, test: &str) -> Option<Self> {
        Self::new(hosts, scheme).map_err(|why| println!("NOT RUN: {test}: {why}")).ok()
    }

    /// Where a host's member listens.
    pub fn address(&self, rank: usize) -> String {
        format!("{}://{}:7700", self.scheme, Self::ip(rank))
    }

    fn ip(rank: usize) -> String {
        format!("10.9.0.{}", rank + 1)
    }

    /// The process whose network is the host's.
    pub fn pid(&self, rank: usize) -> u32 {
        self.hosts[rank].0.id()
    }

    /// From now on a host loses so many percent of the packets that come to it.
    pub fn lose(&self, rank: usize, percent: u32) -> Result<(), String> {
        let table = "table inet loss";
        let rules = format!(
            "add {table}\ndelete {table}\nadd {table}\n\
             add chain inet loss in {{ type filter hook input priority 0; }}\n\
             add rule inet loss in iifname eth0 numgen random mod 100 < {percent} drop\n"
        );
        let off = format!("add {table}\ndelete {table}\n");
        self.hosts[rank].run("nft -f -", if percent == 0 { &off } else { &rules })
    }

    /// Pulls the cable between these and the others.
    pub fn cut(&self, ranks: &[usize]) {
        self.plug(ranks, "apart");
    }

    pub fn heal(&self, ranks: &[usize]) {
        self.plug(ranks, "whole");
    }

    fn plug(&self, ranks: &[usize], bridge: &str) {
        for rank in ranks {
            self.hub.run(&format!("ip link set v{rank} master {bridge}"), "").unwrap();
        }
    }
}
