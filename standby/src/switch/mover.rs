//! Drives planned moves: asks the table, has its answer performed, asks again.
//!
//! A part of the agent, without I/O. All state that matters lies in the journals; a
//! mover that dies loses only work that the next one repeats.
//!
//! Invariants:
//! - every phase is a compare-and-set of the leading journal: the old owner's
//!   until the certificate, the new owner's after it. Two movers are slow, not
//!   wrong;
//! - one journal is written at a time, and the table is not asked meanwhile; the
//!   copy for the other region, receipts and work go on beside it;
//! - between holding and opening nothing is polled more slowly than `RECEIPTS_MS`:
//!   everything else comes through watches.

mod act;
mod receipts;
mod work;

use super::calls::{STORE_CALL_MS, Scene};
use super::effect::{AgentWrite, Answer, CallId, Effect, Severity};
use super::examining::Examining;
use super::local::may_replace;
use super::purpose::{Lead, MoverCall, Purpose};
use super::question::{Progress, Question, tokens};
use super::table::{Next, Work, awaited, next};
use super::{Site, table};
use receipts::Receipts;
use std::sync::Arc;
use topology::Millis;
use topology::region::{Journal, Phase};
use work::Warming;

/// Between two questions for one group's receipt.
const RECEIPTS_MS: u64 = 10;
/// The longest sleep while no move runs.
const IDLE_MS: u64 = 10_000;
/// Before the certificate the new owner's store is read this often, unless it was
/// heard from since; after `SILENCE_MS` without hearing from it, it counts as silent.
const LISTEN_MS: u64 = 500;
const SILENCE_MS: u64 = 2_000;
/// After a write that failed.
const RETRY_MIN_MS: u64 = 50;
/// A step that waits is mentioned in the log this often.
const MENTION_MS: u64 = 5_000;
/// How long a step may take when the store tells no policy.
const STEP_SECONDS: u64 = 20;
/// How long checkpoints may take at least: writes go on meanwhile.
const WARM_SECONDS: u64 = 300;

#[derive(Debug)]
pub(super) struct Mover {
    /// The longest sleep while a move runs: only deadlines are noticed so.
    tick_ms: u64,
    /// The move that `progress` belongs to.
    id: String,
    progress: Progress,
    /// The call that holds distributed commits back, or is about to.
    hold: Option<CallId>,
    working: Option<Work>,
    examining: Option<Examining>,
    warming: Option<Warming>,
    receipts: Receipts,
    /// The phase of the move, and when this mover first saw it.
    phase: Option<(Phase, Millis)>,
    /// When this mover first saw that the move holds writes.
    paused_at: Option<Millis>,
    /// When this mover first saw that every group has signed.
    signed_at: Option<Millis>,
    is_copying: bool,
    is_listening: bool,
    /// The new owner's store is not read again before, after a read that failed.
    listen_at: Millis,
    is_acting: bool,
    /// Work ended that the table was not asked about yet.
    has_news: bool,
    mentioned: Option<(u16, Millis)>,
    retry_ms: u64,
    /// When the table is asked again, and the changes that the last question knew.
    due: Millis,
    changes: Option<u64>,
}

impl Mover {
    pub(super) fn new(tick_ms: u64, now: Millis) -> Mover {
        Mover {
            tick_ms,
            id: String::new(),
            progress: Progress::default(),
            hold: None,
            working: None,
            examining: None,
            warming: None,
            receipts: Receipts::default(),
            phase: None,
            paused_at: None,
            signed_at: None,
            is_copying: false,
            is_listening: false,
            listen_at: now,
            is_acting: false,
            has_news: false,
            mentioned: None,
            retry_ms: RETRY_MIN_MS,
            due: now,
            changes: None,
        }
    }

    pub(super) fn wake(&mut self, scene: &mut Scene) {
        self.receipts.poll(scene);
        let is_changed = self.changes != Some(scene.sight.changes);
        if !self.is_acting && (is_changed || scene.now() >= self.due) {
            self.look(scene);
        }
    }

    /// When to wake the mover at the latest; `None`: an answer is awaited.
    pub(super) fn wake_at(&self) -> Option<Millis> {
        let due = (!self.is_acting).then_some(self.due);
        [due, self.receipts.next_at()].into_iter().flatten().min()
    }

    pub(super) fn answer(&mut self, scene: &mut Scene, call: MoverCall, answer: Answer) {
        let is_news = match call {
            MoverCall::Copy => {
                self.is_copying = false;
                scene.log_failure("the journal could not be copied", &answer);
                false
            }
            MoverCall::Listen => self.listened(scene, &answer),
            MoverCall::Examine(call) => self.examined(scene, call, answer),
            MoverCall::Checkpoint => self.warmed(scene, &answer),
            MoverCall::Hold => self.held(&answer),
            MoverCall::Replayed(target, token) => self.replayed(scene, target, token, &answer),
            MoverCall::WakeReplay(group) => {
                scene.log_failure("replay could not be woken", &answer);
                self.receipts.ask_later(group, scene.now());
                false
            }
            MoverCall::Act(acting) => return self.acted(scene, *acting, &answer),
            MoverCall::Reread(acting, pause) => return self.reread(scene, &acting, pause, &answer),
            MoverCall::ReadBeforeDelivery(acting, lead) => {
                return self.read_before_delivery(scene, *acting, &lead, answer);
            }
        };
        self.has_news |= is_news;
        if self.has_news && !self.is_acting {
            self.look(scene);
        }
    }

