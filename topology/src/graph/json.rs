//! The formation as JSON, for scripts and for `GET /topology`.
//!
//! Invariant *unknown is not absent*: unknown values are `null` and their key
//! is there; a value that cannot exist (the lag of a primary) has no key.

use super::{Finding, Graph, GroupNode, MemberNode, RegionNode, StoreNode};
use crate::report::Role;
use petgraph::graph::NodeIndex;
use serde_json::{Map, Value, json};

impl Graph {
    pub fn json(&self) -> Value {
        let regions = self.regions().map(|(at, region)| self.region_json(at, region));
        let votes: Vec<Value> = self.stores().map(store_json).collect();
        let routes = self.routes.known().map(|rows| {
            let row = |r: &super::Route| json!({"group": r.group, "host": r.host, "port": r.port});
            rows.iter().map(row).collect::<Vec<_>>()
        });
        json!({
            "formation": self.formation,
            "owner": self.owner,
            "regions": regions.collect::<Vec<_>>(),
            "routes": routes,
            "votes": votes,
            "findings": self.findings().iter().map(finding_json).collect::<Vec<_>>(),
        })
    }

    fn region_json(&self, at: NodeIndex, region: &RegionNode) -> Value {
        let groups = self.groups(at).into_iter();
        json!({
            "name": region.name,
            "role": region.role.known().map(|role| role.text()),
            "epoch": region.epoch.known().copied().flatten(),
            "is_seen": region.is_seen,
            "is_stale": region.is_stale,
            "follows": region.upstream,
            "groups": groups
                .map(|(at, group)| self.group_json(at, group, region))
                .collect::<Vec<_>>(),
        })
    }

    fn group_json(&self, at: NodeIndex, group: &GroupNode, region: &RegionNode) -> Value {
        let members = self.members(at).into_iter();
        json!({
            "group": group.group,
            "leader": group.leader,
            "optime": group.optime,
            "is_paused": group.is_paused,
            "members": members
                .map(|(at, member)| self.member_json(at, member, region))
                .collect::<Vec<_>>(),
        })
    }

    fn member_json(&self, at: NodeIndex, member: &MemberNode, region: &RegionNode) -> Value {
        let facts = member.facts.known();
        let address = facts.and_then(|facts| facts.address.as_ref());
        let role = member.role(region);
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| out.insert(key.to_string(), value);
        put("name", json!(member.who.name));
        put("role", json!(role.word()));
        put("state", json!(facts.and_then(|facts| facts.state.as_ref())));
        put("host", json!(address.map(|(host, _)| host)));
        put("port", json!(address.map(|(_, port)| port)));
        put("timeline", json!(facts.and_then(|facts| facts.timeline)));
        put("lsn", json!(facts.and_then(|facts| facts.position)));
        if role != Role::Leader {
            put("lag_bytes", json!(member.lag_bytes.known()));
            put("streams_from", json!(self.upstream(at).map(|(_, up)| up.who.to_string())));
        }
        Value::Object(out)
    }
}

/// `vote` alone cannot tell "accepted nothing" from "not asked", hence `is_seen`.
fn store_json(store: &StoreNode) -> Value {
    json!({
        "site": store.site,
        "is_witness": store.is_witness,
        "is_seen": store.vote.known().is_some(),
        "vote": store.vote.known().cloned().flatten(),
    })
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "level": finding.level().text(),
        "code": finding.code(),
        "message": finding.to_string(),
        "remedy": finding.remedy(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{g, policy, region, scene, standby};
    use super::*;
    use crate::Seen;

    #[test]
    fn unknown_is_null_and_impossible_has_no_key() {
        let mut seen = scene(&[region("a", &[g(0)], 2), standby("b", &[g(0)], 1)]);
        seen.policy = Some(policy(&["a", "b", "c"]));
        seen.routes = Seen::Unknown;
        let out = Graph::build(&seen).json();
        assert_eq!(out["owner"], "a");
        assert_eq!(out["routes"], Value::Null);
        let members = &out["regions"][0]["groups"][0]["members"];
        assert!(members[0].get("lag_bytes").is_none());
        assert_eq!(members[1]["streams_from"], "a/0/a-0-0");
        let below = &out["regions"][1]["groups"][0]["members"][0];
        assert_eq!((&below["role"], &below["lag_bytes"]), (&json!("standby_leader"), &json!(0)));
        assert_eq!(out["regions"][2]["role"], Value::Null);
        assert_eq!(out["regions"][2]["is_seen"], false);
        let codes: Vec<_> =
            out["findings"].as_array().unwrap().iter().map(|f| f["code"].clone()).collect();
        assert_eq!(codes, ["region-unseen", "routes-unchecked"]);
    }
}
