//! What a daemon does after a beat: what the machine keeps in order, Citus, callbacks.
//!
//! Nothing here changes which member leads. What is kept in order, and when, the machine
//! decides (`member/chores.rs`, `member/upkeep.rs`, `member/slots.rs`).

use super::Daemon;
use crate::clock;
use crate::postgres::wal_kept;
use member::chores::{ChoreSight, Moment};
use member::ha::Observation;
use member::{Effect, Report, SlotSight, Stage, may_campaign};
use standby::switch::LocalTopology;
use std::collections::BTreeMap;
use topology::{Group, GroupView, Lsn, RegionName};

/// What the chores remember between beats.
#[derive(Default)]
pub(super) struct Chores {
    pub groups: BTreeMap<Group, GroupView>,
    pub local_topology: LocalTopology,
}

/// `server_version_num` of a release from 10 on.
fn major_of(version: i32) -> u32 {
    u32::try_from(version / 10_000).unwrap_or_default()
}

impl Daemon {
    pub(super) async fn keep_up(&mut self, report: &Report) {
        let seen = &report.seen;
        let may = may_campaign(seen) && !self.member.is_region_memory_unreadable();
        self.may_campaign.send_if_modified(|shown| std::mem::replace(shown, may) != may);
        let mut stage = Some(Stage::FIRST);
        while let Some(current) = stage {
            self.keep_up_in(current, seen).await;
            stage = current.next(seen);
        }
    }

    async fn keep_up_in(&mut self, stage: Stage, seen: &Observation) {
        match stage {
            Stage::Chores(moment) => self.keep_in_order(seen, moment).await,
            Stage::Rows => {
                self.keep_citus(seen);
                self.resolve_in_doubt(seen);
            }
            Stage::Documents => {
                self.keep_documents(seen).await;
                self.tell_of_record(seen);
            }
            Stage::Slots => self.keep_slots(seen).await,
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

    /// Makes, moves and drops slots.
    async fn keep_slots(&mut self, seen: &Observation) {
        let sight = self.slot_sight();
        let mut next = self.member.begin_slots(clock::now(), seen, sight);
        while let Some(Effect::Call { call, limit_ms }) = next {
            let answer = self.call_within(call, limit_ms).await;
            next = self.member.go_on_with_slots(clock::now(), seen, answer);
        }
        self.carry_out_local();
    }

    fn chore_sight(&mut self) -> ChoreSight {
        ChoreSight {
            is_quiet: self.server.is_quiet(),
            runs_as: self.server.role(&self.member.dynamic.raw),
            has_rewired: self.metadata.registrar.take_settled(),
            ended: self.beside.take_ended(),
        }
    }

    /// The slots of the server as of this beat.
    fn slot_sight(&mut self) -> SlotSight {
        let ended = self.slot_work.take_ended();
        let status = self.server.status();
        let end = status.and_then(|s| if s.in_recovery { s.replay } else { s.flushed });
        let citus = self.settings.citus.as_ref();
        SlotSight {
            slots: self.server.slots(),
            end: end.unwrap_or_default(),
            other_regions: self.other_regions(),
            citus_databases: citus
                .map(|own| own.databases().cloned().collect())
                .unwrap_or_default(),
            major: status.map_or(0, |status| major_of(status.server_version)),
            decodes: self.server.decodes(),
            started: status.map(|status| status.postmaster_start_time.clone()),
            wal_from: self.wal_from(),
            ended,
        }
    }

    /// Of a standby that may have copies of slots.
    fn wal_from(&self) -> Option<Lsn> {
        let is_standby = self.server.status().is_some_and(|status| status.in_recovery);
        let keeps_slots = is_standby && !self.member.dynamic.slots.is_empty();
        let data_dir = keeps_slots.then_some(&self.settings.postgresql.data_dir)?;
        wal_kept::begins_at(data_dir).ok().flatten()
    }

    fn other_regions(&self) -> Vec<RegionName> {
        let Some(topology) = &self.settings.topology else { return Vec::new() };
        let names = topology.policy.regions.iter().map(|region| &region.name);
        names.filter(|name| **name != topology.region).cloned().collect()
    }
}
