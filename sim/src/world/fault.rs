//! Faults and operators' wishes, chosen by the seed.
//!
//! A fault lasts a while and ends by itself; `heal_everything` ends all of them
//! at once, so that progress can be demanded.

use super::disk::Health;
use super::job::replaces_data;
use super::links::Wire;
use super::mode::Synchrony;
use super::perform::request;
use super::rng::Rng;
use super::{Event, Shape, World};
use crate::check::synchronous::Word;
use member::requests::{Request, Verdict};
use serde_json::{Map, Value, json};
use topology::Dynamic;

/// What the seed decides once for the whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `/config` without what changes on the way.
    pub document: Map<String, Value>,
    pub paused: bool,
    pub synchrony: Synchrony,
    /// Faults per hundred choices that come close together.
    pub gap_max: u64,
    pub recovery_max: u64,
    pub clone_max: u64,
    pub record_max: u64,
    /// Percent of starts that fail.
    pub start_fails: u64,
    pub job_fails: u64,
    /// The same two, once faults begin.
    pub later: (u64, u64),
    pub ttl_ms: u64,
    pub failsafe: bool,
    pub majority: bool,
    pub unpromised: bool,
    pub blind: bool,
    /// Disks keep nothing of the regions' stores.
    pub forgetful: bool,
    pub synchronous: bool,
    pub disks: bool,
    pub times: bool,
    /// Seconds; what every member's file allows.
    pub minimum_ttl: u64,
}

impl Plan {
    pub fn new(rng: &mut Rng, shape: &Shape) -> Plan {
        let failsafe = shape.failsafe;
        let usual = rng.pick(&[(30, 10, 10), (20, 5, 5), (20, 2, 4)]);
        let (ttl, loop_wait, retry) = if shape.fast { (5, 1, 3) } else { usual };
        let start = rng.pick(&[300, 300, 10, 0]);
        let timeline = rng.percent(30);
        let lag = rng.pick(&[1 << 20, 1 << 20, 20_000]);
        let synchrony = match shape.synchronous {
            true => Synchrony::chosen(rng),
            false => Synchrony::OFF,
        };
        let mut document = json!({
            "ttl": ttl, "loop_wait": loop_wait, "retry_timeout": retry,
            "primary_start_timeout": start, "check_timeline": timeline,
            "maximum_lag_on_failover": lag,
        });
        if failsafe {
            document["failsafe_mode"] = true.into();
        }
        if shape.majority {
            document["failsafe_mode"] = "majority".into();
        }
        Plan {
            document: document.as_object().cloned().unwrap_or_default(),
            paused: false,
            synchrony,
            failsafe,
            majority: shape.majority,
            unpromised: shape.unpromised,
            blind: shape.blind,
            forgetful: shape.forgetful,
            synchronous: shape.synchronous,
            disks: shape.disks,
            times: shape.times,
            minimum_ttl: if shape.fast { 5 } else { 20 },
            gap_max: rng.pick(&[1_000, 5_000, 12_000]),
            recovery_max: rng.pick(&[300, 3_000, 15_000]),
            clone_max: rng.pick(&[2_000, 10_000]),
            record_max: rng.pick(&[500, 8_000]),
            start_fails: 0,
            job_fails: 0,
            later: (rng.pick(&[0, 0, 5, 20]), rng.pick(&[0, 0, 10, 30])),
            ttl_ms: ttl * 1_000,
        }
    }
}

pub const RESTART: Request = Request::Restart { limit_ms: None };

pub const fn reinitialize(force: bool) -> Request {
    Request::Reinitialize { from_leader: false, force }
}

/// Whose word a leader without a store needs.
#[derive(Clone, Copy, Debug)]
pub enum Agreement {
    None,
    All,
    Majority,
}

