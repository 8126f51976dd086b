//! A network of its own for every node: namespaces on one bridge, and cuts.
//!
//! A cut drops what arrives at one side from the other, in silence, as a broken
//! network does; each direction by itself. Only addresses of these namespaces
//! are used, and everything is removed at the end, by name.
//!
//! Needs root, iproute2 and nftables.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names are never used twice: the kernel takes its time with a removal.
static LAID: AtomicU32 = AtomicU32::new(0);

pub struct Net {
    /// Of this process, and of this network among those it has laid.
    mark: String,
    bridge: String,
    /// The bridge's own address.
    outside: String,
    /// Namespace and address of each node.
    nodes: BTreeMap<String, (String, String)>,
}

impl Net {
    pub fn lay(names: &[&str]) -> Net {
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root: run it as root");
        let (own, nth) = (std::process::id(), LAID.fetch_add(1, Ordering::SeqCst));
        let mark = format!("{own}{}", char::from(b'a' + (nth % 26) as u8));
        let bridge = format!("mtr{mark}");
        let subnet = format!("10.77.{}", (own + nth) % 250);
        run(&["ip", "link", "add", &bridge, "type", "bridge"]);
        let outside = format!("{subnet}.254");
        let mut net = Net { mark, bridge, outside, nodes: BTreeMap::new() };
        run(&["ip", "address", "add", &format!("{}/24", net.outside), "dev", &net.bridge]);
        run(&["ip", "link", "set", &net.bridge, "up"]);
        for (index, name) in names.iter().enumerate() {
            net.add(name, index + 1, &format!("{subnet}.{}", index + 1));
        }
        net
    }

    fn add(&mut self, name: &str, index: usize, address: &str) {
        let mark = &self.mark;
        let (space, outside) = (format!("mtr{mark}-{index}"), format!("mv{mark}-{index}"));
        run(&["ip", "netns", "add", &space]);
        self.nodes.insert(name.to_string(), (space.clone(), address.to_string()));
        let veth = ["ip", "link", "add", &outside, "type", "veth", "peer", "name", "eth0"];
        run(&[&veth[..], &["netns", &space]].concat());
        run(&["ip", "link", "set", &outside, "master", &self.bridge, "up"]);
        let inside = |args: &[&str]| run(&[&["ip", "-n", space.as_str()], args].concat());
        inside(&["address", "add", &format!("{address}/24"), "dev", "eth0"]);
        inside(&["link", "set", "eth0", "up"]);
        inside(&["link", "set", "lo", "up"]);
        let table =
            "add table inet cuts; add chain inet cuts in { type filter hook input priority 0; }";
        self.rule(name, table);
    }

    pub fn space(&self, name: &str) -> String {
        self.nodes[name].0.clone()
    }

    pub fn address(&self, name: &str) -> String {
        self.nodes[name].1.clone()
    }

    /// Where the nodes reach this machine itself.
    pub fn outside(&self) -> &str {
        &self.outside
    }

    /// Nothing that `from` sends arrives at `to` any more.
    pub fn cut(&self, from: &str, to: &str) {
        let address = &self.nodes[from].1;
        self.rule(to, &format!("add rule inet cuts in ip saddr {address} drop"));
    }

    pub fn cut_both(&self, one: &str, other: &str) {
        self.cut(one, other);
        self.cut(other, one);
    }

    pub fn heal(&self) {
        self.nodes.keys().for_each(|name| self.rule(name, "flush chain inet cuts in"));
    }

    fn rule(&self, name: &str, rule: &str) {
        run(&["ip", "netns", "exec", &self.nodes[name].0, "nft", rule]);
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let spaces = self.nodes.values().map(|(space, _)| try_run(&["ip", "netns", "del", space]));
        let bridge = try_run(&["ip", "link", "del", &self.bridge]);
        for why in spaces.chain([bridge]).filter_map(Result::err) {
            eprintln!("a part of the test's network is left: {why}");
        }
    }
}

fn run(words: &[&str]) {
    let said = try_run(words);
    assert!(said.is_ok(), "{}: {}", words.join(" "), said.unwrap_err());
}

fn try_run(words: &[&str]) -> Result<(), String> {
    // Debian keeps both programs where an ordinary PATH may not look.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let ended = Command::new("env").arg(format!("PATH={path}")).args(words).output();
    let output = ended.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    if output.status.success() { Ok(()) } else { Err(said) }
}
