//! Streaming between servers, and what a daemon publishes about its own.

use super::Event;
use super::World;
use super::act::{history_text, status};
use super::call::Call;
use super::links::Wire;
use super::postgres::{Process, Role};
use crate::check;
use node::dcs::{Compare, Op, Txn};
use node::ha::observation::Job;
use topology::{Lsn, MemberRecord, MemberRole, Timeline};

impl World {
    pub fn on_stream(&mut self, member: usize) {
        let pause = self.rng.range(10, 60) + self.members[member].lag;
        self.after(pause, Event::Stream { member });
        if !self.members[member].server.is_standby() {
            return;
        }
        match self.upstream_of(member) {
            Some(upstream) => self.stream(member, upstream),
            None => self.members[member].server.streams_from = None,
        }
    }

    /// The server it is told to follow, if PostgreSQL would stream from there.
    fn upstream_of(&self, member: usize) -> Option<usize> {
        let server = &self.members[member].server;
        let upstream = self.member_at(server.follows.as_ref()?)?;
        let source = &self.members[upstream].server;
        let agrees = upstream != member
            && source.serves()
            && source.system == server.system
            && self.links.between(Wire::Replication, member, upstream)
            && server.log.may_continue_with(&source.log);
        agrees.then_some(upstream)
    }

    fn stream(&mut self, member: usize, upstream: usize) {
        check::attached(self, member, upstream);
        let have = self.members[member].server.log.0.len();
        let source = &self.members[upstream].server;
        let more = source.log.0.get(have..).unwrap_or(&[]).to_vec();
        let newest = source.newest_timeline;
        let server = &mut self.members[member].server;
        server.log.0.extend(more);
        server.newest_timeline = server.newest_timeline.max(newest);
        let began = server.streams_from != Some(upstream);
        server.streams_from = Some(upstream);
        if began {
            let line = format!("streams from {}", self.members[upstream].name);
            self.note_of(member, &line);
        }
    }

    /// A primary that stops waits until those who stream from it have all.
    pub fn flush_to_standbys(&mut self, member: usize) {
        for standby in 0..self.members.len() {
            let streams = self.members[standby].server.streams_from == Some(member);
            if streams && self.upstream_of(standby) == Some(member) {
                self.stream(standby, member);
            }
        }
    }

    /// Writes the own record and, leading, position and history of the group.
    pub fn publish(&mut self, member: usize) {
        let Some(lease) = self.members[member].daemon.lease else {
            return;
        };
        let m = &self.members[member];
        let mut txns = vec![Txn {
            when: vec![],
            then: vec![Op::Put {
                key: format!("{}members/{}", m.base(), m.name),
                value: self.record_of(member).write(),
                lease: Some(lease),
            }],
        }];
        if m.daemon.held && matches!(m.server.process, Process::Up(_)) {
            txns.push(self.leader_writes("status", member, status(Lsn(m.server.log.end()))));
            let history = m.server.log.history();
            if m.server.accepts_commits() && !history.forks.is_empty() {
                txns.push(self.leader_writes("history", member, history_text(&history)));
            }
        }
        self.send(member, Call::Publish(txns));
    }

    fn leader_writes(&self, key: &str, member: usize, value: String) -> Txn {
        let name = self.members[member].name.0.clone();
        Txn {
            when: vec![Compare::ValueIs(self.key(member, "leader"), name)],
            then: vec![Op::Put {
                key: self.key(member, key),
                value,
                lease: None,
            }],
        }
    }

    fn record_of(&self, member: usize) -> MemberRecord {
        let m = &self.members[member];
        let copying = m
            .daemon
            .job
            .as_ref()
            .is_some_and(|w| matches!(w.job, Job::Clone { .. } | Job::Rebuild { .. }));
        let state = match m.server.process {
            _ if copying => "creating replica",
            Process::Up(_) => "running",
            Process::Starting(_) => "starting",
            Process::Stopping { .. } => "stopping",
            Process::Down => "stopped",
        };
        let role = match m.server.process {
            Process::Up(Role::Primary) => MemberRole::Primary,
            Process::Up(Role::Standby) if m.daemon.held && self.is_standby_side(member) => {
                MemberRole::StandbyLeader
            }
            _ => MemberRole::Replica,
        };
        MemberRecord {
            conn_url: Some(format!("postgres://{}:5432/postgres", m.host())),
            state: state.into(),
            role,
            tags: m.tags.clone(),
            xlog_location: Some(Lsn(m.server.log.end())),
            timeline: Some(Timeline(m.server.log.timeline())),
            ..MemberRecord::default()
        }
    }

    fn is_standby_side(&self, _member: usize) -> bool {
        false
    }
}