#[derive(Clone, Debug)]
pub enum Fault {
    /// Another one is due; the chain ends when faults stop.
    Next,
    CutStore(usize),
    HealStore(usize),
    Cut(Wire, usize, usize),
    Heal(Wire, usize, usize),
    Freeze(usize),
    Thaw(usize),
    KillDaemon(usize),
    StartDaemon(usize),
    CrashServer(usize),
    CrashNode(usize),
    Terminate(usize),
    Mute(usize, bool),
    SlowStop(usize, u64),
    Lag(usize, u64),
    StoreDown(usize),
    StoreUp(usize),
    /// Another program deletes the keys of the group.
    Wipe(usize),
    Lossy(usize, u64),
    Slow(usize, u64),
    Switchover(usize),
    Failover(usize),
    Pause(usize, bool),
    Ask(usize, Request),
    /// Everything between the regions is cut.
    CutRegions,
    HealRegions,
    /// A member cannot reach another region's store.
    CutFar(usize, usize),
    HealFar(usize, usize),
    Move,
    /// The operator changes the synchronous mode.
    Mode(usize),
    Disk(usize, Health),
    /// The operator changes `ttl`: seconds.
    Ttl(usize, u64),
    /// The operator changes `failsafe_mode`.
    Agreement(usize, Agreement),
    /// One of `mishap.rs` is due.
    Mishap,
    /// A store is backed up, comes back as it was then, or as if it were never used.
    Save(usize),
    Restore(usize),
    Replace(usize),
    /// All leases of a store begin anew.
    Prolong(usize),
    /// A host's wall clock is off by this from now on, in milliseconds.
    SetClock(usize, i64),
    LoseHost(usize),
    NewHost(usize),
    /// The operator stops a daemon for this long, in milliseconds.
    StayDown(usize, u64),
    /// The operator starts a server; whether as a primary, if it was one.
    StartByHand(usize, bool),
    /// The operator changes `/config`: JSON.
    Patch(usize, String),
    /// The operator names a leader where no member may lead.
    Rescue,
}

impl World {
    pub fn begin_faults(&mut self) {
        (self.plan.start_fails, self.plan.job_fails) = self.plan.later;
        self.after(10, Event::Fault(Fault::Next));
        self.begin_mishaps();
        self.begin_moves();
    }

    /// The chain of faults ends, everything is mended.
    pub fn heal_everything(&mut self) {
        self.note("everything is mended".into());
        let faults = |event: &Event| !matches!(event, Event::Fault(_));
        self.keep_events(faults);
        self.links.heal_all();
        self.end_mishaps();
        self.plan.start_fails = 0;
        self.plan.job_fails = 0;
        for member in 0..self.members.len() {
            self.members[member].slow_stop = 0;
            self.members[member].disk = Health::Well;
            self.members[member].lag = 0;
            self.members[member].server.mute = false;
            self.thaw(member);
            self.start_daemon(member);
            self.set_pause(member, false);
            self.give_config(member);
        }
    }

    fn fault_later(&mut self, ms: u64, fault: Fault) {
        self.after(ms, Event::Fault(fault));
    }

