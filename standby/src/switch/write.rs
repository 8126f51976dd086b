//! The writes of regions: what is written, and what it is decided on.
//!
//! The daemon and the simulator perform the same ones. That a store takes them, and which
//! of them exclude each other, is tested with a store (`node/src/region/write_tests.rs`).
//!
//! Invariant *one decision*: `commit` is the only write that decides a move; `deliver`
//! and `adopt` carry a decision to other stores. `commit` compares the old owner's vote,
//! certificate and journal with what the decision was made on, so an abort and a commit
//! exclude each other.

use super::effect::{AgentKey, AgentWrite, Claim, StoreWrite};
use super::local::{comes_with, with_move};
use super::register::{accept, successor};
use super::table::advanced;
use super::{LocalTopology, occurrence};
use topology::acceptor::Acceptor;
use topology::region::{Certificate, Journal, PeerRegion, Phase, Policy, SignedToken, Token};
use topology::schedule::{Outcome, Schedule};
use topology::write::{Acceptance, JournalWrite, Mark, RegionWrite, Replacement};
use topology::{MemberName, Write};

/// What an agent writes, on the site that it was decided on. `None`: that site
/// leaves nothing to write.
pub fn of_agent(write: &StoreWrite) -> Option<Write> {
    let (local, key) = (&write.on.topology, &write.key);
    match &write.write {
        AgentWrite::Policy(stored) => Some(policy(stored)),
        AgentWrite::CreateFirst(certificate) => create_first(local, certificate),
        AgentWrite::Adopt { certificate, journal } => adopt(local, certificate, journal.as_ref()),
        AgentWrite::Verify(epoch) => Some(verify(local, *epoch, key)),
        AgentWrite::Record(acceptor) => Some(record(local, acceptor, key)),
        AgentWrite::Peer(peer) => Some(publish_peer(peer, key)),
        AgentWrite::Journal(journal) => Some(write_journal(local, journal)),
        AgentWrite::Schedule(schedule) => Some(put_schedule(local, schedule, None)),
        AgentWrite::RemoveSchedule(id) => {
            let on = local.version(&schedule_key(id))?;
            Some(Write::Region(RegionWrite::RemoveSchedule { id: id.clone(), on }))
        }
        AgentWrite::Conclude { id, outcome, journal, now_ms } => {
            conclude(local, id, outcome, journal.as_deref(), *now_ms)
        }
        AgentWrite::Commit { now_ms, at } => commit(local, *now_ms, &key.name, at),
        AgentWrite::Deliver { certificate, journal } => deliver(local, certificate, journal),
    }
}

/// What changes the agent's key.
pub fn campaign(local: &LocalTopology, key: &AgentKey, claim: Claim) -> Write {
    match claim {
        Claim::Elect => elect(local, key),
        Claim::Resign => resign(key),
    }
}

/// Become the region's agent, or move the own key onto the present lease.
pub fn elect(local: &LocalTopology, key: &AgentKey) -> Write {
    let (agent, session) = (key.name.clone(), key.session);
    Write::Region(match &local.agent {
        Some(there) if there.value == agent => RegionWrite::AdoptAgent { agent, session },
        _ => RegionWrite::ElectAgent { agent, session },
    })
}

/// Gives up being the agent.
pub fn resign(key: &AgentKey) -> Write {
    Write::Region(RegionWrite::ResignAgent { agent: key.name.clone() })
}

/// The policy, where there is none.
pub fn policy(policy: &Policy) -> Write {
    Write::Region(RegionWrite::PutPolicy(Box::new(policy.clone())))
}

/// A certificate accepted by one site: its vote, the certificate in force and,
/// when it comes with a move, the journal. `None`: the site holds it already.
pub fn adopt(
    local: &LocalTopology,
    certificate: &Certificate,
    journal: Option<&Journal>,
) -> Option<Write> {
    let acceptance = acceptance(local, certificate, journal)?;
    Some(Write::Region(RegionWrite::Accept(Box::new(acceptance))))
}

