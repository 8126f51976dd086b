//! The plan of a field: which regions, groups and members, on which ports, and
//! the configuration file of each member.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub struct MemberPlan {
    pub name: String,
    pub region: String,
    pub group: Option<u32>,
    pub host: String,
    pub pg_port: u16,
    pub api_port: u16,
    pub tags: Value,
}

#[derive(Clone, Debug)]
pub struct RegionPlan {
    pub name: String,
    pub priority: i64,
    pub store_host: String,
    pub store_port: u16,
    pub store_peer_port: u16,
    pub members: Vec<MemberPlan>,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub scope: String,
    pub regions: Vec<RegionPlan>,
    /// `bootstrap.dcs`, and thereby `/config` of every group.
    pub dcs: Value,
    /// Local `postgresql.parameters`.
    pub parameters: Value,
    pub pg_bin: PathBuf,
    /// The Citus stand-in instead of the extension.
    pub stand_in: bool,
    /// More variables of every daemon.
    pub environment: BTreeMap<String, String>,
    /// More options of every etcd; files lie in the field's directory.
    pub store_options: Vec<String>,
    /// How clients reach every etcd: `http` or `https`.
    pub store_scheme: &'static str,
    /// Anything laid over the configuration of single members, by name.
    pub overlays: BTreeMap<String, Value>,
    /// Network namespaces to run in, by the name of a member or store.
    pub namespaces: BTreeMap<String, String>,
}

const HERE: &str = "127.0.0.1";

impl Plan {
    /// Regions by name; `groups` numbers for Citus, or one plain group.
    pub fn new(
        regions: &[&str],
        groups: &[Option<u32>],
        members_per_group: usize,
        pg_bin: PathBuf,
    ) -> std::io::Result<Plan> {
        let per_region = 2 + 2 * groups.len() * members_per_group;
        let mut ports = super::free_ports(per_region * regions.len())?.into_iter();
        let mut port = || ports.next().expect("as many ports as were asked for");
        let mut planned = Vec::new();
        for (index, region) in regions.iter().enumerate() {
            let (store_port, store_peer_port) = (port(), port());
            let mut members = Vec::new();
            for group in groups {
                for number in 1..=members_per_group {
                    members.push(MemberPlan {
                        name: member_name(region, *group, number, regions.len()),
                        region: region.to_string(),
                        group: *group,
                        host: HERE.into(),
                        pg_port: port(),
                        api_port: port(),
                        tags: json!({}),
                    });
                }
            }
            let priority = 100 - index as i64;
            let name = region.to_string();
            let store_host = HERE.into();
            planned.push(RegionPlan {
                name,
                priority,
                store_host,
                store_port,
                store_peer_port,
                members,
            });
        }
        Ok(Plan {
            scope: "shop".into(),
            regions: planned,
            dcs: json!({"ttl": 20, "loop_wait": 5, "retry_timeout": 5}),
            parameters: json!({}),
            pg_bin,
            stand_in: false,
            environment: BTreeMap::new(),
            store_options: Vec::new(),
            store_scheme: "http",
            overlays: BTreeMap::new(),
            namespaces: BTreeMap::new(),
        })
    }

    pub fn members(&self) -> impl Iterator<Item = &MemberPlan> {
        self.regions.iter().flat_map(|r| &r.members)
    }

    pub fn member(&self, name: &str) -> Option<&MemberPlan> {
        self.members().find(|m| m.name == name)
    }

    pub fn region(&self, name: &str) -> Option<&RegionPlan> {
        self.regions.iter().find(|r| r.name == name)
    }

    pub fn group_members(&self, group: Option<u32>) -> Vec<&MemberPlan> {
        self.members().filter(|m| m.group == group).collect()
    }

    /// Members of one group in one region.
    pub fn site(&self, region: &str, group: Option<u32>) -> Vec<&MemberPlan> {
        self.members().filter(|m| m.region == region && m.group == group).collect()
    }

    /// A connection string over all members of a group, in all regions.
    pub fn dsn(&self, group: Option<u32>) -> String {
        let members = self.group_members(group);
        let hosts: Vec<_> = members.iter().map(|m| m.host.as_str()).collect();
        let hosts = hosts.join(",");
        let ports: Vec<_> = members.iter().map(|m| m.pg_port.to_string()).collect();
        format!(
            "host={hosts} port={} user=postgres password=super-secret dbname={} \
             target_session_attrs=read-write connect_timeout=2",
            ports.join(","),
            self.database(group)
        )
    }

    pub fn database(&self, group: Option<u32>) -> &'static str {
        if group.is_some() { "app" } else { "postgres" }
    }

    /// The YAML of one member.
    pub fn config(&self, member: &MemberPlan, dir: &Path) -> String {
        let mut config = self.base_config(member, dir);
        if let Some(group) = member.group {
            config["citus"] = json!({"database": "app", "group": group});
            if self.stand_in {
                config["citus"]["stand_in"] = json!(true);
            }
        }
        if self.regions.len() > 1 {
            config["topology"] = self.topology(member);
        }
        if let Some(overlay) = self.overlays.get(&member.name) {
            topology::document::patch(&mut config, overlay);
        }
        serde_yaml::to_string(&config).expect("plain values serialise")
    }

    fn base_config(&self, member: &MemberPlan, dir: &Path) -> Value {
        let region = self.region(&member.region).expect("planned with its region");
        let host = &member.host;
        let login = |user: &str, word: &str| json!({"username": user, "password": word});
        let mut parameters = json!({
            "unix_socket_directories": "",
            "shared_buffers": "16MB",
            "fsync": "on",
            "log_min_messages": "warning",
        });
        topology::document::patch(&mut parameters, &self.parameters);
        json!({
            "scope": self.scope,
            "name": member.name,
            "restapi": {
                "listen": format!("{host}:{}", member.api_port),
                "connect_address": format!("{host}:{}", member.api_port),
            },
            "etcd3": {"hosts": [format!("{}:{}", region.store_host, region.store_port)]},
            "bootstrap": {"dcs": self.dcs, "initdb": [{"encoding": "UTF8"}, "data-checksums"]},
            "postgresql": {
                "listen": format!("{host}:{}", member.pg_port),
                "connect_address": format!("{host}:{}", member.pg_port),
                "data_dir": dir.join("data").join(&member.name),
                "bin_dir": self.pg_bin,
                "pgpass": dir.join(format!("{}.pgpass", member.name)),
                "authentication": {
                    "superuser": login("postgres", "super-secret"),
                    "replication": login("replicator", "copy-secret"),
                },
                "pg_hba": [
                    "local all all trust",
                    "host all all samenet trust",
                    "host replication all samenet trust",
                ],
                "parameters": parameters,
                "basebackup": [{"checkpoint": "fast"}],
            },
            "tags": member.tags,
        })
    }

    fn topology(&self, member: &MemberPlan) -> Value {
        let entry = |r: &RegionPlan| {
            json!({
                "name": r.name,
                "priority": r.priority,
                "etcd3": {"hosts": [format!("{}:{}", r.store_host, r.store_port)]},
            })
        };
        let regions: Vec<Value> = self.regions.iter().map(entry).collect();
        json!({"formation": self.scope, "region": member.region, "regions": regions})
    }
}

fn member_name(region: &str, group: Option<u32>, number: usize, regions: usize) -> String {
    let kind = match group {
        None => "n".to_string(),
        Some(0) => "coord".to_string(),
        Some(group) => format!("work{group}"),
    };
    if regions > 1 { format!("{region}-{kind}-{number}") } else { format!("{kind}{number}") }
}
