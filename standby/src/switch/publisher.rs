//! What this region tells its own daemons about the others.
//!
//! A standby leader follows a remote failover by what the agent writes here:
//! changes of leaders, roles, states, addresses and timelines are published at
//! once, mere progress of the log not more often than every two seconds.
//!
//! Absent on purpose: removing a region that cannot be seen. Its last record
//! stays, a standby keeps trying the address it knows.

use super::Site;
use std::collections::BTreeMap;
use std::time::Duration;
use topology::region::{PeerGroup, PeerMember, PeerRegion};
use topology::{GroupView, MemberName, MemberRecord, Millis, RegionName};

/// Between two writes that only tell of new positions.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Another region in the shape that is published.
pub fn observed_region(region: &RegionName, site: &Site) -> PeerRegion {
    PeerRegion {
        region: region.clone(),
        epoch: site.topology.certificate().map(|c| c.epoch),
        groups: site.groups.iter().map(|(group, view)| (*group, of_group(view))).collect(),
    }
}

fn of_group(view: &GroupView) -> PeerGroup {
    PeerGroup {
        leader: view.leader_name().cloned(),
        system_id: view.initialize.as_ref().and_then(|i| i.value.clone()),
        members: view.members.iter().filter_map(|(name, m)| of_member(name, &m.value)).collect(),
    }
}

/// A member that has not published an address yet cannot be followed.
fn of_member(name: &MemberName, record: &MemberRecord) -> Option<PeerMember> {
    let (host, port) = record.address()?;
    Some(PeerMember {
        name: name.clone(),
        role: record.role.text().to_string(),
        state: record.state.clone(),
        host,
        port,
        api_url: record.api_url.clone(),
        timeline: record.timeline,
        lsn: record.replay_lsn.or(record.xlog_location),
    })
}

/// Decides when an observed region is worth a write.
#[derive(Debug, Default)]
pub struct Publisher {
    written: BTreeMap<RegionName, Millis>,
}

impl Publisher {
    pub fn is_due(&self, new: &PeerRegion, stored: Option<&PeerRegion>, now: Millis) -> bool {
        let Some(stored) = stored else { return true };
        if without_progress(stored) != without_progress(new) {
            return true;
        }
        let since = self.written.get(&new.region).map_or(u64::MAX, |at| now.since(*at));
        stored != new && since >= PROGRESS_EVERY.as_millis() as u64
    }

    pub fn wrote(&mut self, region: &RegionName, now: Millis) {
        self.written.insert(region.clone(), now);
    }
}

fn without_progress(peer: &PeerRegion) -> PeerRegion {
    let mut peer = peer.clone();
    for member in peer.groups.values_mut().flat_map(|g| &mut g.members) {
        member.lsn = None;
    }
    peer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;
    use topology::{Group, Lsn};

    fn site(leader: &str, lsn: u64) -> Site {
        let mut view = GroupView::default();
        view.take_sample("leader", leader, 1, 1);
        for name in ["n1", "n2"] {
            let record = format!(
                r#"{{"conn_url":"postgres://{name}:5432/postgres","state":"running","role":"replica","xlog_location":{lsn},"timeline":1}}"#
            );
            view.take_sample(&format!("members/{name}"), &record, 1, 1);
        }
        view.take_sample("members/young", "{}", 1, 1);
        Site { groups: [(Group::PLAIN, view)].into(), ..Site::default() }
    }

    #[test]
    fn an_observed_region_has_every_member_with_an_address() {
        let peer = observed_region(&"b".into(), &site("n2", 5));
        let group = &peer.groups[&Group::PLAIN];
        assert_eq!(group.members.len(), 2);
        let leader = group.leader().expect("a leader");
        assert_eq!((leader.host.as_str(), leader.port, leader.lsn), ("n2", 5432, Some(Lsn(5))));
    }

    #[test]
    fn a_new_leader_is_told_at_once_and_progress_seldom() {
        let (mut publisher, region) = (Publisher::default(), RegionName::new("b"));
        let old = observed_region(&region, &site("n1", 5));
        assert!(publisher.is_due(&old, None, Millis(0)));
        publisher.wrote(&region, Millis(0));
        assert!(!publisher.is_due(&old, Some(&old), Millis(9_000)));
        let moved = observed_region(&region, &site("n2", 5));
        assert!(publisher.is_due(&moved, Some(&old), Millis(1)));
        let further = observed_region(&region, &site("n1", 6));
        assert!(!publisher.is_due(&further, Some(&old), Millis(1_999)));
        assert!(publisher.is_due(&further, Some(&old), Millis(2_000)));
    }
}
