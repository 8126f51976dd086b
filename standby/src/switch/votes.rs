//! Votes, certificates and published records of the other regions: one turn of an agent.
//!
//! A turn publishes what changed in the other regions, then asks `agent_step` until
//! nothing is left to do, then passes the certificate on to stores that lack it. It
//! waits for one call at a time, only reads of the other stores run side by side.
//!
//! Invariant: what cannot be done is logged once as an error and tried again.

use super::calls::{REMOTE_CALL_MS, STORE_CALL_MS, Scene};
use super::effect::{AgentWrite, Answer, Severity, Sites};
use super::publisher::{Publisher, observed_region};
use super::purpose::{Purpose, VotesCall};
use super::register::{AgentFacts, AgentStep, agent_step, behind, policy_conflict};
use super::{LocalTopology, Site};
use std::sync::Arc;
use topology::region::{Certificate, Journal};
use topology::{Millis, RegionName, Seen};

/// Between two reads of the other stores, and between two forwarded certificates.
const AGAIN_MS: u64 = 1_000;
/// Steps in a row before the turn ends.
const ROUNDS_MAX: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Votes {
    publisher: Publisher,
    /// When reading the other stores did not help, and when certificates were forwarded last.
    asked_at: Option<Millis>,
    forwarded_at: Option<Millis>,
    /// Since when the own store shows less than this host has seen of it.
    behind_since: Option<Millis>,
    /// The error that was logged last.
    last_error: Option<String>,
    /// `None`: no turn is under way.
    turn: Option<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    /// The epoch whose mark this process has just seen alive.
    mark: Option<u64>,
    rounds: usize,
    /// What the other stores answered, for the next step only.
    asked: Option<Sites>,
    /// Answers of the reads under way.
    asking: Sites,
}

impl Votes {
    pub(super) fn is_busy(&self) -> bool {
        self.turn.is_some()
    }

    pub(super) fn begin(&mut self, scene: &mut Scene, mark: Option<u64>) {
        self.turn = Some(Turn { mark, ..Turn::default() });
        self.publish_after(scene, None);
    }

    pub(super) fn answer(&mut self, scene: &mut Scene, call: VotesCall, answer: Answer) {
        match call {
            VotesCall::Publish(region) => self.published(scene, &region, &answer),
            VotesCall::Step(step) => self.stepped(scene, step, &answer),
            VotesCall::Reread => self.reread(scene, &answer),
            VotesCall::SharePolicy => self.shared(scene, &answer),
            VotesCall::Ask(region) => self.site_read(scene, region, answer),
        }
    }

    /// Tells the own daemons what the next region that changed looks like.
    fn publish_after(&mut self, scene: &mut Scene, last: Option<&RegionName>) {
        if let Some(own) = scene.own() {
            let identity = scene.identity;
            let names = identity.others.iter().filter(|name| last.is_none_or(|l| *name > l));
            for name in names {
                let Some(site) = scene.live(name) else { continue };
                let peer = observed_region(name, &site);
                if self.publisher.is_due(&peer, own.topology.peers.get(name), scene.now()) {
                    let purpose = Purpose::Votes(VotesCall::Publish(name.clone()));
                    return scene.write(&identity.region, own, AgentWrite::Peer(peer), purpose);
                }
            }
        }
        self.take_steps(scene);
    }

    fn published(&mut self, scene: &mut Scene, region: &RegionName, answer: &Answer) {
        match answer {
            Answer::Failed(why) => {
                let text = format!("region {region} could not be published: {why}");
                scene.log(Severity::Warn, text);
            }
            _ => self.publisher.wrote(region, scene.now()),
        }
        self.publish_after(scene, Some(region));
    }