    pub fn on_fault(&mut self, fault: Fault) {
        if !matches!(fault, Fault::Next | Fault::Mishap) {
            self.note(format!("FAULT {fault:?}"));
        }
        match fault {
            Fault::Next => self.choose_fault(),
            Fault::Mishap => self.choose_mishap(),
            Fault::CutStore(m) => self.links.cut_store(m, self.members[m].place.region),
            Fault::HealStore(m) => {
                self.links.heal_store(m, self.members[m].place.region);
                self.wake_now(m);
            }
            Fault::Cut(wire, a, b) => self.links.cut(wire, a, b),
            Fault::Heal(wire, a, b) => self.links.heal(wire, a, b),
            Fault::Freeze(m) => self.freeze(m),
            Fault::Thaw(m) => self.thaw(m),
            Fault::KillDaemon(m) => self.end_daemon(m),
            Fault::StartDaemon(m) => self.start_daemon(m),
            Fault::CrashServer(m) => self.crash_server(m),
            Fault::CrashNode(m) => {
                self.end_daemon(m);
                self.crash_server(m);
            }
            Fault::Terminate(m) => {
                self.members[m].daemon.machine.begin_to_end();
                self.wake_now(m);
            }
            Fault::Mute(m, mute) => self.members[m].server.mute = mute,
            Fault::SlowStop(m, ms) => self.members[m].slow_stop = ms,
            Fault::Lag(m, ms) => self.members[m].lag = ms,
            Fault::StoreDown(region) => self.links.take_store_down(region),
            Fault::StoreUp(region) => self.links.bring_store_up(region),
            Fault::Wipe(region) => self.wipe(region),
            Fault::Lossy(region, percent) => self.links.lossy[region] = percent,
            Fault::Slow(region, ms) => self.links.slow[region] = ms,
            Fault::Switchover(m) => self.ask_for_leader(m, true),
            Fault::Failover(m) => self.ask_for_leader(m, false),
            Fault::Pause(m, on) => self.set_pause(m, on),
            Fault::CutFar(m, region) => self.links.cut_store(m, region),
            Fault::HealFar(m, region) => self.links.heal_store(m, region),
            Fault::CutRegions => self.between_regions(true),
            Fault::HealRegions => self.between_regions(false),
            Fault::Move => self.ask_for_move(),
            Fault::Mode(m) => self.change_mode(m),
            Fault::Disk(m, health) => self.set_disk(m, health),
            Fault::Ttl(m, seconds) => self.set_ttl(m, seconds),
            Fault::Agreement(m, whose) => self.set_agreement(m, whose),
            Fault::Ask(m, what) => {
                if let Err(why) = self.ask_member(m, what) {
                    self.note_of(m, &format!("refuses {what:?}: {why}"));
                }
            }
            other => self.on_mishap(other),
        }
    }

    fn choose_fault(&mut self) {
        let gap = self.rng.range(50, self.plan.gap_max);
        self.fault_later(gap, Fault::Next);
        let m = self.rng.range(0, self.members.len() as u64 - 1) as usize;
        let other = self.rng.range(0, self.members.len() as u64 - 1) as usize;
        let m = if self.rng.percent(40) { self.leader_like(m) } else { m };
        let region = self.members[m].place.region;
        let long = self.rng.pick(&[300, 2_000, 8_000, 20_000, 45_000]);
        let last = self.rng.range(50, long);
        if self.has_regions() && self.rng.percent(25) {
            return self.choose_region_fault(m, last);
        }
        if self.plan.failsafe && self.rng.percent(25) {
            return self.choose_silence(m, last);
        }
        if self.plan.majority && self.rng.percent(8) {
            let whose = self.rng.pick(&[Agreement::None, Agreement::All]);
            self.fault_later(0, Fault::Agreement(m, whose));
            return self.fault_later(last, Fault::Agreement(m, Agreement::Majority));
        }
        if self.plan.disks && self.rng.percent(25) {
            let health = self.rng.pick(&[Health::Full, Health::Broken]);
            self.fault_later(0, Fault::Disk(m, health));
            return self.fault_later(last, Fault::Disk(m, Health::Well));
        }
        if self.plan.times && self.rng.percent(25) {
            let seconds = self.rng.pick(&[20, 25, 30, 40, 60]);
            return self.fault_later(0, Fault::Ttl(m, seconds));
        }
        if self.plan.synchronous && self.rng.percent(30) {
            return self.choose_synchronous_fault(m, last);
        }
        let (now, later) = match self.rng.range(0, 99) {
            0..=14 => (Fault::CutStore(m), Some(Fault::HealStore(m))),
            15..=24 => {
                let wire = self.rng.pick(&[Wire::Rest, Wire::Replication]);
                (Fault::Cut(wire, m, other), Some(Fault::Heal(wire, m, other)))
            }
            25..=34 => (Fault::Freeze(m), Some(Fault::Thaw(m))),
            35..=42 => (Fault::KillDaemon(m), Some(Fault::StartDaemon(m))),
            43..=52 => (Fault::CrashServer(m), None),
            53..=59 => (Fault::CrashNode(m), Some(Fault::StartDaemon(m))),
            60..=63 => (Fault::Terminate(m), Some(Fault::StartDaemon(m))),
            64..=67 => (Fault::SlowStop(m, last.min(12_000)), Some(Fault::SlowStop(m, 0))),
            68..=71 => (Fault::Lag(m, last.min(4_000)), Some(Fault::Lag(m, 0))),
            72..=75 => (Fault::StoreDown(region), Some(Fault::StoreUp(region))),
            76..=79 => (Fault::Lossy(region, 40), Some(Fault::Lossy(region, 0))),
            80..=82 => (Fault::Slow(region, 2_500), Some(Fault::Slow(region, 0))),
            83..=85 => (Fault::Mute(m, true), Some(Fault::Mute(m, false))),
            86..=90 => (Fault::Switchover(m), None),
            91..=92 => (Fault::Failover(m), None),
            93..=95 => (Fault::Pause(m, true), Some(Fault::Pause(m, false))),
            96..=97 => (Fault::Ask(m, RESTART), None),
            98 => (Fault::Ask(m, reinitialize(false)), None),
            _ => (Fault::Ask(m, reinitialize(true)), None),
        };
        self.fault_later(0, now);
        if let Some(later) = later {
            self.fault_later(last, later);
        }
    }

