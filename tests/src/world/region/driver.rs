//! The driver of planned moves: asks the table, performs its answer.

use super::region_name;
use crate::world::links::Wire;
use crate::world::postgres::Process;
use crate::world::{Event, World};
use node::region::facts::{Question, is_receipt, tokens};
use node::region::hands::{Replayed, Target};
use node::region::ownership::Site;
use node::region::txn;
use standby::switch::local::may_replace;
use standby::switch::table::{Next, Work, advanced, next};
use std::sync::Arc;
use topology::region::{Journal, Phase};
use topology::{Lsn, RegionName, Timeline};

/// The journal that leads, the region it lies in, and that region.
struct Lead {
    journal: Journal,
    region: usize,
    site: Arc<Site>,
}

impl World {
    pub fn drive(&mut self, member: usize) {
        let own_region = self.members[member].place.region;
        let Some(own) = self.copy_of(member, own_region, false) else { return };
        self.reconcile(member, &own);
        let Some(lead) = self.lead(member, &own) else { return };
        self.begin_move(member, &lead.journal);
        let from = self.site_of(member, &lead.journal.from);
        let to = self.site_of(member, &lead.journal.to);
        self.ask_for_receipts(member, &lead.journal, from.as_deref(), to.as_deref());
        let me = region_name(own_region);
        let is_silent = self.copy_of(member, self.region_of(&lead.journal.to), true).is_none();
        let policy = own.topology.policy.as_ref();
        let question = Question {
            me: &me,
            journal: &lead.journal,
            own: &own,
            from: from.as_deref(),
            to: to.as_deref(),
            progress: &self.members[member].daemon.agent.drive.progress,
            is_silent,
            step_seconds: policy.map_or(20, |p| p.value.step_seconds),
            now_ms: self.unix_ms(),
        };
        let answer = next(&lead.journal, &question.facts());
        if !matches!(answer.next, Next::Wait | Next::Rest) {
            let line =
                format!("move {:?}: row {} {:?}", lead.journal.phase, answer.row, answer.next);
            self.note_of(member, &line);
        }
        self.perform_move(member, answer.next, &lead, from.as_deref());
    }

    fn region_of(&self, name: &RegionName) -> usize {
        let regions = 0..self.stores.regions.len();
        regions.into_iter().find(|r| region_name(*r) == *name).unwrap_or(0)
    }

    fn site_of(&mut self, member: usize, region: &RegionName) -> Option<Arc<Site>> {
        self.copy_of(member, self.region_of(region), false)
    }

    /// The journal to act on, if any is ours to act on.
    fn lead(&mut self, member: usize, own: &Arc<Site>) -> Option<Lead> {
        let journal = own.topology.journal()?.clone();
        let region = self.members[member].place.region;
        let me = region_name(region);
        let here = Lead { journal: journal.clone(), region, site: own.clone() };
        if me != journal.from || !journal.phase.is_decided() {
            let ours = me == journal.from || me == journal.to;
            return (ours && !journal.phase.is_over()).then_some(here);
        }
        let other = self.region_of(&journal.to);
        let site = self.copy_of(member, other, false).unwrap_or_default();
        match site.topology.journal() {
            Some(copy) if copy.id == journal.id && copy.phase.is_decided() => {
                let journal = copy.clone();
                (!journal.phase.is_over()).then(|| Lead {
                    journal,
                    region: other,
                    site: site.clone(),
                })
            }
            _ => (journal.phase != Phase::Done).then_some(here),
        }
    }

    /// Another move than before: what was done for the old one is forgotten.
    fn begin_move(&mut self, member: usize, journal: &Journal) {
        let drive = &mut self.members[member].daemon.agent.drive;
        if drive.id != journal.id {
            *drive = super::Drive { id: journal.id.clone(), ..Default::default() };
        }
    }

    fn perform_move(&mut self, member: usize, next: Next, lead: &Lead, from: Option<&Site>) {
        let (keys, now) = (self.members[member].keys.clone(), self.unix_ms());
        let name = self.members[member].name.0.clone();
        let txn = match next {
            Next::Rest | Next::Wait => return,
            Next::Do(work) => return self.begin_work(member, work),
            Next::Advance(phase) => {
                let mut journal = advanced(&lead.journal, phase, now, &name);
                if phase == Phase::CatchUp {
                    journal.tokens = tokens(&lead.journal, from);
                }
                Some(txn::write_journal(&keys, &lead.site.topology, &journal))
            }
            Next::Abort(why) => {
                let mut journal = advanced(&lead.journal, Phase::Aborted, now, &name);
                journal.error = Some(why);
                Some(txn::write_journal(&keys, &lead.site.topology, &journal))
            }
            Next::Commit => txn::commit(&keys, &lead.site.topology, now, &name, "then"),
            Next::Deliver => return self.deliver(member, lead),
        };
        if let Some(txn) = txn {
            self.agent_writes(member, lead.region, txn);
        }
    }

