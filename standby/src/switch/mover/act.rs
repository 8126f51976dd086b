//! The table's answers as writes of the leading journal, one at a time.

use super::super::Site;
use super::super::calls::{STORE_CALL_MS, Scene};
use super::super::effect::{AgentWrite, Answer, Severity};
use super::super::purpose::{Acting, JournalWrite, Lead, MoverCall, Purpose};
use super::super::question::tokens;
use super::super::table::{self, Next, advanced};
use super::{IDLE_MS, Mover, RECEIPTS_MS, RETRY_MIN_MS};
use std::sync::Arc;
use topology::RegionName;
use topology::region::{Journal, Phase};

/// The longest pause after writes that failed.
const RETRY_MAX_MS: u64 = 2_000;

impl Mover {
    pub(super) fn act(
        &mut self,
        scene: &mut Scene,
        answer: table::Answer,
        lead: &Lead,
        from: Option<Arc<Site>>,
    ) {
        let (row, why) = (answer.row, answer.why);
        let acting = |region: &RegionName, kind| Acting { row, why, region: region.clone(), kind };
        match answer.next {
            Next::Rest => self.act_again_in(scene, IDLE_MS),
            Next::Wait => self.act_again_in(scene, self.tick_ms),
            Next::Do(work) => {
                self.begin_work(scene, work, lead, from);
                self.act_again_in(scene, self.tick_ms);
            }
            Next::Advance(phase) => {
                let mut journal = self.journal(scene, lead, phase);
                if phase == Phase::CatchUp {
                    journal.tokens = tokens(&lead.journal, from.as_deref());
                }
                self.write_journal(
                    scene,
                    acting(&lead.region, journal_kind(&journal)),
                    lead,
                    journal,
                );
            }
            Next::Abort(error) => {
                let mut journal = self.journal(scene, lead, Phase::Aborted);
                journal.error = Some(error);
                self.write_journal(
                    scene,
                    acting(&lead.region, journal_kind(&journal)),
                    lead,
                    journal,
                );
            }
            Next::Commit => {
                let (id, to) = (lead.journal.id.clone(), lead.journal.to.clone());
                let acting = acting(&lead.region, JournalWrite::Commit { id, to });
                let at = scene.sight.date.clone();
                let write = AgentWrite::Commit { now_ms: scene.sight.unix_ms, at };
                self.write(scene, acting, lead.site.clone(), write);
            }
            Next::Deliver => {
                let acting = acting(&lead.journal.to, JournalWrite::Deliver);
                self.deliver(scene, acting, lead);
            }
        }
    }

    /// Nothing failed: the next failure is tried again soon.
    fn act_again_in(&mut self, scene: &Scene, ms: u64) {
        self.retry_ms = RETRY_MIN_MS;
        self.pause(scene, ms);
    }

    fn journal(&self, scene: &Scene, lead: &Lead, phase: Phase) -> Journal {
        advanced(&lead.journal, phase, scene.sight.unix_ms, &scene.identity.name)
    }

    fn write_journal(&mut self, scene: &mut Scene, acting: Acting, lead: &Lead, journal: Journal) {
        self.write(scene, acting, lead.site.clone(), AgentWrite::Journal(journal));
    }

    fn write(&mut self, scene: &mut Scene, acting: Acting, on: Arc<Site>, write: AgentWrite) {
        self.is_acting = true;
        let region = acting.region.clone();
        let purpose = Purpose::Mover(MoverCall::Act(Box::new(acting)));
        scene.write(&region, on, write, purpose);
    }

    /// Gives vote, certificate and journal to the new owner's store.
    fn deliver(&mut self, scene: &mut Scene, acting: Acting, lead: &Lead) {
        let region = acting.region.clone();
        if !scene.knows(&region) {
            return self.act_again_in(scene, IDLE_MS);
        }
        if lead.site.topology.accepted().is_none() {
            return self.act_again_in(scene, self.tick_ms);
        }
        match scene.live(&region) {
            Some(known) => self.deliver_on(scene, acting, lead, known),
            None => {
                self.is_acting = true;
                let (acting, lead) = (Box::new(acting), Box::new(lead.clone()));
                let call = MoverCall::ReadBeforeDelivery(acting, lead);
                scene.read(&region, STORE_CALL_MS, Purpose::Mover(call));
            }
        }
    }

