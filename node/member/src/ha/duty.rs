//! A synchronous standby leaves its duty before it stops for a while, or leaves the leader.
//!
//! Commits wait for the standbys that `/sync` names. One that restarts, ends, or streams from
//! another standby without notice would block them until the leader detects its absence. So it
//! first reports that it does not want to be synchronous any more (`nosync` in its record),
//! and waits until the leader has removed it from `/sync`.
//!
//! Invariant: the wait ends by itself. It is over after two loops, when the store is
//! silent, and when there is no leader that could remove it.

use super::cascading::leaves_leader;
use super::facts::Facts;
use super::follow::{copies_slots, recovers_otherwise};
use super::observation::{Asked, Job, Lock, Memory, Observation};
use topology::{SyncMode, Tags};

impl Facts<'_> {
    /// The leader still counts on this standby, which is about to stop or to leave it.
    pub fn is_awaited_by_commits(&self) -> bool {
        let (Some(since), Some(view)) = (self.o.memory.leaving_duty, self.view()) else {
            return false;
        };
        let over = self.o.now.since(since) >= 2 * self.o.dynamic.loop_wait_ms;
        let sync = view.sync.as_ref().map(|sync| &sync.value).filter(|sync| sync.is_active());
        let (Some(leader), Some(sync)) = (view.leader_name(), sync) else { return false };
        !over && (!sync.is_leader(leader) || sync.is_standby(&self.o.me.name))
    }
}

impl Memory {
    /// Whether this standby is to leave its duty: from when that is known to the end
    /// of what it was for. Without a leader nothing is restarted, and none is left.
    pub fn update_duty(&mut self, seen: &Observation) {
        let paused = seen.dynamic.pause;
        let restart_due = !paused && restarts_for_itself(&Facts::of(seen));
        let restarts = self.asked == Some(Asked::Restart) || restart_due;
        let leaves = restarts || leaves_leader(seen, &self.detour);
        let ends = self.stopping && !paused;
        let led = matches!(seen.lock, Lock::Other(_));
        let begins = (ends || leaves && led) && seen.is_standby() && has_duty(seen);
        let restart = Job::Restart { as_primary: false };
        let job = seen.job.as_ref().map(|running| &running.job);
        let goes_on = self.leaving_duty.is_some() && (ends || leaves || job == Some(&restart));
        let since = self.leaving_duty.unwrap_or(seen.now);
        self.leaving_duty = (begins || goes_on).then_some(since);
    }

    /// What others are told of this member: its own tags, without its duty while it
    /// leaves it, and without its upstream while it follows the leader instead.
    pub fn effective_tags(&self, tags: &Tags) -> Tags {
        let mut tags = tags.clone();
        if self.leaving_duty.is_some() {
            tags.0.insert("nosync".into(), true.into());
            tags.0.insert("sync_priority".into(), 0.into());
        }
        if self.detour.is_taken {
            tags.0.shift_remove("replicatefrom");
        }
        tags
    }
}

fn restarts_for_itself(f: &Facts) -> bool {
    recovers_otherwise(f).or_else(|| copies_slots(f)).is_some()
}