    /// Not while a member has nothing: after its daemon was started anew it
    /// could not tell a store that was emptied from one that is new.
    fn wipe(&mut self, region: usize) {
        if self.may_wipe(region) {
            self.stores.wipe(region);
            self.fate.forgot = true;
        }
    }

    pub fn may_wipe(&self, region: usize) -> bool {
        self.members.iter().filter(|m| m.place.region == region).all(|m| {
            let job = m.daemon.job.as_ref().map(|work| &work.job);
            m.server.system.is_some() && !job.is_some_and(replaces_data)
        })
    }

    /// What the synchronous modes are for.
    pub fn choose_synchronous_fault(&mut self, member: usize, last: u64) {
        let other = self.rng.range(0, self.members.len() as u64 - 1) as usize;
        let (now, later) = match self.rng.range(0, 9) {
            0..=2 => (Fault::Mode(member), None),
            3..=5 => {
                let wire = Wire::Replication;
                (Fault::Cut(wire, member, other), Some(Fault::Heal(wire, member, other)))
            }
            6 => (Fault::Lag(other, last.min(8_000)), Some(Fault::Lag(other, 0))),
            7..=8 => (Fault::CrashServer(member), None),
            _ => (Fault::CrashNode(member), Some(Fault::StartDaemon(member))),
        };
        self.after(0, Event::Fault(now));
        if let Some(later) = later {
            self.after(last, Event::Fault(later));
        }
    }

    /// What failsafe mode is for: the store is away, for long or for one.
    fn choose_silence(&mut self, member: usize, last: u64) {
        let last = last + self.rng.pick(&[0, 20_000, 60_000]);
        let region = self.members[member].place.region;
        // By a majority a store that is emptied behind its leader's back is a known limit.
        if !self.plan.majority && self.rng.percent(10) {
            return self.fault_later(0, Fault::Wipe(region));
        }
        if self.plan.majority && self.rng.percent(50) {
            return self.cut_from_store_and_a_member(member, last);
        }
        let (now, later) = match self.rng.range(0, 2) {
            0 => (Fault::CutStore(member), Fault::HealStore(member)),
            _ => (Fault::StoreDown(region), Fault::StoreUp(region)),
        };
        self.fault_later(0, now);
        self.fault_later(last, later);
    }

