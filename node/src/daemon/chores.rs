//! What a member keeps up beside its decisions: its record, the leader's
//! documents, slots, settings.
//!
//! Nothing here changes who leads. Every write is conditional; one that fails
//! is tried again in a later beat, because the difference is still there. What the
//! store holds already is not written again (`upkeep.rs`).

use super::after_promotion::AfterPromotion;
use super::server::Reload;
use super::upkeep::Kept;
use super::{Daemon, look};
use crate::act::txn;
use crate::clock;
use crate::ha::Observation;
use crate::ha::guarding;
use crate::ha::observation::{Job, Lock, ServerRole};
use crate::member::Report;
use crate::postgres::parameters::Role;
use standby::report::{Leader, Retention};
use standby::slots::{self, SlotStep};
use standby::switch::LocalTopology;
use standby::switch::ownership::Ownership;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use topology::{Group, GroupView, HistoryEntry, MemberRole, Millis, RegionName};

/// What the chores remember between beats.
#[derive(Default)]
pub(super) struct Chores {
    pub groups: BTreeMap<Group, GroupView>,
    pub local_topology: LocalTopology,
    /// When the member record was last written for its positions' sake.
    pub recorded_at: Millis,
    /// The role in which the server last ran.
    pub ran_as: Option<MemberRole>,
    /// What the server's files were made from.
    pub applied: Option<Applied>,
    /// The running server was started by this process, or told to read its
    /// files since: what it has in force is what they say.
    pub in_force: bool,
    /// Slots that members of this group have had.
    pub slots_ours: BTreeSet<String>,
    /// Since when slots of members are kept, while this member leads.
    pub retention: Retention,
    /// The checkpoint after the promotion.
    pub checkpoint: AfterPromotion,
    pub histories: super::histories::Histories,
    /// `/history` as it was last read with a line.
    pub history: Vec<HistoryEntry>,
    /// The move whose rewiring this coordinator has done.
    pub rewired: Option<String>,
    pub ownership: Option<Ownership>,
    /// Members that were told to be never synchronous, because of their names.
    pub never_synchronous: BTreeSet<topology::MemberName>,
}

/// What decides about the files of a running server.
#[derive(Clone, PartialEq)]
pub(super) struct Applied {
    dynamic: serde_json::Value,
    overrides: Vec<(String, String)>,
    role: Option<Role>,
}

impl Chores {
    pub fn promoted(&mut self) {
        self.checkpoint = AfterPromotion::default();
    }

    pub fn job_ended(&mut self, job: &Job) {
        // The server's files were written by the job from what held then.
        let wrote = matches!(
            job,
            Job::StartPrimary | Job::StartStandby { .. } | Job::Restart { .. } | Job::Bootstrap
        );
        if wrote {
            self.applied = None;
            self.in_force = true;
        }
    }

    /// The local file was read again: everything is written and read anew.
    pub fn settings_read(&mut self) {
        self.applied = None;
        self.in_force = false;
    }
}

impl Daemon {
    pub(super) async fn keep_up(&mut self, report: &Report) {
        let seen = &report.seen;
        self.keep_watchdog(seen);
        self.keep_checkpoint(seen);
        self.keep_histories(seen).await;
        // While no member leads the group, any member may speak for the region:
        // a formation's first certificate comes before its first leader.
        let speaks = seen.holds_lock() || seen.lock == Lock::Free;
        self.holds_lock_out.send_if_modified(|held| std::mem::replace(held, speaks) != speaks);
        if seen.view().is_none() {
            return;
        }
        let at_rest = seen.server().is_some() && self.background.running().is_none();
        self.keep_cache(seen);
        if at_rest {
            // First: clients wait for the end of its round, which runs beside us.
            self.keep_citus(seen);
        }
        let limit = Duration::from_millis(self.member.report_limit_ms(seen, clock::now()));
        if tokio::time::timeout(limit, self.keep_documents(seen)).await.is_err() {
            let limit = crate::words::span(limit);
            crate::log::warn(&format!("the store did not take this member's reports in {limit}"));
        }
        if at_rest {
            self.keep_settings(seen).await;
            self.call_back(seen);
            self.keep_slots(seen).await;
        }
    }

    /// Only into data of this cluster, and not while something else fills it.
    fn keep_cache(&mut self, seen: &Observation) {
        let known = seen.view().and_then(|view| view.initialize.as_ref()?.value.as_ref());
        let is_ours = known.is_some() && seen.system() == known;
        if is_ours && self.background.running().is_none() {
            self.server.save_dynamic(&self.member.dynamic.raw);
        }
    }

    async fn keep_documents(&mut self, seen: &Observation) {
        if let Some(view) = seen.view() {
            self.note_history(view);
        }
        self.keep_record(seen).await;
        if seen.holds_lock() {
            self.keep_leader_documents(seen).await;
        } else {
            self.chores.retention.forget();
        }
    }

