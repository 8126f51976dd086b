//! One member: a server, a daemon beside it, and the clock of their machine.

use super::Event;
use super::call::CALL_MS;
use super::citus::round::RoundWork;
use super::disk::Health;
use super::job::Work;
use super::postgres::Postgres;
use super::region::{Agent, FORMATION};
use super::rng::Rng;
use super::stores::Mirror;
use citus::registrar::Registrar;
use citus::resolver::Resolver;
use member::ha::failsafe::PromiseStore;
use member::ha::observation::{Job, Rewind};
use member::{Configurations, KeptProof, Member as Machine, Report, SlotEnd, Stage};
use node::dcs::keys::Keys;
use serde_json::Value;
use standby::slots::SlotStep;
use standby::sync::ActingNames;
use topology::acceptor::Acceptor;
use topology::{Group, MemberName, Millis, Tags};

/// The shortest `ttl` where no file says otherwise, in seconds.
const MINIMUM_TTL_S: u64 = 20;
/// How far a clock may be off over one ttl.
const DRIFT_MS: u64 = 600;

#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub region: usize,
    /// Index of the client that writes to this member's group, in any region.
    pub client: usize,
    pub group: Group,
    pub number: usize,
}

/// A machine's steady clock: another zero, and up to one percent off.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: u64,
    drift_per_mille: i64,
}

impl Clock {
    pub fn read(&self, now: u64) -> Millis {
        let drift = now as i64 * self.drift_per_mille / 1_000;
        Millis((self.zero as i64 + now as i64 + drift) as u64)
    }

    /// The true moment at which this clock shows `local`, rounded up.
    pub fn when(&self, local: Millis) -> u64 {
        let span = local.0.saturating_sub(self.zero) as i64;
        (span * 1_000 / (1_000 + self.drift_per_mille) + 1) as u64
    }
}

/// The process that decides, by the daemon's own machine.
#[derive(Debug)]
pub struct Daemon {
    pub machine: Machine,
    pub alive: bool,
    pub frozen: bool,
    /// Counts starts; events for an earlier life are dropped.
    pub life: u64,
    pub mirror: Mirror,
    /// Until when the last guard lets the server live.
    pub armed: Option<Millis>,
    /// The beat is over; what is done after it is under way.
    pub after_beat: Option<AfterBeat>,
    pub wake_pending: bool,
    pub timer: u64,
    pub job: Option<Work>,
    /// Work on logical slots, beside the beats, and what of it has ended.
    pub slot_work: Vec<SlotStep>,
    pub slot_ended: Vec<SlotEnd>,
    /// Which names of synchronous standbys act, as far as this process knows; and whether those
    /// do that the server showed last.
    pub names: ActingNames,
    pub names_act: bool,
    /// The job that has ended since the last look.
    pub ended: Option<(Job, Result<(), String>)>,
    /// What reached the daemon while it was frozen.
    pub deferred: Vec<Event>,
    /// Leads its group, or no member does.
    pub speaks: bool,
    pub last_paused: Option<Millis>,
    pub agent: Agent,
    /// The store has not told this process yet whose lock it is: a free one is no answer.
    pub is_new: bool,
    /// The checkpoint after a promotion was asked for; its end is still to be told.
    pub awaits_checkpoint: bool,
    /// This beat looked at the world, after the last thaw.
    pub looks: bool,
    /// Such a beat was completed since this process began or was thawed.
    pub has_looked: bool,
    /// What it tells the others of its disk, as of its last beat.
    pub disk_failed: bool,
    /// When a coordinator looks at `pg_dist_node`, and the round that runs.
    pub registrar: Registrar,
    pub resolver: Resolver,
    pub round: Option<RoundWork>,
}

/// How far the time after a beat has come.
#[derive(Debug)]
pub struct AfterBeat {
    pub report: Box<Report>,
    pub stage: Stage,
}

impl Daemon {
    fn new(machine: Machine, life: u64) -> Daemon {
        Daemon {
            machine,
            alive: false,
            frozen: false,
            life,
            mirror: Mirror::default(),
            armed: None,
            after_beat: None,
            wake_pending: false,
            timer: 0,
            job: None,
            slot_work: Vec::new(),
            slot_ended: Vec::new(),
            names: ActingNames::default(),
            names_act: false,
            ended: None,
            deferred: Vec::new(),
            speaks: false,
            last_paused: None,
            agent: Agent::default(),
            is_new: true,
            awaits_checkpoint: false,
            looks: false,
            has_looked: false,
            disk_failed: false,
            registrar: Registrar::default(),
            resolver: Resolver::default(),
            round: None,
        }
    }
}