    /// One question to the table, and what its answer asks for.
    fn look(&mut self, scene: &mut Scene) {
        self.has_news = false;
        self.changes = Some(scene.sight.changes);
        let identity = scene.identity;
        let Some(own) = scene.site(&identity.region) else {
            return self.pause(scene, self.tick_ms);
        };
        self.reconcile(scene, &own);
        let Some(lead) = lead(scene, &own) else {
            self.let_go(scene);
            return self.pause(scene, IDLE_MS);
        };
        let from = scene.site(&lead.journal.from);
        self.begin_move(scene, &lead.journal, from.as_deref());
        self.listen(scene, &lead.journal, from.as_deref());
        let (answer, waits_for) = self.ask(scene, &lead, &own);
        self.receipts.ask(scene, &lead.journal, from.as_deref());
        if answer.next == Next::Wait {
            self.mention(scene, answer.row, answer.why, &waits_for);
        }
        self.act(scene, answer, &lead, from);
    }

    /// Nothing has to be done for that long, unless a read that failed is due again.
    fn pause(&mut self, scene: &Scene, ms: u64) {
        self.due = scene.now() + ms;
        if self.listen_at > scene.now() {
            self.due = self.due.min(self.listen_at);
        }
    }

    /// The table's answer, and what an operator reads when it is to wait.
    fn ask(&self, scene: &Scene, lead: &Lead, own: &Site) -> (table::Answer, String) {
        let journal = &lead.journal;
        let (from, to) = (scene.site(&journal.from), scene.site(&journal.to));
        let question = Question {
            me: &scene.identity.region,
            journal,
            own,
            from: from.as_deref(),
            to: to.as_deref(),
            progress: &self.progress,
            is_silent: self.is_silent(scene, journal),
            is_late: self.is_late(scene, step_seconds(own)),
            is_past_pause: self.is_past_pause(scene, journal),
        };
        let facts = question.facts();
        (next(journal, &facts), awaited(journal, &facts))
    }

    /// Another move than before: what was done for the old one is forgotten.
    fn begin_move(&mut self, scene: &mut Scene, journal: &Journal, from: Option<&Site>) {
        if self.id != journal.id {
            scene.give_up(|purpose| matches!(purpose, Purpose::Mover(call) if call.is_work()));
            self.let_go(scene);
            self.id = journal.id.clone();
            self.progress = Progress::default();
            self.working = None;
            self.examining = None;
            self.warming = None;
            self.phase = None;
            self.paused_at = None;
            self.signed_at = None;
            self.is_listening = false;
            self.receipts = Receipts::default();
        }
        if self.phase.is_none_or(|(phase, _)| phase != journal.phase) {
            self.phase = Some((journal.phase, scene.now()));
        }
        if journal.phase >= Phase::Hold {
            self.paused_at.get_or_insert(scene.now());
        }
        if !needs_hold(journal, from) {
            self.let_go(scene);
        }
    }

    /// By this process's own clock: the wall clocks of two drivers may differ. A driver
    /// that goes on for another one counts from the moment at which it saw the phase.
    fn is_late(&self, scene: &Scene, step_seconds: u64) -> bool {
        let Some((phase, since)) = self.phase else { return false };
        let limit_s = if phase == Phase::Warm { WARM_SECONDS } else { 0 }.max(step_seconds);
        scene.now().since(since) > limit_s.saturating_mul(1_000)
    }

    /// By this process's own clock, as `is_late`.
    fn is_past_pause(&self, scene: &Scene, journal: &Journal) -> bool {
        let limit_s = journal.limits.pause_seconds_max;
        limit_s.zip(self.paused_at).is_some_and(|(limit_s, since)| {
            scene.now().since(since) > limit_s.saturating_mul(1_000)
        })
    }

    /// Ends the hold, also one that is about to begin.
    fn let_go(&mut self, scene: &mut Scene) {
        if let Some(id) = self.hold.take() {
            scene.calls.end(id);
            scene.out.push(Effect::End(id));
        }
    }

    /// The decision needs an answer that is younger than the last signature: it
    /// is awaited beside the receipts and costs no time of its own.
    fn is_silent(&self, scene: &Scene, journal: &Journal) -> bool {
        if !scene.knows(&journal.to) {
            return false;
        }
        let heard = scene.copy(&journal.to).map(|copy| copy.heard);
        heard.is_none_or(|at| {
            scene.now().since(at) >= SILENCE_MS || self.signed_at.is_some_and(|s| at <= s)
        })
    }

