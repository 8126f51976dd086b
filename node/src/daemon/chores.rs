//! What a daemon keeps up after a beat: watchdog, checkpoint, histories, slots, settings.
//!
//! Nothing here changes which member leads. The member's record and a leader's documents
//! are written by the machine (`member/upkeep.rs`).

use super::Daemon;
use super::after_promotion::AfterPromotion;
use super::server::Reload;
use crate::clock;
use crate::ha::Observation;
use crate::ha::facts::Facts;
use crate::ha::guarding;
use crate::ha::observation::{Job, ServerRole};
use crate::member::{Report, may_campaign, role_of};
use crate::postgres::parameters::Role;
use standby::slots::{self, SlotStep};
use standby::switch::LocalTopology;
use standby::switch::ownership::Ownership;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use topology::{Group, GroupView, RegionName};

/// What the chores remember between beats.
#[derive(Default)]
pub(super) struct Chores {
    pub groups: BTreeMap<Group, GroupView>,
    pub local_topology: LocalTopology,
    /// What the server's files were made from.
    pub applied: Option<Applied>,
    /// The running server was started by this process, or told to read its
    /// files since: what it has in force is what they say.
    pub in_force: bool,
    /// Slots that members of this group have had.
    pub slots_ours: BTreeSet<String>,
    /// The checkpoint after the promotion.
    pub checkpoint: AfterPromotion,
    pub histories: super::histories::Histories,
    /// The move whose rewiring this coordinator has done.
    pub rewired: Option<String>,
    pub ownership: Option<Ownership>,
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
        let may = may_campaign(seen);
        self.may_campaign.send_if_modified(|shown| std::mem::replace(shown, may) != may);
        if seen.view().is_none() {
            return;
        }
        let at_rest = seen.server().is_some() && self.background.running().is_none();
        self.keep_cache(seen);
        if at_rest {
            // Citus first: clients wait for its round, which runs in its own task.
            self.keep_citus(seen);
        }
        self.keep_documents(seen).await;
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

    /// The watchdog rests only while this member certainly does not write, and
    /// is not about to. A server that does not stop leaves it armed.
    fn keep_watchdog(&mut self, seen: &Observation) {
        let (may_open, is_quiet) = (self.member.may_open(seen), self.server.is_quiet());
        if self.member.dynamic.pause || !guarding::is_watchdog_needed(seen, may_open, is_quiet) {
            self.watchdog.rest();
        }
    }

    /// Applies changed settings, and those of another role, to the running
    /// server.
    ///
    /// A standby that is about to follow another server gets all of it with that step:
    /// for the upstream that it still shows, a standby leader would not be one.
    async fn keep_settings(&mut self, seen: &Observation) {
        if seen.is_standby() && Facts::of(seen).must_follow_another() {
            return;
        }
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
        if role_of(seen).is_none() || view.leader.is_none() {
            return;
        }
        // Other regions stream from the owner only; elsewhere such a slot would
        // keep WAL that no server reads.
        let regions = if seen.may_own() { self.other_regions() } else { Vec::new() };
        let wanted = slots::desired(&self.settings.name, view, &regions);
        self.chores.slots_ours.extend(wanted.keys().cloned());
        let leads = matches!(role_of(seen), Some(ServerRole::Primary));
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