pub struct Member {
    pub name: MemberName,
    pub keys: Keys,
    pub place: Place,
    pub clock: Clock,
    pub tags: Tags,
    pub rewind: Rewind,
    /// A `pre_promote` command is configured; it may take long, and refuse.
    pub has_gate: bool,
    pub may_rebuild_diverged: bool,
    pub may_rebuild_failed: bool,
    pub server: Postgres,
    pub daemon: Daemon,
    /// Promises of failsafe mode; what was promised lies on disk.
    pub promises: PromiseStore,
    /// What all members agreed to, as it lies on disk.
    pub kept_proof: Option<KeptProof>,
    /// What the disk knows of the region's store.
    pub kept_region: Option<Acceptor>,
    /// Until when the lock last held by this member lasts, on its own clock.
    /// Kept apart from the daemon, which forgets it when it dies.
    pub deadline: Millis,
    /// Stops take this much longer.
    pub slow_stop: u64,
    /// Replication to this member lags by this much more.
    pub lag: u64,
    pub disk: Health,
    /// How far the host's wall clock is off, in milliseconds.
    pub wall_off: i64,
    /// The host is lost with all that was on it.
    pub is_gone: bool,
    /// Its server was started by hand, and by no daemon since.
    pub is_by_hand: bool,
    /// Its standby tells which rows it still reads.
    pub has_feedback: bool,
    /// When the store last had its record, on the true clock.
    pub seen_at: u64,
    /// The WAL that it needs was removed, and might be.
    pub may_starve: bool,
    /// The operator keeps the daemon down until then, on the true clock.
    pub down_until: u64,
    pub jobs: u64,
    /// A stop of a region move or a switchover, for the checker.
    pub released_at: Option<usize>,
    /// The same for a region move: the group's end was signed.
    pub signed_at: Option<usize>,
}

impl Member {
    pub fn new(place: Place, rng: &mut Rng) -> Member {
        let Place { region, group, number, .. } = place;
        let letter = char::from(b'a' + region as u8);
        let mut tags = serde_json::Map::new();
        if number > 0 && rng.percent(10) {
            tags.insert("nofailover".into(), true.into());
        }
        let name = MemberName(format!("{letter}{group}n{number}"));
        let keys = Keys::new("/service/", "shop", group);
        let machine = Machine::new(name.clone(), MINIMUM_TTL_S, Millis(0));
        Member {
            name,
            keys,
            place,
            clock: Clock {
                zero: rng.range(1_000_000, 9_000_000),
                drift_per_mille: rng.range(0, 20) as i64 - 10,
            },
            tags: Tags(tags),
            rewind: if rng.percent(85) { Rewind::Possible } else { Rewind::Off },
            has_gate: rng.percent(15),
            may_rebuild_diverged: rng.percent(60),
            may_rebuild_failed: rng.percent(50),
            server: Postgres::empty(),
            daemon: Daemon::new(machine, 0),
            promises: PromiseStore::default(),
            kept_proof: None,
            kept_region: None,
            deadline: Millis(0),
            slow_stop: 0,
            lag: 0,
            disk: Health::Well,
            wall_off: 0,
            is_gone: false,
            is_by_hand: false,
            has_feedback: false,
            seen_at: 0,
            may_starve: false,
            down_until: 0,
            jobs: 0,
            released_at: None,
            signed_at: None,
        }
    }

    pub fn host(&self) -> String {
        format!("host-{}", self.name)
    }

    /// Begins a new life of the daemon; everything it knew is gone, but for what lies on
    /// disk. `own`: the configuration in its local file.
    pub fn start_at(&mut self, now: u64, own: Value, minimum_ttl: u64) {
        let local = self.clock.read(now);
        let kept = self.server.kept_configuration.clone();
        let configurations = Configurations { kept, own: Some(own), is_backup: false };
        let mut machine = Machine::new(self.name.clone(), minimum_ttl, local);
        (machine.dynamic, _) = configurations.first("the copy", minimum_ttl);
        machine.take_kept_proof(self.kept_proof.clone(), local);
        machine.take_region_memory(Ok(self.kept_region.clone()), FORMATION);
        let life = self.daemon.life + 1;
        self.daemon = Daemon { alive: true, ..Daemon::new(machine, life) };
        self.promises = PromiseStore::with_promise(self.promises.promise(local).cloned());
    }

    /// Nothing of what this member knew is left, on disk either.
    pub fn forget_all(&mut self) {
        let machine = Machine::new(self.name.clone(), MINIMUM_TTL_S, Millis(0));
        self.daemon = Daemon::new(machine, self.daemon.life);
        (self.promises, self.kept_proof) = (PromiseStore::default(), None);
        self.kept_region = None;
    }

    /// What the host's wall clock shows when the right time is `unix_ms`.
    pub fn wall(&self, unix_ms: u64) -> u64 {
        unix_ms.saturating_add_signed(self.wall_off)
    }

    pub fn is_running(&self) -> bool {
        self.daemon.alive && !self.daemon.frozen
    }

    /// In pause a primary keeps running without a lock; when the pause ends it
    /// asks for one, and may write until it learns that another member has it.
    pub fn was_just_paused(&self, local: Millis) -> bool {
        let ago = self.daemon.last_paused.map(|at| local.since(at));
        self.daemon.machine.dynamic.pause || ago.is_some_and(|ago| ago < 2 * CALL_MS + 500)
    }

    /// The daemon is not there to stop its server: dead, frozen, or not yet
    /// looked since, with a lock that has run out. Without a watchdog nothing
    /// stops such a server; the checker does not count it.
    ///
    /// A new daemon beside a running server gives the store `retry_timeout` to
    /// tell whose lock it is, and a call that began before that may end later.
    pub fn is_unguarded(&self, now: u64) -> bool {
        let local = self.clock.read(now);
        let memory = &self.daemon.machine.memory;
        let grace = self.daemon.machine.dynamic.retry_timeout_ms + 2 * CALL_MS + 500;
        let new = self.daemon.is_new && local.since(memory.started) < grace;
        let absent = !self.is_running() || !self.daemon.has_looked || new;
        (absent || self.was_just_paused(local)) && local + DRIFT_MS >= self.deadline
    }
}