fn acceptance(
    local: &LocalTopology,
    certificate: &Certificate,
    journal: Option<&Journal>,
) -> Option<Acceptance> {
    let vote = accept(local.register.as_ref().map(|r| &r.value), certificate);
    let is_damaged = local.certificate() != Some(certificate);
    let restores = local.accepted() == Some(certificate) && is_damaged;
    if vote.is_none() && !restores {
        return None;
    }
    let journal = journal.filter(|journal| comes_with(certificate, local.journal(), journal));
    Some(Acceptance {
        certificate: on(local, "certificate", certificate.clone()),
        vote,
        register: local.version("register"),
        journal: journal.map(|journal| journal_on(local, journal)),
        mark: None,
    })
}

/// A value in the place of a key below `topology/` as it was read.
fn on<T>(local: &LocalTopology, key: &str, value: T) -> Replacement<T> {
    Replacement { value, on: local.version(key) }
}

/// The first certificate, in a store whose policy is the one it was made for.
pub fn create_first(local: &LocalTopology, certificate: &Certificate) -> Option<Write> {
    let acceptance = Box::new(acceptance(local, certificate, None)?);
    let policy = local.version("policy");
    Some(Write::Region(RegionWrite::CreateFirst { acceptance, policy }))
}

/// The mark that this epoch was confirmed, gone with the agent's lease.
pub fn verify(local: &LocalTopology, epoch: u64, key: &AgentKey) -> Write {
    Write::Region(RegionWrite::Verify {
        agent: key.name.clone(),
        mark: Mark { epoch, session: key.session },
        certificate: local.version("certificate"),
        register: local.version("register"),
    })
}

/// The acceptor, beside the vote that it was made of.
pub fn record(local: &LocalTopology, acceptor: &Acceptor, key: &AgentKey) -> Write {
    Write::Region(RegionWrite::PutAcceptor {
        agent: key.name.clone(),
        acceptor: Box::new(on(local, "acceptor", acceptor.clone())),
        register: local.version("register"),
    })
}

/// What was seen of another region.
fn publish_peer(peer: &PeerRegion, key: &AgentKey) -> Write {
    let (agent, peer) = (key.name.clone(), Box::new(peer.clone()));
    Write::Region(RegionWrite::PutPeer { agent, peer })
}

/// The next journal; a move that is over also becomes a line of the history.
pub fn write_journal(local: &LocalTopology, journal: &Journal) -> Write {
    Write::Region(RegionWrite::PutJournal(Box::new(journal_on(local, journal))))
}

fn journal_on(local: &LocalTopology, journal: &Journal) -> JournalWrite {
    let past = local.history.as_ref().map_or(&[][..], |h| &h.value);
    let history = journal.phase.is_over().then(|| with_move(past, journal));
    JournalWrite {
        journal: on(local, "switch", journal.clone()),
        history: history.map(|lines| on(local, "history", lines)),
    }
}

fn schedule_key(id: &str) -> String {
    format!("schedule/{id}")
}

/// A schedule in the place of what was read, and with it the request of its move.
pub fn put_schedule(
    local: &LocalTopology,
    schedule: &Schedule,
    journal: Option<&Journal>,
) -> Write {
    let schedule = on(local, &schedule_key(&schedule.id), schedule.clone());
    let journal = journal.map(|journal| Box::new(journal_on(local, journal)));
    Write::Region(RegionWrite::PutSchedule { schedule: Box::new(schedule), journal })
}

/// The end of a schedule's present occurrence. `None`: it is over, or is not there.
pub fn conclude(
    local: &LocalTopology,
    id: &str,
    outcome: &Outcome,
    journal: Option<&Journal>,
    now_ms: u64,
) -> Option<Write> {
    let schedule = local.schedules.get(id).filter(|schedule| schedule.is_pending())?;
    Some(put_schedule(local, &occurrence::concluded(schedule, outcome, now_ms).0, journal))
}