    fn deliver(&mut self, member: usize, lead: &Lead) {
        let to = self.region_of(&lead.journal.to);
        let (Some(known), Some(certificate)) =
            (self.copy_of(member, to, true), lead.site.topology.accepted())
        else {
            return;
        };
        let keys = &self.members[member].keys;
        let given = txn::deliver(keys, &known.topology, certificate, &lead.journal);
        if let Some(txn) = given {
            self.agent_writes(member, to, txn);
        }
    }

    /// Keeps the two copies of the journal in step.
    fn reconcile(&mut self, member: usize, own: &Site) {
        let region = self.members[member].place.region;
        let me = region_name(region);
        let Some(mine) = own.topology.journal().filter(|j| j.from == me) else { return };
        let other = self.region_of(&mine.to);
        let Some(theirs) = self.copy_of(member, other, true) else { return };
        let (to, site, journal) = if !mine.phase.is_decided() {
            (other, &*theirs, mine)
        } else {
            let Some(journal) = theirs.topology.journal().filter(|j| j.id == mine.id) else {
                return;
            };
            (region, own, journal)
        };
        if may_replace(site.topology.journal(), journal) {
            let keys = &self.members[member].keys;
            let txn = txn::write_journal(keys, &site.topology, journal);
            self.agent_writes(member, to, txn);
        }
    }

    fn begin_work(&mut self, member: usize, work: Work) {
        let m = &mut self.members[member];
        if m.daemon.agent.drive.working == Some(work) {
            return;
        }
        m.daemon.agent.drive.working = Some(work);
        let (life, id) = (m.daemon.life, m.daemon.agent.drive.id.clone());
        let ms = self.rng.range(30, 800);
        self.after(ms, Event::AgentWork { member, life, id, work });
    }

    pub fn on_agent_work(&mut self, member: usize, id: String, work: Work) {
        let fails = self.rng.percent(self.plan.job_fails / 3);
        let leaders = self.leaders_are_there(member);
        let drive = &mut self.members[member].daemon.agent.drive;
        if drive.id != id {
            return;
        }
        match work {
            Work::Preflight if leaders => drive.progress.findings = Some(Vec::new()),
            Work::Preflight => drive.progress.failure = Some("a group has no leader".into()),
            Work::Warm => drive.progress.is_warm = true,
            Work::Hold if fails => drive.progress.failure = Some("hold: it failed".into()),
            Work::Hold => drive.progress.is_held = true,
        }
    }

    fn leaders_are_there(&mut self, member: usize) -> bool {
        (0..self.stores.regions.len()).all(|region| {
            let site = self.copy_of(member, region, true).unwrap_or_default();
            !site.groups.is_empty()
                && site.groups.iter().all(|(g, view)| Target::leader_of(*g, view).is_some())
        })
    }

    /// Asks every group of the new side whose token is known.
    fn ask_for_receipts(
        &mut self,
        member: usize,
        journal: &Journal,
        from: Option<&Site>,
        to: Option<&Site>,
    ) {
        if !matches!(journal.phase, Phase::Stop | Phase::CatchUp | Phase::Certify) {
            return;
        }
        for (group, token) in tokens(journal, from) {
            let view = to.and_then(|site| site.groups.get(&group));
            let leader = view.and_then(|view| Target::leader_of(group, view));
            let seen = leader.and_then(|leader| self.replayed(member, &leader));
            if seen.is_some_and(|seen| is_receipt(&token, &seen)) {
                let drive = &mut self.members[member].daemon.agent.drive;
                drive.progress.caught.insert(group, token);
            }
        }
    }

    fn replayed(&self, member: usize, leader: &Target) -> Option<Replayed> {
        let other = self.members.iter().position(|m| m.host() == leader.host)?;
        let peer = &self.members[other];
        let reached = other == member || self.links.between(Wire::Rest, member, other);
        let up = matches!(peer.server.process, Process::Up(_)) && !peer.server.mute;
        (reached && up && peer.is_running()).then(|| Replayed {
            system_id: peer.server.system.clone().expect("a server that runs has a system id"),
            timeline: Some(Timeline(peer.server.log.timeline())),
            lsn: Lsn(peer.server.log.end()),
        })
    }
}
