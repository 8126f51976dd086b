//! What a daemon does after a beat: what the machine keeps in order, Citus, callbacks, slots.
//!
//! Nothing here changes which member leads. What is kept in order, and when, the machine
//! decides (`member/chores.rs`, `member/upkeep.rs`).

use super::Daemon;
use crate::clock;
use crate::ha::Observation;
use crate::ha::observation::ServerRole;
use crate::member::chores::{ChoreSight, Moment};
use crate::member::{Effect, Report, may_campaign, role_of};
use standby::slots::{ClusterKind, Role as SlotRole, Situation};
use standby::switch::LocalTopology;
use standby::switch::ownership::Ownership;
use std::collections::BTreeMap;
use topology::{Group, GroupView, RegionName};

/// What the chores remember between beats.
#[derive(Default)]
pub(super) struct Chores {
    pub groups: BTreeMap<Group, GroupView>,
    pub local_topology: LocalTopology,
    pub slots: super::slots::SlotMemory,
}

impl Daemon {
    pub(super) async fn keep_up(&mut self, report: &Report) {
        let seen = &report.seen;
        self.keep_in_order(seen, Moment::First).await;
        let may = may_campaign(seen);
        self.may_campaign.send_if_modified(|shown| std::mem::replace(shown, may) != may);
        if seen.view().is_none() {
            return;
        }
        let at_rest = seen.server().is_some() && self.background.running().is_none();
        if at_rest {
            // Citus first: clients wait for its round, which runs in its own task.
            self.keep_citus(seen);
        }
        self.keep_documents(seen).await;
        self.keep_in_order(seen, Moment::Last).await;
        if at_rest {
            self.call_back(seen);
            self.keep_slots(seen).await;
        }
    }

    /// Performs what the machine's rows of this moment ask for.
    async fn keep_in_order(&mut self, seen: &Observation, moment: Moment) {
        let own = self.chore_sight();
        let mut next = self.member.begin_chores(clock::now(), seen, moment, own);
        while let Some(Effect::Call { call, limit_ms }) = next {
            self.carry_out_local();
            let answer = self.call_within(call, limit_ms).await;
            next = self.member.go_on_with_chores(clock::now(), seen, answer);
        }
        self.carry_out_local();
    }

    fn chore_sight(&mut self) -> ChoreSight {
        ChoreSight {
            is_quiet: self.server.is_quiet(),
            runs_as: self.server.role(&self.member.dynamic.raw),
            has_rewired: self.metadata.take_settled(),
            ended: self.beside.take_ended(),
        }
    }

    /// Each step on its own: one that fails keeps no other from being done. What the
    /// time of this beat does not suffice for, the next one begins with.
    async fn keep_slots(&mut self, seen: &Observation) {
        let (Some(view), Some(server)) = (seen.view(), self.server.status()) else { return };
        let Some(role) = slot_role(seen) else { return };
        let end = if server.in_recovery { server.replay } else { server.flushed };
        let other_regions = self.other_regions();
        let is_doubtful = matches!(seen.ownership, Ownership::Doubtful(_));
        let cluster = match seen.may_own() {
            true => ClusterKind::Primary,
            false => ClusterKind::Standby,
        };
        // Other regions stream from the owner only; elsewhere such a slot would
        // keep WAL that no server reads.
        let of = |is: bool| if is { other_regions.as_slice() } else { &[] };
        let situation = Situation {
            me: &self.settings.name,
            nofailover: seen.me.tags.nofailover(),
            view,
            dynamic: &self.member.dynamic,
            role,
            cluster: (!is_doubtful).then_some(cluster),
            end: end.unwrap_or_default(),
            regions: of(seen.may_own()),
            doubtful_regions: of(is_doubtful),
            heard: &BTreeMap::new(),
            citus_database: self.settings.citus.as_ref().map(|citus| citus.database.as_str()),
        };
        let limit_ms = self.member.report_limit_ms(seen, clock::now());
        self.chores.slots.keep(&self.server, &situation, clock::now() + limit_ms).await;
    }

    fn other_regions(&self) -> Vec<RegionName> {
        let Some(topology) = &self.settings.topology else { return Vec::new() };
        let names = topology.policy.regions.iter().map(|region| &region.name);
        names.filter(|name| **name != topology.region).cloned().collect()
    }
}

/// What the slots go by: `None` while the server's role is not known.
fn slot_role(seen: &Observation) -> Option<SlotRole> {
    Some(match role_of(seen)? {
        ServerRole::Primary => SlotRole::Primary,
        ServerRole::Standby { .. } if !seen.holds_lock() => SlotRole::Replica,
        ServerRole::Standby { .. } if seen.may_own() => SlotRole::Promoting,
        ServerRole::Standby { .. } => SlotRole::StandbyLeader,
    })
}
