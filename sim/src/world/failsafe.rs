//! Failsafe mode: what each member answers when it is asked.
//!
//! The rules are the daemon's own (`member::ha::failsafe`). A promise is given at
//! the moment the question arrives, whatever the daemon's beat is doing; it
//! lies on the member's disk and outlives its daemon.

use super::World;
use super::links::Wire;
use member::Answer;
use member::ha::failsafe::{Promise, promised_ms};
use std::collections::BTreeMap;
use topology::{Lsn, MemberName};

impl World {
    /// Each member answers when the question arrives, or not at all.
    pub fn agree(&mut self, member: usize, others: &[(MemberName, String)], ttl_ms: u64) -> Answer {
        let mut agreed = true;
        for (name, _) in others {
            agreed &= self.agree_one(member, name, ttl_ms);
        }
        if !agreed {
            return Answer::Failed("not all members agree".into());
        }
        let m = &self.members[member];
        let lease_end = m.daemon.machine.lease.deadline();
        self.counts.led_on += u64::from(m.clock.read(self.now) >= lease_end);
        self.counts.agreed += 1;
        let is_asked = |name: &MemberName| others.iter().any(|(other, _)| other == name);
        let asked = self.members.iter().filter(|m| is_asked(&m.name));
        let told: BTreeMap<MemberName, Lsn> =
            asked.map(|m| (m.name.clone(), Lsn(m.server.log.end()))).collect();
        Answer::Agreed(told)
    }

    fn agree_one(&mut self, member: usize, name: &MemberName, ttl_ms: u64) -> bool {
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
        let answer = promised_ms(Some(ttl_ms), known_ms).and_then(|ms| {
            let asked = Promise {
                to,
                conn_url: format!("postgres://{host}:5432/postgres"),
                api_url: format!("http://{host}:8008/patroni"),
                slots: Default::default(),
                until: now + ms,
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