    /// The watchdog rests only while this member certainly does not write, and
    /// is not about to. A server that does not stop leaves it armed.
    fn keep_watchdog(&mut self, seen: &Observation) {
        let (may_open, is_quiet) = (self.member.may_open(seen), self.server.is_quiet());
        if self.member.dynamic.pause || !guarding::is_watchdog_needed(seen, may_open, is_quiet) {
            self.watchdog.rest();
        }
    }

    async fn keep_record(&mut self, seen: &Observation) {
        let Some(view) = seen.view() else { return };
        if seen.job.is_none() && look::role_of(seen).is_some() {
            self.chores.ran_as = Some(self.role(seen));
        }
        let record = self.record(seen);
        let there = view.members.get(&self.settings.name);
        let own_lease = self.member.lease.id;
        let on_lease = there.is_some_and(|m| Some(m.lease) == own_lease);
        if on_lease && there.is_some_and(|m| m.value == record) {
            return;
        }
        let positions_only = on_lease
            && there.is_some_and(|m| without_positions(&m.value) == without_positions(&record));
        let young = seen.now.since(self.chores.recorded_at) < self.member.dynamic.loop_wait_ms;
        if positions_only && young {
            return;
        }
        let (keys, me) = (self.member.keys.clone(), self.settings.name.clone());
        let (text, revision) = (record.write(), there.map(|m| m.revision));
        let tell = |lease| txn::member(&keys, &me, lease, text.clone(), revision);
        if self.member.lease.id.is_some_and(|lease| self.mirror.news(tell(lease)).is_none()) {
            return;
        }
        let written = match (self.member.held, self.member.lease.id) {
            // A leader's lease is replaced together with its key, by a renewal.
            (true, Some(lease)) => self.write(tell(lease)).await,
            _ => self.write_on_lease(tell).await,
        };
        match written {
            Ok(result) if result.succeeded => self.chores.recorded_at = seen.now,
            Ok(_) => {}
            Err(error) => {
                crate::log::warn(&format!("the member record could not be written: {error}"));
            }
        }
    }

    async fn keep_leader_documents(&mut self, seen: &Observation) {
        let Some(view) = seen.view() else { return };
        self.keep_initialize(seen, view).await;
        self.keep_config(view).await;
        if std::mem::take(&mut self.member.status_due) || view.status.is_none() {
            self.keep_failsafe(seen, view).await;
            self.keep_status(seen, view).await;
        }
        self.keep_sync(seen, view).await;
        self.tell_never_synchronous(view);
        self.keep_history(seen, view).await;
        self.forget_old_request(seen).await;
    }

    /// A store that has no configuration gets the one in force. One that holds
    /// nonsense keeps it: an operator wrote it, and must correct it.
    async fn keep_config(&mut self, view: &GroupView) {
        let Some(empty_at) = view.missing_config() else { return };
        if self.member.dynamic.raw.as_object().is_none_or(|map| map.is_empty()) {
            return;
        }
        let Some(lease) = self.member.lease.id else { return };
        let text = topology::document::compact(&self.member.dynamic.raw);
        let txn = txn::give_config(&self.member.keys, lease, text, empty_at);
        self.keep("/config", txn).await;
    }

    async fn keep_status(&mut self, seen: &Observation, view: &GroupView) {
        let Some(server) = seen.server().filter(|s| s.lsn.0 > 0) else { return };
        let Some(lease) = self.member.lease.id else { return };
        let leader = Leader {
            name: &self.settings.name,
            optime: server.lsn,
            slots: &self.server.slots(),
            dynamic: &self.member.dynamic,
        };
        let status = leader.status(view, &mut self.chores.retention, seen.now);
        let Some(txn) = txn::status(&self.member.keys, lease, &status, view) else { return };
        self.keep("/status", txn).await;
    }

    /// Members that no setting makes synchronous, each once.
    fn tell_never_synchronous(&mut self, view: &GroupView) {
        if !self.member.dynamic.is_synchronous {
            return self.chores.never_synchronous.clear();
        }
        for name in view.members.keys() {
            if let Some(why) = standby::sync::never_synchronous(name)
                && self.chores.never_synchronous.insert(name.clone())
            {
                tracing::warn!("{name} never becomes a synchronous standby: {why}");
            }
        }
    }

    /// What a synchronous mode left behind would keep others from leading: when it
    /// is off, and where this group follows another one.
    async fn keep_sync(&mut self, seen: &Observation, view: &GroupView) {
        let is_off = !self.member.dynamic.is_synchronous && seen.is_primary();
        let is_doubtful = matches!(seen.ownership, Ownership::Doubtful(_));
        let follows = seen.is_standby() && !seen.may_own() && !is_doubtful;
        let left = view.sync.as_ref().filter(|_| is_off || follows);
        let (Some(left), Some(lease)) = (left, self.member.lease.id) else { return };
        let txn = txn::end_sync(&self.member.keys, lease, left.revision);
        if self.keep("the end of /sync", txn).await == Kept::Written {
            tracing::info!("no synchronous mode is in force here: /sync is deleted");
        }
    }

