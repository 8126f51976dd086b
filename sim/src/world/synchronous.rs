//! Synchronous replication over time: who streams, what that acknowledges, and
//! the setting as it comes into force.
//!
//! A connection whose link is cut stays in the primary's list until it is given
//! up, with the last position that was heard.

use super::links::Wire;
use super::synchrony::{Rank, Sender, parse, ranks, released};
use super::{Event, World};
use crate::check;
use standby::sync::{Replication, Sender as Told, SyncRank};
use topology::Lsn;

/// `wal_sender_timeout`: a standby that is silent for this long is gone.
const SENDER_TIMEOUT_MS: u64 = 10_000;
/// A server reads its settings again within this.
const RELOAD_MAX_MS: u64 = 60;
/// And its walsenders within this.
const SENDERS_MAX_MS: u64 = 80;
/// Percent of the first names that come while a fast checkpoint runs, and how long that takes.
const CHECKPOINTS: u64 = 15;
const CHECKPOINT_MAX_MS: u64 = 3_000;

impl World {
    /// Writes the setting into the server's files; a server that runs reads them
    /// a little later, one that starts reads them then.
    pub fn write_names(&mut self, member: usize, text: &str) {
        if let Err(why) = parse(text) {
            return self.break_with("the names can be read", why);
        }
        self.members[member].server.names_file = text.to_string();
        let ms = self.rng.range(1, RELOAD_MAX_MS);
        self.after(ms, Event::Reload { member });
    }

    pub fn on_reload(&mut self, member: usize) {
        let server = &mut self.members[member].server;
        if server.is_down() || server.names == server.names_file {
            return;
        }
        server.names = server.names_file.clone();
        // A standby has none whose answers count, and takes longer to open.
        let most = if server.is_standby() { 0 } else { SENDERS_MAX_MS };
        let begins = !server.is_standby() && server.acting.is_empty();
        let mut ms = self.rng.range(0, most);
        // Whether commits wait at all the checkpointer says, which may be at work.
        if begins && self.rng.percent(CHECKPOINTS) {
            ms = self.rng.range(ms, CHECKPOINT_MAX_MS);
            self.members[member].server.checkpoints_until = self.now + ms + 1;
        }
        self.after(ms, Event::ReloadSenders { member });
    }

    pub fn on_reload_senders(&mut self, member: usize) {
        let server = &mut self.members[member].server;
        if server.is_down() || server.acting == server.names {
            return;
        }
        server.acting = server.names.clone();
        let line = format!("waits for [{}]", server.acting);
        self.note_of(member, &line);
        self.release_waiting(member);
        check::synchronous::sets_meet(self, self.members[member].place.client);
    }

    /// A standby has got something from a primary, and says so.
    /// `began`: over a new connection, which counts when the standby has caught up.
    pub fn hear_standby(&mut self, standby: usize, primary: usize, began: bool, caught_up: bool) {
        if !self.members[primary].server.accepts_commits() {
            return;
        }
        let (name, heard) = (self.members[standby].name.0.clone(), self.now);
        let flush = self.members[standby].server.log.end();
        let senders = &mut self.members[primary].server.senders;
        let before = senders.iter().position(|s| s.standby == standby);
        let streamed = !began && before.is_some_and(|at| senders[at].streaming);
        let sender = Sender { standby, name, streaming: caught_up || streamed, flush, heard };
        match before {
            Some(at) => senders[at] = sender,
            None => senders.push(sender),
        }
        self.release_waiting(primary);
    }

    /// Connections that have ended are taken from the list.
    pub fn drop_lost_senders(&mut self, primary: usize) {
        self.members[primary].server.senders = self.connected(primary);
    }

    fn connected(&self, primary: usize) -> Vec<Sender> {
        let is_there = |sender: &&Sender| {
            let linked = self.links.between(Wire::Replication, sender.standby, primary);
            let streams = self.members[sender.standby].server.streams_from == Some(primary);
            match linked {
                true => streams,
                false => self.now < sender.heard + SENDER_TIMEOUT_MS,
            }
        };
        self.members[primary].server.senders.iter().filter(is_there).cloned().collect()
    }