/// Why a cron line's schedule ends with this write, though no person has ended it.
pub fn lost_schedule(write: &StoreWrite) -> Option<String> {
    let AgentWrite::Conclude { id, outcome, now_ms, .. } = &write.write else { return None };
    let schedule = write.on.topology.schedules.get(id)?;
    let why = occurrence::concluded(schedule, outcome, *now_ms).1?;
    Some(format!("schedule {id} ends: {why}"))
}

/// Decides a planned move, in the old owner's store.
///
/// `None`: what was read does not allow it (no vote for the epoch in force, the journal
/// is not in the phase before the decision, or an operator has asked for its end).
pub fn commit(old: &LocalTopology, now_ms: u64, driver: &str, at: &str) -> Option<Write> {
    let (register, in_force) = (&old.register.as_ref()?.value, old.certificate()?);
    let mut journal = old.journal()?.clone();
    let ready = matches!(journal.phase, Phase::Stop | Phase::CatchUp | Phase::Certify);
    let ours = in_force.epoch == journal.epoch && in_force.owner == journal.from;
    if !ready || !ours || journal.abort.is_some() || register.accepted.as_ref() != Some(in_force) {
        return None;
    }
    if journal.phase == Phase::Stop {
        journal.tokens = old.tokens_of(&journal.id);
    }
    let signed = journal.groups.iter().all(|group| journal.tokens.contains_key(group));
    assert!(signed, "fence before open: a group of the old side did not sign");
    let next = successor(register, in_force, &journal.to, &journal.tokens, at);
    for phase in [Phase::CatchUp, Phase::Certify, Phase::Open] {
        if phase > journal.phase {
            journal = advanced(&journal, phase, now_ms, driver);
        }
    }
    adopt(old, &next, Some(&journal))
}

/// The decision, told to the new owner's store.
///
/// A mark of its agent is carried over to the new epoch, as the agent itself
/// would do it one write later: the vote that rises here is the newest there is.
pub fn deliver(new: &LocalTopology, certificate: &Certificate, journal: &Journal) -> Option<Write> {
    let mut acceptance = acceptance(new, certificate, Some(journal))?;
    if let (Some(agent), Some(mark)) = (&new.agent, &new.verified)
        && let Some(session) = agent.session.filter(|_| mark.is_on(agent.session))
        && mark.value.epoch + 1 == certificate.epoch
    {
        let next = Mark { epoch: certificate.epoch, session };
        acceptance.mark = Some(on(new, "verified", next));
    }
    Some(Write::Region(RegionWrite::Accept(Box::new(acceptance))))
}

/// A stopped group's signature under the end of its history.
///
/// It holds only for the move that asked for it: while the journal is as it
/// was read and the signer has the group's lock. `None`: no move `id` stops
/// this region's groups.
pub fn sign(local: &LocalTopology, me: &MemberName, id: &str, token: &Token) -> Option<Write> {
    let journal = local.switch.as_ref()?;
    if journal.value.id != id || !journal.value.phase.old_side_stopped() {
        return None;
    }
    let token = Box::new(SignedToken { id: id.to_string(), token: token.clone() });
    let (me, journal) = (me.clone(), local.version("switch"));
    Some(Write::Region(RegionWrite::SignToken { me, token, journal }))
}

#[cfg(test)]
mod tests {
    use super::super::register::first;
    use super::*;
    use crate::made_up_move::journal;
    use topology::region::{AbortRequest, Register};
    use topology::{Group, Lsn, SystemId, Timeline};

