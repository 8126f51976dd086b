//! What a call of the machine does to this world.
//!
//! What happens on the member's own machine happens at once; the rest is sent.

use super::World;

use member::act::{LATE, is_in_time};
use member::ha::observation::{End, Following};
use member::ha::{Observation, Outcome, Receivers};
use member::overrides::Overrides;
use member::{Answer, Call, NoEnd};
use standby::rewind::{LocalEnd, Tail};
use topology::{Failover, Lsn};

impl World {
    /// Does it, or sends it. `None`: the answer is on its way.
    pub fn perform(&mut self, m: usize, call: Call, limit_ms: Option<u64>) -> Option<Answer> {
        let done = match call {
            Call::LocalEnd { .. } => {
                let end = self.local_end(m);
                Answer::End(end.map(Box::new).ok_or_else(|| NoEnd::NotNow("it is down".into())))
            }
            // A shutdown checkpoint takes no room in the logs of this world.
            Call::EndBefore(lsn) => Answer::EndsAt(lsn),
            Call::MoveAside => {
                self.move_data_aside(m);
                Answer::Done
            }
            Call::Promote { claimed, lock_until, .. } => {
                match is_in_time(self.members[m].clock.read(self.now), lock_until) {
                    true => answer_of(self.promote(m, claimed.0)),
                    false => Answer::Failed(LATE.into()),
                }
            }
            Call::Follow { upstream, overrides } => {
                self.follow(m, upstream, &overrides);
                Answer::Done
            }
            Call::NameSync { names, .. } => return self.name_sync(m, &names),
            Call::ApplySettings { overrides, .. } => self.apply_settings(m, &overrides),
            Call::WriteWal => answer_of(self.write_wal(m)),
            Call::Begin { job, terms } => {
                self.begin_job(m, job, *terms);
                Answer::Done
            }
            Call::Checkpoint { .. } => {
                self.begin_checkpoint(m);
                Answer::Done
            }
            Call::Cancel => Answer::Cancelled(self.cancel_job(m)),
            Call::EndReceivers(Receivers::All) => {
                self.end_receivers(m);
                Answer::Done
            }
            Call::CutStop => {
                self.cut_stop(m);
                Answer::Done
            }
            // Nothing pauses replay here, a receiver takes what it can, and no consumer of logical
            // replication holds up a stop.
            Call::ResumeReplay | Call::WakeRecovery | Call::EndReceivers(Receivers::Logical) => {
                Answer::Done
            }
            Call::SaveConfiguration if self.disk_fails(m) => {
                Answer::Failed("the disk is full".into())
            }
            Call::SaveConfiguration => {
                let member = &mut self.members[m];
                let raw = member.daemon.machine.dynamic.raw.clone();
                member.server.kept_configuration = Some(raw);
                Answer::Done
            }
            // Archives of this world lack nothing, and its disks keep this file.
            Call::CompleteHistories { .. } | Call::KeepPgpass => Answer::Done,
            Call::ChangeSlot(step) => self.change_slot(m, &step),
            Call::BeginSlotWork { step, leader } => {
                self.begin_slot_work(m, step, leader.map(|leader| *leader))
            }
            Call::EndSlotWork { drops } => self.end_slot_work(m, &drops),
            // No machine of this world has one: it is never `Ready`.
            Call::ArmWatchdog => Answer::Failed("there is no watchdog".into()),
            Call::RestWatchdog => Answer::Done,
            Call::KeepAlive(_)
            | Call::Grant { .. }
            | Call::Write(_)
            | Call::Report { .. }
            | Call::Sign { .. }
            | Call::Refresh
            | Call::AskPeers(_)
            | Call::AskAll { .. }
            | Call::History { .. } => {
                self.send(m, call, limit_ms);
                return None;
            }
        };
        Some(done)
    }

    /// What the machine has seen in the beat under way.
    pub fn seen(&self, member: usize) -> Observation {
        let seen = self.members[member].daemon.machine.seen();
        seen.expect("the machine calls only after a look").clone()
    }

    fn follow(&mut self, m: usize, to: Option<Following>, overrides: &Overrides) {
        self.reload_names(m, overrides);
        let server = &mut self.members[m].server;
        server.follows = to;
        server.streams_from = None;
    }

    /// The server writes it by itself after a promotion; here its end is awaited.
    fn begin_checkpoint(&mut self, member: usize) {
        let m = &mut self.members[member];
        m.daemon.awaits_checkpoint = true;
        let end = m.server.checkpoint_at.max(self.now) + 1;
        self.wake_at(end, member);
    }

    /// For the checker and the counts: what an answer tells of the world.
    pub fn hear(&mut self, member: usize, answer: &Answer) {
        match answer {
            Answer::Written(result) if result.succeeded => self.fold_own_write(member),
            Answer::Written(_) => self.read_store_anew(member),
            Answer::Refreshed { .. } => self.fold_own_write(member),
            _ => {}
        }
    }

    /// A stopped server's log is read to its end; a running one's end is what
    /// was seen of it.
    fn local_end(&self, member: usize) -> Option<LocalEnd> {
        let seen = self.seen(member);
        let log = &self.members[member].server.log;
        let history = Some(log.history());
        if let Some(shutdown_state) = seen.shutdown_state() {
            let tail = match shutdown_state.end {
                End::Clean => Tail::Closed { end: Some(Lsn(log.end())) },
                End::Standby | End::Crashed | End::Half => Tail::Open,
            };
            return Some(LocalEnd {
                timeline: shutdown_state.timeline,
                lsn: shutdown_state.lsn,
                tail,
                history,
            });
        }
        let server = seen.server()?;
        Some(LocalEnd { timeline: server.timeline?, lsn: server.lsn, tail: Tail::Open, history })
    }
}

fn answer_of(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Done => Answer::Done,
        Outcome::Lost => Answer::Overtaken,
        Outcome::Unknown(why) => Answer::NoAnswer(why),
        Outcome::Failed(why) => Answer::Failed(why),
    }
}

/// `/failover` as an operator's tool writes it.
pub fn request(leader: Option<&str>, candidate: Option<&str>) -> String {
    Failover {
        leader: leader.map(Into::into),
        candidate: candidate.map(Into::into),
        scheduled_at: None,
    }
    .write()
}
