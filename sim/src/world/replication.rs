//! Streaming between servers, from the one that each is told to follow.
//!
//! PostgreSQL compares timelines and positions, and that is all it compares;
//! the checker compares what the records really are.

use super::Event;
use super::World;
use super::links::Wire;
use crate::check;
use topology::Timeline;

/// Small, for the records of this world are: a segment holds a few dozen of them.
const SEGMENT: u64 = 4_096;

impl World {
    pub fn on_stream(&mut self, member: usize) {
        let pause = self.rng.range(20, 120) + self.members[member].lag;
        self.after(pause, Event::Stream { member });
        if !self.members[member].server.is_standby() {
            return;
        }
        match self.upstream_of(member) {
            Some(upstream) => {
                let part = self.part_of_stream();
                self.stream(member, upstream, part);
            }
            None => {
                self.members[member].server.streams_from = None;
                self.attach_beyond_fork(member);
            }
        }
    }

    /// A walreceiver asks for log from the beginning of a segment and reports its own replay
    /// position as flushed from the start. So a standby that is ahead of the fork, but in its
    /// segment, attaches for a moment, and commits count what it reports.
    fn attach_beyond_fork(&mut self, member: usize) {
        let Some(upstream) = self.reachable_source(member) else { return };
        let (log, source) = (&self.members[member].server.log, &self.members[upstream].server);
        let fork = source.log.history().left_at(Timeline(log.timeline()));
        let same_segment = fork.is_some_and(|fork| fork.0 / SEGMENT == log.end() / SEGMENT);
        if same_segment && source.accepts_commits() {
            let line = format!("reports its end to {}", self.members[upstream].name);
            self.note_of(member, &line);
            self.members[member].server.streams_from = Some(upstream);
            let waiting = self.members[upstream].server.waiting.len();
            self.hear_standby(member, upstream, true, true);
            check::synchronous::counted_beyond_fork(self, member, upstream, waiting);
            self.members[member].server.streams_from = None;
        }
    }

    /// The server it is told to follow, if PostgreSQL would stream from there.
    fn upstream_of(&self, member: usize) -> Option<usize> {
        let upstream = self.reachable_source(member)?;
        let log = &self.members[member].server.log;
        let fits = log.may_continue_with(&self.members[upstream].server.log);
        (fits && self.has_wal_for(member, upstream)).then_some(upstream)
    }

    /// The server it is told to follow, if that one takes its connection.
    fn reachable_source(&self, member: usize) -> Option<usize> {
        let server = &self.members[member].server;
        let upstream = self.member_at(server.follows.as_ref()?)?;
        let source = &self.members[upstream].server;
        let agrees = upstream != member
            && !self.disk_fails(member)
            && source.serves()
            && source.system == server.system
            && self.links.between(Wire::Replication, member, upstream);
        agrees.then_some(upstream)
    }

    /// Percent of what is missing that comes at once.
    fn part_of_stream(&mut self) -> usize {
        let in_parts = self.plan.synchronous && self.rng.percent(30);
        if in_parts { self.rng.range(0, 90) as usize } else { 100 }
    }

    fn stream(&mut self, member: usize, upstream: usize, part: usize) {
        check::attached(self, member, upstream);
        let have = self.members[member].server.log.records().len();
        let source = &self.members[upstream].server;
        let more = source.log.records().get(have..).unwrap_or(&[]);
        let taken = more.len() * part / 100;
        let caught_up = taken == more.len();
        let more = more[..taken].to_vec();
        let newest = source.newest_timeline;
        let server = &mut self.members[member].server;
        for record in more {
            server.log.push(record);
        }
        server.newest_timeline = server.newest_timeline.max(newest);
        let began = server.streams_from != Some(upstream);
        server.streams_from = Some(upstream);
        self.move_slot(member, upstream);
        if began {
            let line = format!("streams from {}", self.members[upstream].name);
            self.note_of(member, &line);
        }
        self.hear_standby(member, upstream, began, caught_up);
    }

    /// A primary that stops waits until those who stream from it have all.
    pub fn flush_to_standbys(&mut self, member: usize) {
        for standby in 0..self.members.len() {
            let streams = self.members[standby].server.streams_from == Some(member);
            if streams && self.upstream_of(standby) == Some(member) {
                self.stream(standby, member, 100);
            }
        }
    }
}