    fn certificate(owner: &str) -> Certificate {
        let text = r#"{"formation":"s","regions":[
            {"name":"a","endpoints":["a:1"]},{"name":"b","endpoints":["b:1"]}]}"#;
        let policy: Policy = serde_json::from_str(text).expect("a policy");
        first(&policy, &owner.into(), "now")
    }

    /// The store of `a`, which owns the formation since epoch 1.
    fn owned(journal: &Journal, in_force: &str) -> LocalTopology {
        let mine = certificate("a");
        let register = json(&Register { promised: 1, accepted: Some(mine) });
        let keys =
            [("register", &*register), ("certificate", in_force), ("switch", &json(journal))];
        LocalTopology::read(keys)
    }

    fn json<T: serde::Serialize>(value: &T) -> String {
        serde_json::to_string(value).expect("it can be written")
    }

    fn decides(journal: &Journal) -> bool {
        commit(&owned(journal, &json(&certificate("a"))), 5, "a/n1", "now").is_some()
    }

    #[test]
    fn nothing_is_committed_outside_its_phase_or_epoch() {
        for phase in [Phase::Stop, Phase::CatchUp, Phase::Certify] {
            assert!(decides(&journal(phase)), "{phase}");
        }
        for phase in [Phase::Requested, Phase::Hold, Phase::Open, Phase::Done, Phase::Aborted] {
            assert!(!decides(&journal(phase)), "{phase}");
        }
        assert!(!decides(&Journal { epoch: 7, ..journal(Phase::CatchUp) }));
        assert!(!decides(&Journal { from: "b".into(), ..journal(Phase::CatchUp) }));
        let abort = Some(AbortRequest { host: "desk".into(), at_ms: 5 });
        assert!(!decides(&Journal { abort, ..journal(Phase::CatchUp) }));
    }

    #[test]
    fn a_certificate_that_its_own_site_has_not_accepted_decides_nothing() {
        let foreign = json(&Certificate { at: "later".into(), ..certificate("a") });
        let old = owned(&journal(Phase::CatchUp), &foreign);
        assert_eq!(commit(&old, 5, "a/n1", "now"), None);
    }

    #[test]
    #[should_panic(expected = "fence before open")]
    fn a_group_without_a_signature_is_never_passed_over() {
        let groups = vec![Group::PLAIN];
        decides(&Journal { groups, ..journal(Phase::CatchUp) });
    }

    #[test]
    fn a_vote_is_never_lowered_but_a_damaged_certificate_is_restored() {
        let mine = certificate("a");
        let local = owned(&journal(Phase::Hold), &json(&mine));
        assert_eq!(adopt(&local, &mine, None), None);
        assert_eq!(adopt(&local, &certificate("b"), None), None);
        let damaged = owned(&journal(Phase::Hold), "?");
        let Some(Write::Region(RegionWrite::Accept(repair))) = adopt(&damaged, &mine, None) else {
            panic!("it is not restored");
        };
        assert_eq!((repair.certificate.value, repair.vote), (mine, None));
    }

    #[test]
    fn only_the_move_that_stops_a_group_is_signed() {
        let system_id = SystemId("7710375988543033523".into());
        let token = Token { system_id, timeline: Timeline(1), lsn: Lsn(7) };
        let signs = |phase, id: &str| {
            let local = owned(&journal(phase), &json(&certificate("a")));
            sign(&local, &"n1".into(), id, &token).is_some()
        };
        assert!(signs(Phase::Stop, "m"));
        assert!(!signs(Phase::Stop, "other") && !signs(Phase::Hold, "m"));
        assert!(!signs(Phase::Aborted, "m"));
    }

    #[test]
    fn a_schedule_whose_line_has_no_next_occurrence_is_told_of() {
        let line =
            topology::schedule::CronLine { line: "0 0 31 2 *".into(), timezone: "UTC".into() };
        let cron = Some(line);
        let schedule = Schedule { cron, ..Schedule::once("s", "a".into(), "b".into(), 5) };
        let outcome = Outcome::Skipped("late".into());
        let (over, why) = occurrence::concluded(&schedule, &outcome, 6);
        assert!(!over.is_pending());
        assert!(why.expect("a reason").contains("no occurrence"));
        let cancelled = Outcome::Cancelled("by hand".into());
        assert_eq!(occurrence::concluded(&schedule, &cancelled, 6).1, None);
    }
}