/// Who leads, and who is never synchronous, has none.
fn has_duty(seen: &Observation) -> bool {
    let mode = seen.dynamic.synchronous_mode;
    mode != SyncMode::Off && seen.may_own() && !seen.holds_lock() && !seen.me.tags.nosync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::action::{Action, Step};
    use crate::ha::decide;
    use crate::ha::observation::{Running, StopHow};
    use crate::ha::sample::{follower, leader, primary};
    use crate::made_up::TakeSample;
    use serde_json::json;
    use topology::{Millis, Seen};

    fn take(o: &mut Observation, key: &str, value: &str) {
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        view.take_sample(key, value, 9, 0);
    }

    /// `me` is a synchronous standby of `a`.
    fn on_duty() -> Observation {
        let mut o = follower();
        o.dynamic.synchronous_mode = SyncMode::On;
        take(&mut o, "sync", r#"{"leader":"a","sync_standby":"b,ME","quorum":0}"#);
        o
    }

    fn look(o: &mut Observation) -> (u16, Step) {
        let mut memory = o.memory.clone();
        memory.update_duty(o);
        o.memory = memory;
        let decision = decide(o);
        (decision.rule, decision.step)
    }

    fn no_member_leads(o: &mut Observation) {
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        (view.leader, o.lock) = (None, Lock::Free);
    }

    fn restart() -> Step {
        Step::Do(Action::Begin(Job::Restart { as_primary: false }))
    }

    fn stop() -> Step {
        Step::Do(Action::Begin(Job::Stop { how: StopHow::Planned }))
    }

    fn published(o: &Observation) -> String {
        let tags = o.memory.effective_tags(&o.me.tags).published();
        serde_json::Value::Object(tags).to_string()
    }

    #[test]
    fn a_restart_waits_until_the_leader_lets_go_and_the_duty_comes_back_behind_it() {
        let mut o = on_duty();
        assert_eq!((look(&mut o).0, published(&o).as_str()), (998, "{}"));
        o.memory.asked = Some(Asked::Restart);
        assert_eq!(look(&mut o).0, 920);
        assert_eq!(published(&o), r#"{"nosync":true,"sync_priority":0}"#);
        take(&mut o, "sync", r#"{"leader":"a","sync_standby":"b","quorum":0}"#);
        assert_eq!(look(&mut o).1, restart());
        // While it runs, no other rule acts.
        o.memory.asked = None;
        let job = Job::Restart { as_primary: false };
        o.job = Some(Running { job, since: o.now, closed: None, ending: Default::default() });
        look(&mut o);
        assert!(published(&o).contains("nosync"));
        o.job = None;
        assert_eq!((look(&mut o).0, published(&o).as_str()), (998, "{}"));
    }

    #[test]
    fn every_restart_of_a_standby_waits_and_every_stop_but_one_in_pause() {
        let mut recovers = on_duty();
        let crate::ha::observation::Process::Running(server) = &mut recovers.postgres.process
        else {
            panic!("it runs")
        };
        server.restart_due = Some("restore_command".into());
        assert_eq!(look(&mut recovers).0, 941);
        // In pause, and without a leader, nothing is restarted for that.
        for change in [(|o| o.dynamic.pause = true) as fn(&mut Observation), no_member_leads] {
            let mut stays = recovers.clone();
            stays.memory.leaving_duty = None;
            change(&mut stays);
            look(&mut stays);
            assert_eq!(stays.memory.leaving_duty, None);
        }
        let mut copies = on_duty();
        copies.memory.slots_to_copy = Some("reader".into());
        assert_eq!(look(&mut copies).0, 943);
        take(&mut copies, "sync", r#"{"leader":"a","quorum":0}"#);
        assert_eq!(look(&mut copies), (944, restart()));
        let mut stops = on_duty();
        stops.memory.stopping = true;
        assert_eq!(look(&mut stops).0, 207);
        stops.dynamic.pause = true;
        assert_eq!(look(&mut stops).0, 200);
        let mut paused = on_duty();
        paused.dynamic.pause = true;
        paused.memory.asked = Some(Asked::Restart);
        assert_eq!(look(&mut paused).0, 404);
        take(&mut paused, "sync", r#"{"leader":"a","quorum":0}"#);
        assert_eq!(look(&mut paused).1, restart());
    }

    #[test]
    fn the_wait_ends_by_itself() {
        let leaving = || {
            let mut o = on_duty();
            o.memory.stopping = true;
            assert_eq!(look(&mut o).0, 207);
            o
        };
        let mut o = leaving();
        o.now = Millis(o.now.0 + 2 * o.dynamic.loop_wait_ms - 1);
        o.memory.lease_renewed = o.now;
        assert_eq!(look(&mut o).0, 207);
        o.now = Millis(o.now.0 + 1);
        assert_eq!(look(&mut o).1, stop(), "the leader does not let go");
        let mut o = leaving();
        o.store = Seen::Unknown;
        assert_eq!(look(&mut o).1, stop(), "the store is silent");
        let mut o = leaving();
        no_member_leads(&mut o);
        assert_eq!(look(&mut o).1, stop(), "nobody could let go");
        // A new leader that has not written yet may name it.
        let mut o = leaving();
        take(&mut o, "sync", r#"{"leader":"b","sync_standby":null,"quorum":0}"#);
        assert_eq!(look(&mut o).0, 207);
        take(&mut o, "sync", r#"{"leader":null}"#);
        assert_eq!(look(&mut o).1, stop(), "no mode is in force");
    }

    #[test]
    fn who_has_no_duty_leaves_none() {
        let goes = |change: fn(&mut Observation)| {
            let mut o = on_duty();
            o.memory.stopping = true;
            change(&mut o);
            (look(&mut o).1 == stop(), o.memory.leaving_duty)
        };
        assert!(!goes(|_| {}).0);
        assert_eq!(goes(|o| o.dynamic.synchronous_mode = SyncMode::Off), (true, None));
        let nosync = |o: &mut Observation| {
            o.me.tags = Tags(json!({"nosync": true}).as_object().expect("a map").clone());
        };
        assert_eq!(goes(nosync), (true, None));
        let section = |o: &mut Observation| {
            o.dynamic.standby_cluster = Some(topology::dynamic::StandbyCluster {
                host: Some("far".into()),
                port: 5432,
                primary_slot_name: None,
            });
        };
        assert_eq!(goes(section), (true, None));
        let leads = |o: &mut Observation| {
            (o.lock, o.postgres.process) = (leader().lock, primary());
        };
        assert_eq!(goes(leads), (true, None));
    }
}
