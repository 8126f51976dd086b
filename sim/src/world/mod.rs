//! The simulated world: a virtual clock, a queue of events, members, stores and clients.
//!
//! One event happens at a time, in order of its moment; after each one the
//! invariants are checked (`check.rs`). All randomness comes from one seed, so
//! that a seed is a complete description of a run.
//!
//! Absent on purpose: threads, sockets, the real clock.

pub mod beat;
pub mod by_hand;
pub mod call;
pub mod citus;
pub mod client;
pub mod deadman;
pub mod disk;
pub mod duty;
pub mod failsafe;
pub mod fault;
pub mod job;
pub mod links;
pub mod logical;
pub mod member;
pub mod mishap;
pub mod mode;
pub mod observe;
pub mod perform;
pub mod postgres;
pub mod readers;
pub mod region;
pub mod replication;
pub mod rng;
pub mod server;
pub mod slots;
pub mod stop;
pub mod stores;
pub mod synchronous;
pub mod synchrony;

use crate::check::{self, Broken};
use ::member::Call;
use ::member::ha::Decision;
use ::member::ha::observation::Following;
use call::Reply;
use citus::Formation;
use client::Client;
use fault::Plan;
use links::Links;
use member::Member;
use mishap::{Fate, Mishaps};
use node::dcs::Snapshot;
use readers::Readers;
use rng::Rng;
use slots::Slots;
use standby::slots::SlotStep;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use stores::{OwnWrite, Stores};
use topology::region::Policy;
use topology::{Group, Millis};

/// Lines of the trace that a failure shows.
const TRACE_MAX: usize = 10_000;

/// What can happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// A daemon should look at the world.
    /// `timer`: the daemon's own alarm; only the latest one counts.
    Wake {
        member: usize,
        life: u64,
        timer: Option<u64>,
    },
    /// A daemon's call reaches its receiver.
    Arrive {
        member: usize,
        life: u64,
        call: Box<Call>,
        sent: u64,
        until: u64,
    },
    /// The answer to a call reaches the daemon.
    Reply {
        member: usize,
        life: u64,
        sent: u64,
        reply: Box<Reply>,
    },
    /// A change in the store reaches the daemon's copy.
    Heard {
        member: usize,
        life: u64,
        snapshot: Arc<Snapshot>,
        wakes: bool,
    },
    /// The copy looks after its connection.
    Tend {
        member: usize,
    },
    Deadman {
        member: usize,
        life: u64,
        deadline: Millis,
    },
    Server {
        member: usize,
        plan: u64,
        turn: server::Turn,
    },
    /// A daemon looks at the stop that its job makes.
    StopLook {
        member: usize,
        number: u64,
    },
    /// A job has waited long enough for the server that it starts.
    StartLate {
        member: usize,
        number: u64,
    },
    /// A long action ended by itself.
    JobEnd {
        member: usize,
        number: u64,
    },
    /// A standby asks its upstream for more.
    Stream {
        member: usize,
    },
    Write {
        group: usize,
    },
    /// A server reads its settings again; a little later its walsenders do.
    Reload {
        member: usize,
    },
    ReloadSenders {
        member: usize,
    },
    /// A lease may have ended.
    Sweep,
    Fault(fault::Fault),
    /// A daemon's region task has a look.
    Agent {
        member: usize,
    },
    /// The time that the agent asked for has come.
    AgentAlarm {
        member: usize,
        life: u64,
    },
    /// A call of the agent reaches its receiver; later its answer arrives.
    AgentCall {
        member: usize,
        call: Box<region::perform::AgentCall>,
    },
    AgentReply {
        member: usize,
        life: u64,
        id: region::CallId,
        answer: Box<region::Answer>,
    },
    Citus(citus::Turn),
    /// A reader of a logical slot asks for more.
    Read {
        group: usize,
    },
    /// Work on logical slots has come to its end.
    SlotWork {
        member: usize,
        life: u64,
        step: SlotStep,
        leader: Option<Following>,
    },
    /// A server writes a checkpoint.
    Checkpoint {
        member: usize,
    },
}

