//! Scenes for tests: members are named `region-group-number` and live on a host
//! of that name; number 0 leads.

use super::{RegionRole, RegionScene, Route, Scene};
use crate::made_up::TakeSample;
use crate::region::Policy;
use crate::{Group, GroupView, Seen};
use serde_json::json;

pub(super) fn g(number: u32) -> Group {
    Group(Some(number))
}

pub(super) fn scene(regions: &[RegionScene]) -> Scene {
    Scene { regions: regions.to_vec(), ..Scene::new("shop") }
}

pub(super) fn policy(names: &[&str]) -> Policy {
    let regions: Vec<_> =
        names.iter().map(|name| json!({"name": name, "endpoints": ["h:1"]})).collect();
    serde_json::from_value(json!({"formation": "shop", "regions": regions})).unwrap()
}

pub(super) fn route(group: u32, host: &str) -> Route {
    Route { group: g(group), host: host.to_string(), port: 5432 }
}

/// The owner of epoch 7.
pub(super) fn region(name: &str, groups: &[Group], members: usize) -> RegionScene {
    RegionScene {
        name: name.into(),
        role: Seen::Known(RegionRole::Primary),
        epoch: Seen::Known(Some(7)),
        groups: groups
            .iter()
            .map(|group| (*group, view(name, *group, members, "primary")))
            .collect(),
        is_stale: false,
    }
}

pub(super) fn standby(name: &str, groups: &[Group], members: usize) -> RegionScene {
    let view = |group: &Group| (*group, view(name, *group, members, "standby_leader"));
    RegionScene {
        role: Seen::Known(RegionRole::Standby),
        groups: groups.iter().map(view).collect(),
        ..region(name, &[], 0)
    }
}

fn view(region: &str, group: Group, members: usize, leader_role: &str) -> GroupView {
    let mut view = GroupView::default();
    view.take_sample("status", r#"{"optime":1000}"#, 1, 0);
    for number in 0..members {
        let name = format!("{region}-{group}-{number}");
        let role = if number == 0 { leader_role } else { "replica" };
        let mut record = json!({"conn_url": format!("postgres://{name}:5432/postgres"),
            "state": "running", "role": role, "xlog_location": 1000, "timeline": 3});
        if role != "primary" {
            record["replication_state"] = "streaming".into();
        }
        view.take_sample(&format!("members/{name}"), &record.to_string(), 1, 1);
    }
    if members > 0 {
        view.take_sample("leader", &format!("{region}-{group}-0"), 1, 1);
    }
    view
}

/// A group of members without addresses, each with its `replicatefrom`.
pub(super) fn tagged(leader: Option<&str>, members: &[(&str, &str)]) -> GroupView {
    let mut view = GroupView::default();
    for (name, from) in members {
        let record = json!({"state": "running", "tags": {"replicatefrom": from}});
        view.take_sample(&format!("members/{name}"), &record.to_string(), 1, 1);
    }
    if let Some(leader) = leader {
        view.take_sample("leader", leader, 1, 1);
    }
    view
}
