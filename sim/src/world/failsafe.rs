//! Failsafe mode: what each member answers when it is asked.
//!
//! The rules are the daemon's own (`member::ha::failsafe`). A promise is given at
//! the moment the question arrives, whatever the daemon's beat is doing; it
//! lies on the member's disk and outlives its daemon.

use super::World;
use super::links::Wire;
use member::Answer;
use member::ha::failsafe::{Asker, Promise, agreement, candidate_ms, promised_ms};
use topology::{Lsn, MemberName};

/// A leader or a candidate asks these members.
pub struct Question<'a> {
    pub others: &'a [(MemberName, String)],
    pub enough: usize,
    pub ttl_ms: u64,
    pub by: Asker,
}

impl World {
    /// Each member answers when the question arrives, or not at all.
    pub fn agree(&mut self, member: usize, question: &Question) -> Answer {
        let Question { others, enough, ttl_ms, by } = *question;
        let mut answers = Vec::new();
        for (name, _) in others {
            let is_lost = self.plan.majority && self.rng.percent(10);
            let agrees = self.agree_one(member, name, ttl_ms, by) && !is_lost;
            let position = (by == Asker::Leader).then(|| self.end_of(name)).flatten();
            let answer = agrees.then_some(position).ok_or_else(|| "no promise".to_string());
            answers.push((name.clone(), answer));
        }
        let agreed = answers.iter().filter(|(_, answer)| answer.is_ok()).count();
        let told = match agreement(answers, enough) {
            Ok(told) => told,
            Err(why) => return Answer::Failed(why),
        };
        if by == Asker::Candidate {
            self.counts.candidates += 1;
            return Answer::Agreed(told);
        }
        self.counts.by_majority += u64::from(agreed < others.len());
        let m = &self.members[member];
        let lease_end = m.daemon.machine.lease.deadline();
        self.counts.led_on += u64::from(m.clock.read(self.now) >= lease_end);
        self.counts.agreed += 1;
        Answer::Agreed(told)
    }

    fn end_of(&self, name: &MemberName) -> Option<Lsn> {
        let member = self.members.iter().find(|m| m.name == *name)?;
        Some(Lsn(member.server.log.end()))
    }

    fn agree_one(&mut self, member: usize, name: &MemberName, ttl_ms: u64, by: Asker) -> bool {
        let Some(other) = self.members.iter().position(|m| m.name == *name) else {
            return false;
        };
        if !self.members[other].is_running() || !self.links.between(Wire::Rest, member, other) {
            return false;
        }
        let (to, host) = (self.members[member].name.clone(), self.members[member].host());
        let m = &mut self.members[other];
        let now = m.clock.read(self.now);
        let known_ms = m.daemon.machine.dynamic.ttl_ms;
        let ms = match by {
            Asker::Leader => promised_ms(Some(ttl_ms), known_ms),
            Asker::Candidate => Ok(candidate_ms(Some(ttl_ms))),
        };
        let answer = ms.and_then(|ms| {
            let asked = Promise {
                to,
                conn_url: format!("postgres://{host}:5432/postgres"),
                api_url: format!("http://{host}:8008/patroni"),
                slots: Default::default(),
                until: now + ms,
                by,
            };
            m.promises.accept(asked, now)
        });
        if let Err(why) = &answer {
            let line = format!("does not agree that {} leads on: {why}", self.members[member].name);
            self.note_of(other, &line);
        }
        answer.is_ok()
    }
}