    /// What the daemon is told of it.
    pub fn replication_of(&self, member: usize) -> Replication {
        let server = &self.members[member].server;
        let names = parse(&server.names).expect("what is in force was read");
        let acting = parse(&server.acting).expect("what is in force was read");
        let senders = self.connected(member);
        let ranks = ranks(&names, &acting, &senders);
        let told = |(sender, rank): (&Sender, Rank)| Told {
            name: sender.name.as_str().into(),
            streaming: sender.streaming,
            sync: match rank {
                Rank::Async => SyncRank::Async,
                Rank::Potential => SyncRank::Potential,
                Rank::Quorum => SyncRank::Quorum,
                Rank::Sync => SyncRank::Sync,
            },
            write: Some(Lsn(sender.flush)),
            flush: Some(Lsn(sender.flush)),
            replay: Some(Lsn(sender.flush)),
        };
        Replication {
            is_acting: self.members[member].daemon.names_act,
            lsn: Lsn(server.log.end()),
            names: server.names.clone(),
            commit: "on".into(),
            senders: senders.iter().zip(ranks).map(told).collect(),
        }
    }

    /// Acknowledges what enough standbys have.
    pub fn release_waiting(&mut self, primary: usize) {
        if self.members[primary].server.waiting.is_empty() {
            return;
        }
        self.drop_lost_senders(primary);
        let server = &mut self.members[primary].server;
        let wanted = parse(&server.acting).expect("what is in force was read");
        let limit = released(&wanted, &server.senders);
        let (done, wait) = server.waiting.drain(..).partition(|waiting| waiting.end <= limit);
        server.waiting = wait;
        for waiting in done as Vec<super::postgres::Waiting> {
            self.acknowledge(primary, waiting.id);
        }
    }