    /// A store that is frozen looks in the copy as if nothing happened there, so
    /// it is asked while the decision is still ahead.
    fn listen(&mut self, scene: &mut Scene, journal: &Journal, from: Option<&Site>) {
        let is_ahead = (Phase::Warm..=Phase::Certify).contains(&journal.phase);
        if !is_ahead || !scene.knows(&journal.to) {
            return;
        }
        if journal.phase >= Phase::Stop && all_signed(journal, from) {
            self.signed_at.get_or_insert(scene.now());
        }
        let heard = scene.copy(&journal.to).map(|copy| copy.heard);
        let is_young = heard.is_some_and(|at| scene.now().since(at) < LISTEN_MS);
        let is_heard = is_young && !self.is_silent(scene, journal);
        if self.is_listening || is_heard || scene.now() < self.listen_at {
            return;
        }
        self.is_listening = true;
        scene.read(&journal.to, STORE_CALL_MS, Purpose::Mover(MoverCall::Listen));
    }

    fn listened(&mut self, scene: &mut Scene, answer: &Answer) -> bool {
        self.is_listening = false;
        if let Answer::Failed(_) = answer {
            scene.log_failure("the new owner's store", answer);
            self.listen_at = scene.now() + RECEIPTS_MS;
        }
        true
    }

    /// Keeps the two copies of the journal in step, without waiting for it: the
    /// old owner tells the other store until the certificate, and learns from it
    /// afterwards. A copy that fails is tried again with the next look.
    fn reconcile(&mut self, scene: &mut Scene, own: &Arc<Site>) {
        let me = &scene.identity.region;
        let Some(mine) = own.topology.journal().filter(|j| j.from == *me) else { return };
        if self.is_copying || !scene.knows(&mine.to) {
            return;
        }
        let Some(other) = scene.live(&mine.to) else { return };
        let theirs = other.topology.journal().filter(|j| j.id == mine.id);
        let (region, site, journal) = match (mine.phase.is_decided(), theirs) {
            (false, _) => (&mine.to, &other, mine),
            (true, Some(theirs)) => (me, own, theirs),
            (true, None) => return,
        };
        if may_replace(site.topology.journal(), journal) {
            self.is_copying = true;
            let write = AgentWrite::Journal(journal.clone());
            scene.write(region, site.clone(), write, Purpose::Mover(MoverCall::Copy));
        }
    }

    fn mention(&mut self, scene: &mut Scene, row: u16, why: &str, what: &str) {
        match self.mentioned {
            Some((last, at)) if last == row && scene.now().since(at) < MENTION_MS => return,
            Some((last, _)) if last == row => {
                let text = format!("move {}, row {row}, {why}: {what}", self.id);
                scene.log(Severity::Warn, text);
            }
            _ => {}
        }
        self.mentioned = Some((row, scene.now()));
    }
}

impl MoverCall {
    /// Work of one move, which is given up with the move.
    fn is_work(&self) -> bool {
        match self {
            MoverCall::Listen
            | MoverCall::Examine(_)
            | MoverCall::Checkpoint
            | MoverCall::Hold
            | MoverCall::Replayed(..)
            | MoverCall::WakeReplay(_) => true,
            MoverCall::Copy
            | MoverCall::Act(_)
            | MoverCall::Reread(..)
            | MoverCall::ReadBeforeDelivery(..) => false,
        }
    }
}

fn step_seconds(site: &Site) -> u64 {
    site.topology.policy.as_ref().map_or(STEP_SECONDS, |policy| policy.value.step_seconds)
}

/// A group that still runs could decide a distributed transaction of one that has signed
/// its end: so the hold lasts until the last signature.
fn needs_hold(journal: &Journal, from: Option<&Site>) -> bool {
    match journal.phase {
        Phase::Hold => true,
        Phase::Stop => !all_signed(journal, from),
        _ => false,
    }
}

fn all_signed(journal: &Journal, from: Option<&Site>) -> bool {
    let signed = tokens(journal, from);
    journal.groups.iter().all(|group| signed.contains_key(group))
}

/// The journal to act on, if any is this region's to act on.
fn lead(scene: &Scene, own: &Arc<Site>) -> Option<Lead> {
    let journal = own.topology.journal()?.clone();
    let me = &scene.identity.region;
    let here = |journal| Lead { journal, region: me.clone(), site: own.clone() };
    if *me != journal.from || !journal.phase.is_decided() {
        let is_ours = *me == journal.from || *me == journal.to;
        return (is_ours && !journal.phase.is_over()).then(|| here(journal));
    }
    if !scene.knows(&journal.to) {
        return None;
    }
    // Decided: the new owner's copy leads as soon as it is there.
    let site = scene.site(&journal.to).unwrap_or_default();
    match site.topology.journal().cloned() {
        Some(copy) if copy.id == journal.id && copy.phase.is_decided() => {
            let region = copy.to.clone();
            (!copy.phase.is_over()).then(|| Lead { journal: copy, region, site: site.clone() })
        }
        _ => (journal.phase != Phase::Done).then(|| here(journal)),
    }
}