    /// Applies changed settings, and those of another role, to the running
    /// server.
    async fn keep_settings(&mut self, seen: &Observation) {
        let dynamic = self.member.dynamic.raw.clone();
        let role = self.server.role(&dynamic);
        self.server.keep_pgpass(&dynamic);
        let wanted = Applied { dynamic, overrides: self.overrides(seen, false), role };
        if self.chores.applied.as_ref() == Some(&wanted) {
            return;
        }
        let reload = if self.chores.in_force { Reload::IfChanged } else { Reload::Always };
        // Judging and comparing settings must not hold up the next renewal.
        let limit = Duration::from_millis(self.member.report_limit_ms(seen, clock::now()));
        let applied = self.server.apply_settings(&wanted.dynamic, &wanted.overrides, reload);
        let applied = match tokio::time::timeout(limit, applied).await {
            Ok(applied) => applied,
            Err(_) => Err(format!("not over within {limit:?}; the next beat goes on")),
        };
        self.chores.in_force = applied.is_ok();
        match applied {
            Ok(told) => {
                self.chores.applied = Some(wanted);
                if told {
                    self.expect_reload_callback();
                }
            }
            Err(why) => {
                crate::log::error(&format!("the changed settings could not be applied: {why}"));
            }
        }
    }

    async fn keep_slots(&mut self, seen: &Observation) {
        let Some(view) = seen.view() else { return };
        if look::role_of(seen).is_none() || view.leader.is_none() {
            return;
        }
        // Other regions stream from the owner only; elsewhere such a slot would
        // keep WAL that no server reads.
        let regions = if seen.may_own() { self.other_regions() } else { Vec::new() };
        let wanted = slots::desired(&self.settings.name, view, &regions);
        self.chores.slots_ours.extend(wanted.keys().cloned());
        let leads = matches!(look::role_of(seen), Some(ServerRole::Primary));
        let (there, paused) = (self.server.slots(), self.member.dynamic.pause);
        let steps = slots::diff(&wanted, &there, &self.chores.slots_ours, leads, paused);
        for step in steps {
            if let Err(why) = self.server.change_slot(&step).await {
                crate::log::warn(&format!("{step:?}: {why}"));
                break;
            }
            if let SlotStep::Drop(name) = &step {
                self.chores.slots_ours.remove(name);
            }
        }
    }

    fn other_regions(&self) -> Vec<RegionName> {
        let Some(topology) = &self.settings.topology else { return Vec::new() };
        let names = topology.policy.regions.iter().map(|region| &region.name);
        names.filter(|name| **name != topology.region).cloned().collect()
    }

    /// Members and the archive are asked for every number below the own timeline.
    async fn keep_histories(&mut self, seen: &Observation) {
        let timeline = seen.server().and_then(|server| server.timeline);
        if let Some(timeline) = timeline.filter(|_| seen.is_primary() && seen.holds_lock()) {
            let (instance, dynamic) = (self.server.instance(), &self.member.dynamic.raw);
            self.chores.histories.keep(&instance, dynamic, timeline, seen.now).await;
        }
    }

    /// After a promotion: a checkpoint, so that others may rewind against us.
    fn keep_checkpoint(&mut self, seen: &Observation) {
        if !seen.is_primary() || !seen.holds_lock() {
            self.chores.checkpoint = AfterPromotion::default();
            return;
        }
        let timeline = seen.server().and_then(|server| server.timeline);
        if let (true, Some(timeline)) = (self.chores.checkpoint.is_due(), timeline) {
            self.chores.checkpoint.begin(self.server.instance(), timeline);
        }
    }

    /// Settings that hold only in a standby region, or until a region that has
    /// just become owner is rewired.
    pub(super) fn quarantine(&self, ownership: &Ownership) -> Vec<(String, String)> {
        let closed = match ownership {
            Ownership::NoRegions => false,
            Ownership::Owner { opening, .. } => *opening && !self.is_rewired(),
            Ownership::Standby { .. } | Ownership::Doubtful(_) => true,
        };
        match &self.settings.citus {
            Some(citus) if closed => crate::act::citus::quarantine(citus),
            _ => Vec::new(),
        }
    }

    pub(super) fn is_rewired(&self) -> bool {
        let running = self.chores.local_topology.journal().map(|j| &j.id);
        running.is_some() && running == self.chores.rewired.as_ref()
    }
}

fn without_positions(record: &topology::MemberRecord) -> topology::MemberRecord {
    topology::MemberRecord {
        xlog_location: None,
        replay_lsn: None,
        receive_lsn: None,
        ..record.clone()
    }
}