    /// Nothing is promised for a server whose daemon is not there.
    fn acknowledge(&mut self, member: usize, id: u64) {
        let m = &self.members[member];
        if !m.is_unguarded(self.now) {
            let client = &mut self.clients[m.place.client];
            client.acknowledged.push(id);
            client.acknowledged_at = self.now;
            if client.in_force.is_some() {
                client.kept.push(id);
            }
        }
        self.distributed_acknowledged(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::super::postgres::{Process, Role};
    use super::*;
    use topology::SyncMode;

    /// A group that has come up, from now on without its daemons; its primary. No
    /// mode is on: the names are the test's.
    fn group(seed: u64) -> (World, usize, Vec<usize>) {
        let mut worlds = (0..100).map(|more| some_group(seed + 100 * more));
        let is_off = |(world, primary, _): &(World, usize, Vec<usize>)| {
            let mode = world.members[*primary].daemon.machine.dynamic.synchronous_mode;
            mode == SyncMode::Off && world.clients[0].in_force.is_none()
        };
        worlds.find(is_off).expect("some operators want no mode")
    }

    fn some_group(seed: u64) -> (World, usize, Vec<usize>) {
        let shape = Shape { synchronous: true, ..Shape::group(3) };
        let mut world = World::new(seed, &shape);
        world.run_until(40_000).expect("no fault yet");
        world.keep_events(|event| {
            matches!(
                event,
                Event::Stream { .. }
                    | Event::Write { .. }
                    | Event::Server { .. }
                    | Event::Reload { .. }
                    | Event::ReloadSenders { .. }
            )
        });
        let primary = (0..3).find(|m| world.members[*m].server.accepts_commits());
        let primary = primary.expect("it has come up");
        let standbys = (0..3).filter(|m| *m != primary).collect();
        (world, primary, standbys)
    }

    fn wait_for(world: &mut World, primary: usize, text: &str) {
        world.write_names(primary, text);
        let end = world.now + RELOAD_MAX_MS + CHECKPOINT_MAX_MS.max(SENDERS_MAX_MS);
        while world.members[primary].server.acting != text && world.now < end {
            world.run_until(world.now + SENDERS_MAX_MS).expect("all is well");
        }
        assert_eq!(world.members[primary].server.acting, text);
    }

    /// What is acknowledged in a while.
    fn acknowledged_in(world: &mut World, ms: u64) -> usize {
        let before = world.clients[0].acknowledged.len();
        world.run_until(world.now + ms).expect("all is well");
        world.clients[0].acknowledged.len() - before
    }

    #[test]
    fn a_commit_waits_for_the_standby_that_is_named() {
        let (mut world, primary, standbys) = group(1);
        let name = world.members[standbys[0]].name.0.clone();
        wait_for(&mut world, primary, &name);
        assert!(acknowledged_in(&mut world, 2_000) > 5);
        world.links.cut(Wire::Replication, primary, standbys[0]);
        assert_eq!(acknowledged_in(&mut world, 2_000), 0);
        assert!(!world.members[primary].server.waiting.is_empty());
        world.links.heal(Wire::Replication, primary, standbys[0]);
        assert!(acknowledged_in(&mut world, 2_000) > 5);
    }

    #[test]
    fn whatever_is_acknowledged_is_on_the_standby_that_is_named() {
        let (mut world, primary, standbys) = group(2);
        let name = world.members[standbys[1]].name.0.clone();
        wait_for(&mut world, primary, &name);
        let before = world.clients[0].acknowledged.len();
        let (mut differed, mut behind) = (false, false);
        for _ in 0..100 {
            acknowledged_in(&mut world, 20);
            let log = &world.members[standbys[1]].server.log;
            assert!(world.clients[0].acknowledged[before..].iter().all(|id| log.contains(*id)));
            differed |= log.end() != world.members[standbys[0]].server.log.end();
            behind |= log.end() < world.members[primary].server.log.end();
        }
        assert!(differed && behind, "all servers are always equal");
    }

    #[test]
    fn any_one_of_two_is_enough() {
        let (mut world, primary, standbys) = group(3);
        let names: Vec<&str> = standbys.iter().map(|m| world.members[*m].name.as_str()).collect();
        let text = format!("ANY 1 ({})", names.join(","));
        wait_for(&mut world, primary, &text);
        world.links.cut(Wire::Replication, primary, standbys[1]);
        assert!(acknowledged_in(&mut world, 2_000) > 5);
        world.links.cut(Wire::Replication, primary, standbys[0]);
        assert_eq!(acknowledged_in(&mut world, 2_000), 0);
    }

    #[test]
    fn commits_that_wait_are_let_go_when_no_standby_is_waited_for() {
        let (mut world, primary, _) = group(4);
        wait_for(&mut world, primary, "__patroni_strict_sync_replica_placeholder__");
        assert_eq!(acknowledged_in(&mut world, 2_000), 0);
        let waiting = world.members[primary].server.waiting.len();
        wait_for(&mut world, primary, "");
        assert!(waiting > 5 && world.members[primary].server.waiting.is_empty());
    }

    #[test]
    fn a_crash_ends_the_waiting_and_keeps_the_setting() {
        let (mut world, primary, _) = group(5);
        wait_for(&mut world, primary, "nobody");
        acknowledged_in(&mut world, 1_000);
        let before = world.clients[0].acknowledged.len();
        world.crash_server(primary);
        assert!(world.members[primary].server.waiting.is_empty());
        world.write_names(primary, "somebody");
        world.start(primary, Role::Primary);
        world.run_until(world.now + 20_000).expect("all is well");
        let server = &world.members[primary].server;
        assert_eq!(server.process, Process::Up(Role::Primary));
        assert_eq!(server.acting, "somebody");
        assert_eq!(world.clients[0].acknowledged.len(), before);
    }

    #[test]
    fn a_connection_whose_link_is_cut_is_given_up_later() {
        let (mut world, primary, standbys) = group(6);
        world.links.cut(Wire::Replication, primary, standbys[0]);
        acknowledged_in(&mut world, SENDER_TIMEOUT_MS / 2);
        world.drop_lost_senders(primary);
        assert_eq!(world.members[primary].server.senders.len(), 2);
        acknowledged_in(&mut world, SENDER_TIMEOUT_MS);
        world.drop_lost_senders(primary);
        assert_eq!(world.members[primary].server.senders.len(), 1);
    }
}