/// An event that is to come. The earliest is the greatest; of those at one moment, the
/// one that was planned first.
struct Due {
    moment: u64,
    ticket: u64,
    event: Event,
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> Ordering {
        (other.moment, other.ticket).cmp(&(self.moment, self.ticket))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.ticket == other.ticket
    }
}

impl Eq for Due {}

/// What a daemon decided, and when.
#[derive(Clone, Debug)]
pub struct Decided {
    pub at: u64,
    pub member: usize,
    pub decision: Decision,
}

pub struct World {
    pub seed: u64,
    pub now: u64,
    pub rng: Rng,
    queue: BinaryHeap<Due>,
    ticket: u64,
    pub stores: Stores,
    /// What the call that is being served has written.
    own_write: Option<OwnWrite>,
    pub members: Vec<Member>,
    pub clients: Vec<Client>,
    pub links: Links,
    pub plan: Plan,
    pub fate: Fate,
    /// Servers have slots, and remove WAL.
    pub slots: Option<Box<Slots>>,
    /// Each group has a permanent logical slot and a reader.
    pub readers: Option<Box<Readers>>,
    /// The groups are those of a Citus formation.
    pub citus: Option<Box<Formation>>,
    /// What all regions agreed on.
    pub policy: Policy,
    /// The next record of any log.
    next_record: u64,
    pub trace: VecDeque<String>,
    /// The last decisions, oldest first.
    pub decisions: VecDeque<Decided>,
    pub broken: Option<Broken>,
    /// What has happened, so that quiet worlds are noticed.
    pub counts: Counts,
    pub events: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub promotions: u64,
    pub restarts: u64,
    pub handovers: u64,
    pub rewinds: u64,
    pub rebuilds: u64,
    pub signatures: u64,
    /// How often all members agreed that a leader leads on, and how often past its lease.
    pub agreed: u64,
    pub led_on: u64,
    /// Of those agreements, the ones that some members did not give.
    pub by_majority: u64,
    /// Enough members promised a candidate.
    pub candidates: u64,
    /// Acknowledged records that a failover lost, as it may.
    pub lost: u64,
    /// Openings with something that a synchronous mode had to keep.
    pub kept: u64,
    /// Commits that waited for a standby.
    pub waited: u64,
    /// Changes of `/sync` while a mode was in force.
    pub recorded: u64,
    /// How often an operator had to say who is to lead.
    pub rescues: u64,
    pub hosts_lost: u64,
    /// Servers that an operator started.
    pub by_hand: u64,
    /// Transactions over several groups that were committed, and parts of some that were
    /// left in doubt.
    pub distributed: u64,
    pub in_doubt: u64,
    /// Planned moves to another region that a reader has gone on through, and readers that were
    /// ahead of a failover.
    pub carried: u64,
    pub ahead: u64,
    /// Looks at `pg_dist_node`.
    pub rounds: u64,
}

/// The shape of a world.
#[derive(Clone, Debug)]
pub struct Shape {
    pub regions: usize,
    pub groups: Vec<Group>,
    pub members: usize,
    pub failsafe: bool,
    /// In that mode a majority is enough.
    pub majority: bool,
    /// Candidates believe that they have promises that none gave: it must be noticed.
    pub unpromised: bool,
    /// Replication has delays of its own; the synchronous modes are used.
    pub synchronous: bool,
    /// Disks fail, too.
    pub disks: bool,
    /// The operator changes `ttl`, too.
    pub times: bool,
    /// The shortest times that a member's file may allow.
    pub fast: bool,
    /// Servers have slots, and remove the WAL that none needs.
    pub slots: bool,
    /// Each group has a permanent logical slot and a reader; no WAL is removed.
    pub readers: bool,
    /// Agents believe that every copy of it is ready: it must be noticed.
    pub blind: bool,
    /// No disk keeps what a region's store showed: it must be noticed.
    pub forgetful: bool,
    /// The groups are those of a Citus formation, and clients write over several of them.
    pub citus: bool,
    /// What else happens, and what the operator does by hand.
    pub mishaps: Mishaps,
}