    /// The other member sees the store and is not asked; a majority may be.
    fn cut_from_store_and_a_member(&mut self, member: usize, last: u64) {
        let next = self.rng.range(1, self.members.len() as u64 - 1) as usize;
        let other = (member + next) % self.members.len();
        self.fault_later(0, Fault::CutStore(member));
        self.fault_later(last, Fault::HealStore(member));
        self.fault_later(0, Fault::Cut(Wire::Rest, member, other));
        self.fault_later(last, Fault::Heal(Wire::Rest, member, other));
    }

    fn choose_region_fault(&mut self, member: usize, last: u64) {
        let regions = self.stores.regions.len() as u64;
        let other = self.rng.range(0, regions - 1) as usize;
        match self.rng.range(0, 9) {
            0..=4 => self.fault_later(0, Fault::Move),
            5..=6 => {
                self.fault_later(0, Fault::CutRegions);
                self.fault_later(last, Fault::HealRegions);
            }
            7..=8 => {
                self.fault_later(0, Fault::CutFar(member, other));
                self.fault_later(last, Fault::HealFar(member, other));
            }
            _ => {
                // The agent in the middle of its work is the best victim.
                let agents =
                    (0..self.members.len()).filter(|m| self.members[*m].daemon.agent.speaks());
                let agents: Vec<usize> = agents.collect();
                if !agents.is_empty() {
                    let agent = self.rng.pick(&agents);
                    self.fault_later(0, Fault::KillDaemon(agent));
                }
            }
        }
    }

    fn between_regions(&mut self, cut: bool) {
        let places: Vec<usize> = self.members.iter().map(|m| m.place.region).collect();
        for a in 0..places.len() {
            for b in 0..places.len() {
                if places[a] == places[b] {
                    continue;
                }
                for wire in [Wire::Rest, Wire::Replication] {
                    match cut {
                        true => self.links.cut(wire, a, b),
                        false => self.links.heal(wire, a, b),
                    }
                }
            }
            for region in (0..self.stores.regions.len()).filter(|r| *r != places[a]) {
                match cut {
                    true => self.links.cut_store(a, region),
                    false => self.links.heal_store(a, region),
                }
            }
        }
    }

    /// The leader is the most rewarding victim.
    pub fn leader_like(&self, member: usize) -> usize {
        let client = self.members[member].place.client;
        let leader = self
            .members
            .iter()
            .position(|m| m.place.client == client && m.server.accepts_commits());
        leader.unwrap_or(member)
    }

    fn freeze(&mut self, member: usize) {
        self.members[member].daemon.frozen = true;
    }

    fn thaw(&mut self, member: usize) {
        let daemon = &mut self.members[member].daemon;
        if !std::mem::take(&mut daemon.frozen) {
            return;
        }
        // What it looked at before does not count: it is told by the next beat.
        (daemon.has_looked, daemon.looks) = (false, false);
        let deferred = std::mem::take(&mut daemon.deferred);
        for event in deferred {
            self.after(0, event);
        }
    }

    /// A request to the member's REST API.
    pub fn ask_member(&mut self, member: usize, request: Request) -> Result<(), String> {
        let m = &self.members[member];
        if !m.is_running() {
            return Err("no answer".into());
        }
        let (daemon, now) = (&m.daemon, m.clock.read(self.now));
        let ended = daemon.ended.as_ref().map(|(job, _)| job);
        let running = daemon.job.as_ref().map(|work| &work.job).or(ended);
        match daemon.machine.judge_request(request, running) {
            Verdict::Refuse(why) => return Err(why),
            Verdict::TakeAfterCancel => {
                let job = self.cancel_job(member);
                self.members[member].daemon.machine.cancelled(job, now);
                self.carry_out_local(member);
            }
            Verdict::Take => {}
        }
        self.members[member].daemon.machine.take_request(request);
        self.wake_now(member);
        Ok(())
    }