    /// Steps until a call is under way or nothing is left to do.
    fn take_steps(&mut self, scene: &mut Scene) {
        loop {
            let (Some(turn), Some(own)) = (&mut self.turn, scene.own()) else {
                return self.finish(scene, None);
            };
            if turn.rounds == ROUNDS_MAX {
                return self.finish(scene, None);
            }
            turn.rounds += 1;
            let (asked, mark) = (turn.asked.take(), turn.mark);
            let step = next_step(scene, &own.topology, asked.as_ref(), mark);
            if !matches!(step, AgentStep::Behind(_)) {
                self.behind_since = None;
            }
            match step {
                AgentStep::Settled => {
                    self.asked_at = asked.map(|_| scene.now()).or(self.asked_at);
                    return self.finish(scene, conflict(scene, &own));
                }
                AgentStep::Blocked(why) => {
                    self.asked_at = asked.is_some().then_some(scene.now());
                    return self.finish(scene, Some(why));
                }
                AgentStep::Behind(why) => {
                    let since = *self.behind_since.get_or_insert(scene.now());
                    let is_late_copy = is_recent(scene, Some(since));
                    return self.finish(scene, Some(why).filter(|_| !is_late_copy));
                }
                AgentStep::AskOthers if is_recent(scene, self.asked_at) => {
                    return self.finish(scene, self.last_error.clone());
                }
                AgentStep::AskOthers if self.ask(scene) => return,
                AgentStep::AskOthers => {}
                step => {
                    if let Some(write) = write_of(scene, &step, &own) {
                        return perform(scene, step, write, own);
                    }
                }
            }
        }
    }

    /// Reads all other stores at once. False: there are none.
    fn ask(&mut self, scene: &mut Scene) -> bool {
        let Some(turn) = &mut self.turn else { return false };
        turn.asking.clear();
        if scene.identity.others.is_empty() {
            turn.asked = Some(Sites::new());
            return false;
        }
        let identity = scene.identity;
        for name in &identity.others {
            let purpose = Purpose::Votes(VotesCall::Ask(name.clone()));
            scene.read(name, REMOTE_CALL_MS, purpose);
        }
        true
    }

    fn site_read(&mut self, scene: &mut Scene, region: RegionName, answer: Answer) {
        let Some(turn) = &mut self.turn else { return };
        let seen = match answer {
            Answer::Read(site) => Seen::Known(site.topology.clone()),
            _ => Seen::Unknown,
        };
        turn.asking.insert(region, seen);
        if turn.asking.len() == scene.identity.others.len() {
            turn.asked = Some(std::mem::take(&mut turn.asking));
            self.take_steps(scene);
        }
    }

    fn stepped(&mut self, scene: &mut Scene, step: AgentStep, answer: &Answer) {
        match answer {
            Answer::Written | Answer::NothingToWrite => {
                log_step(scene, &step);
                self.take_steps(scene);
            }
            Answer::Conflict => {
                let me = scene.identity;
                let purpose = Purpose::Votes(VotesCall::Reread);
                scene.read(&me.region, STORE_CALL_MS, purpose);
            }
            other => self.finish(scene, Some(other.failure())),
        }
    }

    /// Another agent was faster: what the store says now decides.
    fn reread(&mut self, scene: &mut Scene, answer: &Answer) {
        match answer {
            Answer::Read(_) => self.take_steps(scene),
            other => self.finish(scene, Some(other.failure())),
        }
    }

    fn shared(&mut self, scene: &mut Scene, answer: &Answer) {
        match answer {
            Answer::Failed(why) => self.finish(scene, Some(why.clone())),
            _ => self.take_steps(scene),
        }
    }

    /// Ends the turn; `why` says what hinders the agent.
    fn finish(&mut self, scene: &mut Scene, why: Option<String>) {
        if let Some(why) = why.filter(|why| self.last_error.as_ref() != Some(why)) {
            scene.log(Severity::Error, format!("region {}: {why}", scene.identity.region));
            self.last_error = Some(why);
        }
        self.forward(scene);
        self.turn = None;
    }

    /// Passes the certificate on to stores that are seen to lack it.
    fn forward(&mut self, scene: &mut Scene) {
        let Some(own) = scene.own() else { return };
        let Some(certificate) = own.topology.accepted() else { return };
        if is_recent(scene, self.forwarded_at) {
            return;
        }
        let others = scene.watched();
        let facts = AgentFacts { at: "", ..facts(scene, &own.topology, &others) };
        let lacking: Vec<RegionName> = behind(&facts).into_iter().cloned().collect();
        let journal = own.topology.journal().filter(|j| brings(j, certificate));
        for region in lacking {
            self.forwarded_at = Some(scene.now());
            let Some(site) = scene.live(&region) else { continue };
            let certificate = Box::new(certificate.clone());
            let write = AgentWrite::Adopt { certificate, journal: journal.cloned() };
            scene.write(&region, site, write, Purpose::Forward);
        }
    }
}