    pub(super) fn read_before_delivery(
        &mut self,
        scene: &mut Scene,
        acting: Acting,
        lead: &Lead,
        answer: Answer,
    ) {
        self.is_acting = false;
        match answer {
            Answer::Read(known) => self.deliver_on(scene, acting, lead, known),
            other => self.failed(scene, &acting, &other.failure()),
        }
    }

    fn deliver_on(&mut self, scene: &mut Scene, acting: Acting, lead: &Lead, known: Arc<Site>) {
        let Some(certificate) = lead.site.topology.accepted() else { return };
        let certificate = Box::new(certificate.clone());
        let write = AgentWrite::Deliver { certificate, journal: lead.journal.clone() };
        self.write(scene, acting, known, write);
    }

    pub(super) fn acted(&mut self, scene: &mut Scene, acting: Acting, answer: &Answer) {
        self.is_acting = false;
        let pause = match (answer, &acting.kind) {
            (Answer::Written, kind) => {
                log_written(scene, kind);
                return self.ask_again_in(scene, 0);
            }
            (Answer::Conflict | Answer::NothingToWrite, JournalWrite::Deliver) => RECEIPTS_MS,
            // Another client wrote first: a read brings what it wrote to the next look.
            (Answer::Conflict, _) | (Answer::NothingToWrite, JournalWrite::Journal { .. }) => 0,
            (Answer::NothingToWrite, JournalWrite::Commit { .. }) => self.tick_ms,
            (other, _) => return self.failed(scene, &acting, &other.failure()),
        };
        self.is_acting = true;
        let region = acting.region.clone();
        let call = MoverCall::Reread(Box::new(acting), pause);
        scene.read(&region, STORE_CALL_MS, Purpose::Mover(call));
    }

    pub(super) fn reread(
        &mut self,
        scene: &mut Scene,
        acting: &Acting,
        pause_ms: u64,
        answer: &Answer,
    ) {
        self.is_acting = false;
        match answer {
            Answer::Read(_) => self.ask_again_in(scene, pause_ms),
            other => self.failed(scene, acting, &other.failure()),
        }
    }

    /// The act is over; what changed meanwhile is looked at now.
    fn ask_again_in(&mut self, scene: &mut Scene, ms: u64) {
        let is_news = self.is_overdue(scene);
        self.act_again_in(scene, ms);
        if ms == 0 || is_news {
            self.look(scene);
        }
    }

    fn failed(&mut self, scene: &mut Scene, acting: &Acting, why: &str) {
        let is_news = self.is_overdue(scene);
        self.pause(scene, self.retry_ms);
        self.retry_ms = (self.retry_ms * 2).min(RETRY_MAX_MS);
        self.mention(scene, acting.row, acting.why, why);
        if is_news {
            self.look(scene);
        }
    }

    /// Something changed while the act was under way.
    fn is_overdue(&self, scene: &Scene) -> bool {
        self.has_news || self.changes != Some(scene.sight.changes)
    }
}

fn journal_kind(journal: &Journal) -> JournalWrite {
    JournalWrite::Journal {
        id: journal.id.clone(),
        phase: journal.phase,
        error: journal.error.clone(),
    }
}

fn log_written(scene: &mut Scene, kind: &JournalWrite) {
    match kind {
        JournalWrite::Journal { id, phase, error } => {
            scene.log(Severity::Info, format!("move {id}: {phase:?}"));
            if let Some(why) = error {
                scene.log(Severity::Error, format!("move {id} is given up: {why}"));
            }
        }
        JournalWrite::Commit { id, to } => {
            scene.log(Severity::Info, format!("move {id}: region {to} owns now"));
        }
        JournalWrite::Deliver => {}
    }
}