    /// The process is gone; PostgreSQL goes on as it is.
    pub fn end_daemon(&mut self, member: usize) {
        if let Some(work) = self.members[member].daemon.job.take() {
            self.leave_half(member, &work.job);
        }
        let daemon = &mut self.members[member].daemon;
        daemon.alive = false;
        daemon.frozen = false;
        daemon.life += 1;
        daemon.after_beat = None;
        daemon.deferred.clear();
        // The service manager starts it again, unless a fault has its own plan.
        let again = self.rng.range(500, 6_000);
        self.after(again, Event::Fault(Fault::StartDaemon(member)));
    }

    fn start_daemon(&mut self, member: usize) {
        let m = &self.members[member];
        if m.daemon.alive || m.is_gone || self.now < m.down_until {
            return;
        }
        self.begin_daemon(member, self.now);
        self.wake_now(member);
    }

    /// A new life of a daemon, with the configuration that its operator has written.
    pub fn begin_daemon(&mut self, member: usize, moment: u64) {
        let (own, minimum_ttl) = (self.document(), self.plan.minimum_ttl);
        self.members[member].start_at(moment, own, minimum_ttl);
    }

    /// What the operator has written, as the daemons' files say it.
    pub fn dynamic(&self) -> Dynamic {
        let dynamic = Dynamic::read(&self.document());
        let dynamic = dynamic.expect("the operator writes what can be read");
        dynamic.with_minimum_ttl(self.plan.minimum_ttl)
    }

    fn document(&self) -> Value {
        serde_json::from_str(&self.config()).expect("the operator writes JSON")
    }

    fn ask_for_leader(&mut self, member: usize, planned: bool) {
        let place = self.members[member].place;
        let leader = self.stores.get(place.region, &self.members[member].keys.leader());
        let leader = leader.map(|kv| kv.value);
        let others: Vec<String> = self
            .members
            .iter()
            .filter(|m| m.place.group == place.group && m.place.region == place.region)
            .map(|m| m.name.0.clone())
            .filter(|name| Some(name) != leader.as_ref())
            .collect();
        let named = (!others.is_empty() && (!planned || self.rng.percent(60)))
            .then(|| self.rng.pick(&others));
        if planned && leader.is_none() {
            return;
        }
        let from = leader.filter(|_| planned);
        if from.is_some() || named.is_some() {
            self.request_leader(member, from, named);
        }
    }

    /// The operator's request, written by the side of `member`; without `from` it
    /// is a manual failover.
    pub fn request_leader(&mut self, member: usize, from: Option<String>, named: Option<String>) {
        let place = self.members[member].place;
        if from.is_none() {
            // The operator's word: whatever the named member has is enough.
            crate::check::forget_release(self, place.client);
            let named = named.clone().map(|named| Word { named, outside: false });
            self.clients[place.client].word = named;
        }
        let value = request(from.as_deref(), named.as_deref());
        let key = self.members[member].keys.failover();
        self.stores.put(place.region, key, value);
    }

    /// The operator's own copy, into a store that has forgotten it.
    fn give_config(&mut self, member: usize) {
        let region = self.members[member].place.region;
        let key = self.members[member].keys.config();
        if self.stores.get(region, &key).is_none() {
            let config = self.config();
            self.stores.put(region, key, config);
        }
    }

    pub fn set_ttl(&mut self, member: usize, seconds: u64) {
        self.plan.document.insert("ttl".into(), seconds.into());
        self.plan.ttl_ms = seconds * 1_000;
        self.write_config(member);
    }

    fn set_agreement(&mut self, member: usize, whose: Agreement) {
        let value = match whose {
            Agreement::None => false.into(),
            Agreement::All => true.into(),
            Agreement::Majority => "majority".into(),
        };
        self.plan.document.insert("failsafe_mode".into(), value);
        self.write_config(member);
    }

    fn set_pause(&mut self, member: usize, on: bool) {
        self.plan.paused = on;
        self.write_config(member);
    }
}