fn is_recent(scene: &Scene, at: Option<Millis>) -> bool {
    at.is_some_and(|at| scene.now().since(at) < AGAIN_MS)
}

fn facts<'a>(scene: &'a Scene, local: &'a LocalTopology, others: &'a Sites) -> AgentFacts<'a> {
    AgentFacts {
        me: &scene.identity.region,
        settings: &scene.identity.settings,
        local,
        others,
        asked: None,
        mark: None,
        memory: scene.sight.memory.as_deref(),
        session: scene.key.session,
        at: &scene.sight.date,
    }
}

fn next_step(
    scene: &Scene,
    local: &LocalTopology,
    asked: Option<&Sites>,
    mark: Option<u64>,
) -> AgentStep {
    let others = scene.watched();
    agent_step(&AgentFacts { asked, mark, ..facts(scene, local, &others) })
}

/// Does the daemon's own policy differ from the one in force?
fn conflict(scene: &Scene, own: &Site) -> Option<String> {
    let stored = own.topology.policy.as_ref()?;
    policy_conflict(&scene.identity.settings, &stored.value)
}

/// Is this the journal of the move that ended with the certificate?
fn brings(journal: &Journal, certificate: &Certificate) -> bool {
    journal.phase.is_decided() && journal.epoch + 1 == certificate.epoch
}

/// What a step writes; `None`: it has nothing to write, or no way to that store.
fn write_of(scene: &Scene, step: &AgentStep, own: &Site) -> Option<AgentWrite> {
    match step {
        AgentStep::WritePolicy => Some(AgentWrite::Policy(scene.identity.settings.clone())),
        AgentStep::SharePolicy(region) => {
            let policy = own.topology.policy.as_ref().filter(|_| scene.knows(region))?;
            Some(AgentWrite::Policy(policy.value.clone()))
        }
        AgentStep::CreateFirst(first) => Some(AgentWrite::CreateFirst(first.clone())),
        AgentStep::Adopt(certificate) => {
            let journal = journal_of(scene, certificate);
            Some(AgentWrite::Adopt { certificate: certificate.clone(), journal })
        }
        AgentStep::Verify(epoch) => Some(AgentWrite::Verify(*epoch)),
        AgentStep::Record(acceptor) => Some(AgentWrite::Record(acceptor.clone())),
        AgentStep::AskOthers
        | AgentStep::Blocked(_)
        | AgentStep::Behind(_)
        | AgentStep::Settled => None,
    }
}

/// A policy is shared with the store that lacks it, everything else is written at home.
fn perform(scene: &mut Scene, step: AgentStep, write: AgentWrite, own: Arc<Site>) {
    match step {
        AgentStep::SharePolicy(region) => {
            // Written where there is none: what the store holds beside it does not count.
            let on = scene.site(&region).unwrap_or_default();
            scene.write(&region, on, write, Purpose::Votes(VotesCall::SharePolicy));
        }
        step => {
            let identity = scene.identity;
            scene.write(&identity.region, own, write, Purpose::Votes(VotesCall::Step(step)));
        }
    }
}

/// The journal of the move comes with its certificate: without it the
/// coordinator could not tell when its quarantine ends.
fn journal_of(scene: &Scene, certificate: &Certificate) -> Option<Journal> {
    let sites = scene.identity.others.iter().filter_map(|name| scene.site(name));
    let journals = sites.filter_map(|site| site.topology.journal().cloned());
    journals.filter(|j| brings(j, certificate)).max_by_key(|j| j.phase)
}

fn log_step(scene: &mut Scene, step: &AgentStep) {
    let text = match step {
        AgentStep::WritePolicy => "the policy of the settings is in the store now".to_string(),
        AgentStep::CreateFirst(c) => format!("the first certificate names region {}", c.owner),
        AgentStep::Adopt(c) => {
            format!("certificate of epoch {} accepted, {} owns", c.epoch, c.owner)
        }
        AgentStep::Verify(epoch) => format!("epoch {epoch} is confirmed"),
        AgentStep::SharePolicy(_)
        | AgentStep::Record(_)
        | AgentStep::AskOthers
        | AgentStep::Blocked(_)
        | AgentStep::Behind(_)
        | AgentStep::Settled => return,
    };
    scene.log(Severity::Info, format!("region {}: {text}", scene.identity.region));
}