impl Shape {
    /// One group, to which the usual faults happen.
    pub fn group(members: usize) -> Shape {
        Shape {
            regions: 1,
            groups: vec![Group::PLAIN],
            members,
            failsafe: false,
            majority: false,
            unpromised: false,
            synchronous: false,
            disks: false,
            times: false,
            fast: false,
            slots: false,
            readers: false,
            blind: false,
            forgetful: false,
            citus: false,
            mishaps: Mishaps::NONE,
        }
    }
}

impl World {
    pub fn new(seed: u64, shape: &Shape) -> World {
        World::with(Rng::new(seed), seed, shape)
    }

    pub fn with(mut rng: Rng, seed: u64, shape: &Shape) -> World {
        let plan = Plan::new(&mut rng, shape);
        let step_seconds = rng.pick(&[5, 10, 20]);
        let mut members = Vec::new();
        for region in 0..shape.regions {
            for (index, group) in shape.groups.iter().enumerate() {
                for number in 0..shape.members {
                    let place = member::Place { region, client: index, group: *group, number };
                    let mut member = Member::new(place, &mut rng);
                    if shape.synchronous {
                        member.tags.0.extend(mode::tags(&place, &mut rng));
                        // With two members, none could commit in a strict mode.
                        shape.citus.then(|| member.tags.0.remove("nosync"));
                    }
                    members.push(member);
                }
            }
        }
        let count = members.len();
        let mut world = World {
            seed,
            now: 0,
            rng,
            queue: BinaryHeap::new(),
            ticket: 0,
            stores: Stores::new(shape.regions),
            own_write: None,
            members,
            clients: shape.groups.iter().map(|_| Client::default()).collect(),
            links: Links::new(count, shape.regions),
            slots: shape
                .slots
                .then(|| Box::new(Slots::new(seed, shape.groups.len(), shape.members))),
            readers: shape.readers.then(|| Box::new(Readers::new(seed, shape.groups.len()))),
            citus: shape.citus.then(|| Box::new(Formation::new(seed))),
            policy: region::policy(shape.regions, step_seconds),
            plan,
            fate: Fate::new(seed, shape.mishaps, shape.regions),
            next_record: 0,
            trace: VecDeque::new(),
            decisions: VecDeque::new(),
            broken: None,
            counts: Counts::default(),
            events: 0,
        };
        world.set_clocks_apart();
        world.begin_slots();
        world.begin();
        world
    }

    fn begin(&mut self) {
        for member in 0..self.members.len() {
            let late = self.rng.range(0, 2_000);
            self.begin_daemon(member, late);
            self.wake_at(late, member);
            self.after(50, Event::Stream { member });
            self.after(20, Event::Tend { member });
            if self.has_regions() {
                self.after(100, Event::Agent { member });
            }
        }
        self.begin_citus();
        for group in 0..self.clients.len() {
            self.at(100, Event::Write { group });
        }
    }

