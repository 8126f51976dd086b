//! What was seen of a formation, as one value: the input of the graph.
//!
//! Invariant *unknown is not absent*: a region whose store never answered is
//! left out of `regions`, one that answered earlier comes with `is_stale`. An
//! empty map of groups means that the store was read and holds none.

use crate::member::join_host;
use crate::region::{PeerGroup, PeerMember, PeerRegion, Policy};
use crate::report::RegionRole;
use crate::{
    Group, GroupView, Lsn, MemberRecord, MemberRole, RegionName, Seen, Status, Version, Versioned,
};
use std::collections::BTreeMap;

/// One region as its store tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionScene {
    pub name: RegionName,
    pub role: Seen<RegionRole>,
    pub epoch: Seen<Option<u64>>,
    pub groups: BTreeMap<Group, GroupView>,
    pub is_stale: bool,
}

/// A primary row of the coordinator's `pg_dist_node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub group: Group,
    pub host: String,
    pub port: u16,
}

/// WAL may flow between these two regions, in both directions, at this cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub between: (RegionName, RegionName),
    pub cost: u32,
}

/// The register of one site; a site that is no region is a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteScene {
    pub name: RegionName,
    /// The owner of the certificate this site accepted.
    pub vote: Seen<Option<RegionName>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    pub formation: String,
    /// `None`: a scope without regions; the caller then names one region itself.
    pub policy: Option<Policy>,
    pub regions: Vec<RegionScene>,
    /// `Unknown`: they could not be read. Without Citus there are none: `Known`, empty.
    pub routes: Seen<Vec<Route>>,
    /// `None`: every region reaches every other at cost 1.
    pub links: Option<Vec<Link>>,
    pub sites: Vec<SiteScene>,
}

impl Scene {
    pub fn new(formation: impl Into<String>) -> Scene {
        Scene {
            formation: formation.into(),
            policy: None,
            regions: Vec::new(),
            routes: Seen::Known(Vec::new()),
            links: None,
            sites: Vec::new(),
        }
    }
}

impl RegionScene {
    /// A region out of reach, as another region's agent last saw it. The role
    /// is not in that record, so it stays unknown until the caller has a proof.
    pub fn remembered(peer: &PeerRegion) -> RegionScene {
        RegionScene {
            name: peer.region.clone(),
            role: Seen::Unknown,
            epoch: Seen::Known(peer.epoch),
            groups: peer.groups.iter().map(|(group, seen)| (*group, view(seen))).collect(),
            is_stale: true,
        }
    }
}

fn view(peer: &PeerGroup) -> GroupView {
    let members = peer.members.iter().map(|m| (m.name.clone(), versioned(record(m))));
    let optime = peer.leader().and_then(|leader| leader.lsn);
    let status = |optime: Lsn| versioned(Status { optime, ..Status::default() });
    GroupView {
        initialize: peer.system_id.clone().map(|id| versioned(Some(id))),
        leader: peer.leader.clone().map(versioned),
        members: members.collect(),
        status: optime.map(status),
        ..GroupView::default()
    }
}

fn record(peer: &PeerMember) -> MemberRecord {
    MemberRecord {
        conn_url: Some(format!("postgres://{}/postgres", join_host(&peer.host, peer.port))),
        api_url: peer.api_url.clone(),
        state: peer.state.clone(),
        role: MemberRole::parse(&peer.role).unwrap_or_default(),
        xlog_location: peer.lsn,
        timeline: peer.timeline,
        ..MemberRecord::default()
    }
}

/// Peers' records carry no version of the store they come from.
fn versioned<T>(value: T) -> Versioned<T> {
    Versioned { value, version: Version::default(), session: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timeline;

    #[test]
    fn a_remembered_region_is_stale_and_its_role_unknown() {
        let member = PeerMember {
            name: "m".into(),
            role: "primary".into(),
            state: "running".into(),
            host: "::1".into(),
            port: 5,
            api_url: None,
            timeline: Some(Timeline(3)),
            lsn: Some(Lsn(77)),
        };
        let group = PeerGroup { leader: Some("m".into()), system_id: None, members: vec![member] };
        let groups = BTreeMap::from([(Group::PLAIN, group)]);
        let seen =
            RegionScene::remembered(&PeerRegion { region: "a".into(), epoch: Some(4), groups });
        assert!(seen.is_stale && seen.role == Seen::Unknown);
        let view = &seen.groups[&Group::PLAIN];
        assert_eq!(view.optime(), Lsn(77));
        assert_eq!(view.leader_record().unwrap().address(), Some(("::1".into(), 5)));
    }
}
