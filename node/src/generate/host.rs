//! What this machine tells about itself.
//!
//! Whatever it does not tell is `None`; nothing here fails.

use crate::config::{Environment, find_program, version_of};
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};

/// Where packages put PostgreSQL's programs, by version.
const PACKAGES: [&str; 2] = ["/usr/lib/postgresql", "/usr/pgsql-"];

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Host {
    pub name: Option<String>,
    /// An address that others can reach.
    pub address: Option<String>,
    pub bin_dir: Option<PathBuf>,
    /// Version of the programs there.
    pub major: Option<u32>,
}

pub(super) fn look(env: &Environment) -> Host {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let address = name.as_deref().and_then(address_of).or_else(address_of_route);
    let given = env.get("PATRONI_POSTGRESQL_BIN_DIR").filter(|dir| !dir.is_empty());
    let bin_dir = given.map(PathBuf::from).or_else(find_programs);
    let major = bin_dir.as_ref().and_then(|dir| version_of(&dir.join("postgres")));
    Host { name, address: address.map(|address| address.to_string()), bin_dir, major }
}

fn is_reachable(address: &IpAddr) -> bool {
    !address.is_loopback() && !address.is_unspecified()
}

/// What the name of this machine means to itself; IPv4 before IPv6.
fn address_of(name: &str) -> Option<IpAddr> {
    let mut all: Vec<IpAddr> = (name, 0).to_socket_addrs().ok()?.map(|found| found.ip()).collect();
    all.retain(is_reachable);
    all.sort_by_key(IpAddr::is_ipv6);
    all.first().copied()
}

/// The address that packets to anywhere would leave from; none is sent.
fn address_of_route() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(is_reachable)
}

/// On PATH, else the newest version that a package installed.
fn find_programs() -> Option<PathBuf> {
    // A link leads to where its version's other programs are.
    let on_path = find_program(Path::new("postgres"));
    let on_path = on_path.map(|program| program.canonicalize().unwrap_or(program));
    let on_path = on_path.and_then(|program| program.parent().map(Path::to_path_buf));
    on_path.or_else(|| {
        let [debian, redhat] = PACKAGES;
        let dirs = std::fs::read_dir(debian).into_iter().flatten().flatten();
        let debian =
            dirs.map(|entry| (entry.file_name().to_string_lossy().parse().ok(), entry.path()));
        let redhat = (9..40).map(|major| (Some(major), PathBuf::from(format!("{redhat}{major}"))));
        let found = debian.chain(redhat).filter_map(|(major, dir)| {
            let bin = dir.join("bin");
            bin.join("postgres").is_file().then_some((major.unwrap_or(0_u32), bin))
        });
        found.max().map(|(_, bin)| bin)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_directory_is_taken_as_it_is_and_addresses_reach_others() {
        let env = [("PATRONI_POSTGRESQL_BIN_DIR".to_string(), "/nowhere".to_string())].into();
        let host = look(&env);
        assert_eq!(host.bin_dir, Some(PathBuf::from("/nowhere")));
        assert_eq!(host.major, None);
        let address = host.address.and_then(|address| address.parse::<IpAddr>().ok());
        assert!(address.is_none_or(|address| is_reachable(&address)));
        assert_eq!(address_of("127.0.0.1"), None);
    }
}