    /// Runs until the moment given, or until an invariant is broken.
    pub fn run_until(&mut self, end: u64) -> Result<(), Broken> {
        while self.queue.peek().is_some_and(|due| due.moment <= end) {
            let due = self.queue.pop().expect("just seen");
            self.now = due.moment;
            self.happen(due.event);
            self.events += 1;
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
            check::after_event(self)?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        self.stores.set_clock(self.now);
        let changes_stores = match &event {
            Event::Arrive { .. } | Event::Fault(_) | Event::Sweep => true,
            Event::AgentCall { call, .. } => call.writes(),
            _ => false,
        };
        match event {
            Event::Wake { member, life, timer } => self.on_wake(member, life, timer),
            Event::Arrive { member, life, call, sent, until } => {
                self.on_arrive(member, life, *call, sent, until);
            }
            Event::Reply { member, life, sent, reply } => {
                self.on_reply(member, life, sent, *reply);
            }
            Event::Server { member, plan, turn } => self.on_server(member, plan, turn),
            Event::JobEnd { member, number } => self.on_job_end(member, number),
            Event::StopLook { member, number } => self.on_stop_look(member, number),
            Event::StartLate { member, number } => self.on_start_late(member, number),
            Event::Stream { member } => self.on_stream(member),
            Event::Write { group } => self.on_write(group),
            Event::Reload { member } => self.on_reload(member),
            Event::ReloadSenders { member } => self.on_reload_senders(member),
            Event::Heard { member, life, snapshot, wakes } => {
                self.on_heard(member, life, snapshot, wakes);
            }
            Event::Tend { member } => self.on_tend(member),
            Event::Deadman { member, life, deadline } => self.on_deadman(member, life, deadline),
            Event::Sweep => {}
            Event::Fault(fault) => self.on_fault(fault),
            Event::Agent { member } => self.on_agent(member),
            Event::AgentAlarm { member, life } => self.on_agent_alarm(member, life),
            Event::AgentCall { member, call } => self.on_agent_call(member, *call),
            Event::AgentReply { member, life, id, answer } => {
                self.on_agent_reply(member, life, id, *answer);
            }
            Event::Citus(turn) => self.on_citus(turn),
            Event::Checkpoint { member } => self.on_checkpoint(member),
            Event::Read { group } => self.on_read(group),
            Event::SlotWork { member, life, step, leader } => {
                self.on_slot_work(member, life, &step, leader.as_ref());
            }
        }
        if changes_stores {
            let own = self.own_write.take();
            self.tell_all_watchers(own);
        }
    }

    fn tell_all_watchers(&mut self, own: Option<OwnWrite>) {
        for region in 0..self.stores.regions.len() {
            self.tell_watchers(region, own);
        }
    }

    pub fn at(&mut self, moment: u64, event: Event) {
        self.ticket += 1;
        let (moment, ticket) = (moment.max(self.now), self.ticket);
        self.queue.push(Due { moment, ticket, event });
    }

    pub fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now + ms, event);
    }

    pub fn wake_at(&mut self, moment: u64, member: usize) {
        let life = self.members[member].daemon.life;
        self.at(moment, Event::Wake { member, life, timer: None });
    }

    /// Sets the alarm of a daemon; an earlier one no longer counts.
    pub fn set_timer(&mut self, ms: u64, member: usize) {
        let daemon = &mut self.members[member].daemon;
        daemon.timer += 1;
        let (life, timer) = (daemon.life, Some(daemon.timer));
        self.after(ms, Event::Wake { member, life, timer });
    }

    pub fn keep_events(&mut self, keep: impl Fn(&Event) -> bool) {
        self.queue.retain(|due| keep(&due.event));
    }

    pub fn record_id(&mut self) -> u64 {
        self.next_record += 1;
        self.next_record
    }

    pub fn note(&mut self, line: String) {
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>9.3} {line}", self.now as f64 / 1000.0));
    }

    pub fn note_of(&mut self, member: usize, line: &str) {
        let name = self.members[member].name.clone();
        self.note(format!("{name}: {line}"));
    }

    pub fn decided(&mut self, member: usize, decision: &Decision) {
        if self.decisions.len() == TRACE_MAX {
            self.decisions.pop_front();
        }
        let decision = decision.clone();
        self.decisions.push_back(Decided { at: self.now, member, decision });
    }

    pub fn break_with(&mut self, invariant: &'static str, what: String) {
        if self.broken.is_none() {
            self.broken = Some(Broken { invariant, what });
        }
    }
}
