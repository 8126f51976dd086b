//! Clusters that follow each other: `standby_cluster`, `standby_clusters`.

use super::{BadDynamic, bad, is_nothing, plain};
use crate::id::slot_name;
use crate::member::join_host;
use serde_json::Value;

const DEFAULT_PORT: u16 = 5432;

/// The upstream of a standby cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct StandbyCluster {
    /// One host, or several with commas; each may bring its own port (`a:1,b:2`).
    /// `None`: there is only an archive.
    pub host: Option<String>,
    /// Of the hosts that bring none.
    pub port: u16,
    pub primary_slot_name: Option<String>,
}

/// A cluster that follows this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedCluster {
    pub name: String,
    /// The physical slot that its standby leader uses; by default named after it.
    pub slot: String,
}

impl LinkedCluster {
    pub(super) fn read(value: &Value) -> Option<LinkedCluster> {
        let text = |key: &str| value.get(key).filter(|v| !is_nothing(v)).map(plain);
        let name = text("name")?;
        let slot = text("slot").unwrap_or_else(|| slot_name(&name));
        // PostgreSQL takes no other name.
        (slot_name(&slot) == slot).then_some(LinkedCluster { name, slot })
    }
}

/// A section without a host, a port and an archive means none.
pub(super) fn read(raw: &Value) -> Result<Option<StandbyCluster>, BadDynamic> {
    let Some(section) = raw.get("standby_cluster").filter(|v| !is_nothing(v)) else {
        return Ok(None);
    };
    if !section.is_object() {
        return Err(bad("standby_cluster", section, "a map with host and port"));
    }
    let text = |key: &str| section.get(key).filter(|v| !is_nothing(v)).map(plain);
    let (hosts, ports) = (text("host"), text("port"));
    if hosts.is_none() && ports.is_none() && text("restore_command").is_none() {
        return Ok(None);
    }
    let wrong = |wanted| {
        let found = section.get("port").unwrap_or(&Value::Null);
        bad("standby_cluster.port", found, wanted)
    };
    let ports =
        read_ports(ports.as_deref()).ok_or_else(|| wrong("a port, or one for each host"))?;
    // A port alone means this machine.
    let hosts = hosts.or_else(|| (!ports.is_empty()).then(|| "localhost".to_string()));
    let (host, port) = match hosts {
        Some(hosts) => with_ports(&hosts, &ports).ok_or_else(|| wrong("one for each host"))?,
        None => (None, ports.first().copied().unwrap_or(DEFAULT_PORT)),
    };
    Ok(Some(StandbyCluster { host, port, primary_slot_name: text("primary_slot_name") }))
}

fn read_ports(text: Option<&str>) -> Option<Vec<u16>> {
    let pieces = text.into_iter().flat_map(|text| text.split(',')).map(str::trim);
    pieces.map(|port| port.parse().ok().filter(|port| *port > 0)).collect()
}

/// Hosts that share a port stand alone; else each brings its own, and the port is that
/// of the first one: as the settings of a running standby are read.
fn with_ports(hosts: &str, ports: &[u16]) -> Option<(Option<String>, u16)> {
    let hosts: Vec<&str> = hosts.split(',').map(str::trim).filter(|h| !h.is_empty()).collect();
    let differ = ports.iter().any(|port| Some(port) != ports.first());
    if differ && hosts.len() != ports.len() {
        return None;
    }
    let general = |index: usize| ports.get(index).or(ports.first()).copied();
    let server = |(index, host): (usize, &&str)| {
        let (host, own) = own_port(host);
        (host.to_string(), own.or_else(|| general(index)).unwrap_or(DEFAULT_PORT))
    };
    let servers: Vec<(String, u16)> = hosts.iter().enumerate().map(server).collect();
    let first = servers.first()?.1;
    let shared = servers.iter().all(|(_, port)| *port == first);
    let shown = |(host, port): &(String, u16)| match shared {
        true => host.clone(),
        false => join_host(host, *port),
    };
    let shown: Vec<String> = servers.iter().map(shown).collect();
    Some((Some(shown.join(",")), first))
}

/// `a:1`, `[::1]:1`; a bare IPv6 address brings no port.
fn own_port(host: &str) -> (&str, Option<u16>) {
    let is_whole = |name: &str| !name.contains(':') || name.starts_with('[') && name.ends_with(']');
    let own = host.rsplit_once(':').filter(|(name, _)| is_whole(name));
    let own = own.and_then(|(name, port)| Some((name, port.parse().ok()?)));
    let (name, port) = own.map_or((host, None), |(name, port)| (name, Some(port)));
    (name.trim_matches(['[', ']']), port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dynamic;
    use serde_json::json;

    #[test]
    fn the_upstream_of_a_standby_cluster_may_be_several_hosts_or_an_archive() {
        let read = |section: Value| {
            let dynamic = Dynamic::read(&json!({"standby_cluster": section})).unwrap();
            dynamic.standby_cluster.map(|s| (s.host.unwrap_or_default(), s.port))
        };
        let cases = [
            (json!({"host": "a", "port": "5433"}), Some(("a", 5433))),
            (json!({"host": "a, b"}), Some(("a,b", 5432))),
            (json!({"host": "a,b", "port": "1,1"}), Some(("a,b", 1))),
            (json!({"host": "a,::1", "port": "1,2"}), Some(("a:1,[::1]:2", 1))),
            (json!({"host": "a:1,b:1"}), Some(("a,b", 1))),
            (json!({"host": "a:1, b:2"}), Some(("a:1,b:2", 1))),
            (json!({"host": "a:1,b", "port": 2}), Some(("a:1,b:2", 1))),
            (json!({"host": "a:1"}), Some(("a", 1))),
            (json!({"host": "[::1]:7,::2", "port": 7}), Some(("::1,::2", 7))),
            (json!({"port": 6000}), Some(("localhost", 6000))),
            (json!({"restore_command": "cp"}), Some(("", 5432))),
            (json!({"host": "", "port": null, "restore_command": ""}), None),
            (json!({"primary_slot_name": "x"}), None),
            (json!({}), None),
        ];
        for (section, wanted) in cases {
            let wanted = wanted.map(|(host, port)| (host.to_string(), port));
            assert_eq!(read(section.clone()), wanted, "{section}");
        }
        for port in [json!("x"), json!("1,2,3"), json!(70_000)] {
            let section = json!({"standby_cluster": {"host": "a,b", "port": port}});
            let bad = Dynamic::read(&section).unwrap_err();
            assert_eq!(bad.key, "standby_cluster.port", "{section}");
        }
    }

    #[test]
    fn clusters_that_follow_have_a_name_and_a_slot() {
        let read = |value: Value| Dynamic::read(&json!({"standby_clusters": value})).unwrap();
        let link = |name: &str, slot: &str| LinkedCluster { name: name.into(), slot: slot.into() };
        let two = read(json!([{"name": "shop-dr"}, {"name": "far", "slot": "far_away"}]));
        assert_eq!(two.standby_clusters, [link("shop-dr", "shop_dr"), link("far", "far_away")]);
        assert!(two.ignored.is_empty());
        for nothing in [json!(null), json!([])] {
            assert!(read(nothing).standby_clusters.is_empty());
        }
        for bad in [json!({}), json!("dr"), json!(["dr"]), json!([{"slot": "dr"}])] {
            assert!(read(bad.clone()).standby_clusters.is_empty(), "{bad}");
        }
        let half = read(json!([{"name": "a"}, {"name": "b", "slot": "Not-One"}]));
        assert_eq!(half.standby_clusters, [link("a", "a")]);
        assert_eq!(half.ignored[0].key, "standby_clusters");
    }
}
