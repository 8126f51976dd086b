//! One member: a server, a daemon beside it, and the clock of their machine.

use super::Event;
use super::beat::Beat;
use super::call::CALL_MS;
use super::disk::Health;
use super::job::Work;
use super::postgres::Postgres;
use super::region::Agent;
use super::rng::Rng;
use super::stores::{Mirror, SCOPE};
use node::dcs::keys::Keys;
use node::ha::failsafe::{PeerSet, PromiseStore};
use node::ha::observation::{Memory, Rewind};
use node::observe::lock::OwnLease;
use topology::{Dynamic, Group, MemberName, Millis, Tags};

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

/// The process that decides.
#[derive(Debug, Default)]
pub struct Daemon {
    pub alive: bool,
    pub frozen: bool,
    /// Counts starts; events for an earlier life are dropped.
    pub life: u64,
    pub memory: Memory,
    pub lease: OwnLease,
    pub mirror: Mirror,
    /// Until when the last guard lets the server live.
    pub armed: Option<Millis>,
    pub status_due: bool,
    pub recorded_at: Millis,
    /// The lock was ours when this process last knew.
    pub held: bool,
    pub dynamic: Dynamic,
    pub beat: Option<Beat>,
    pub wake_pending: bool,
    pub timer: u64,
    pub job: Option<Work>,
    /// What reached the daemon while it was frozen.
    pub deferred: Vec<Event>,
    /// Leads its group, or no member does.
    pub speaks: bool,
    /// The highest epoch this process has seen verified.
    pub epoch: Option<u64>,
    pub last_paused: Option<Millis>,
    pub agent: Agent,
    pub peer_set: PeerSet,
    /// All members agreed that this member leads on until then.
    pub proof: Option<Millis>,
    pub asked_all: Millis,
    /// The store has not told this process yet whose lock it is.
    pub is_new: bool,
    /// The names that the daemon has given to the server, and whether to a primary.
    pub laid: Option<(String, bool)>,
    /// Since when the disk was seen to take no files.
    pub disk_fails_since: Option<Millis>,
    /// A beat was completed since this process began or was thawed.
    pub has_looked: bool,
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
    /// Until when the lock last held by this member lasts, on its own clock.
    /// Kept apart from the daemon, which forgets it when it dies.
    pub deadline: Millis,
    /// Stops take this much longer.
    pub slow_stop: u64,
    /// Replication to this member lags by this much more.
    pub lag: u64,
    pub disk: Health,
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
        Member {
            name: MemberName(format!("{letter}{group}n{number}")),
            keys: Keys::new("/service/", "shop", group),
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
            daemon: Daemon::default(),
            promises: PromiseStore::default(),
            deadline: Millis(0),
            slow_stop: 0,
            lag: 0,
            disk: Health::Well,
            jobs: 0,
            released_at: None,
            signed_at: None,
        }
    }

    /// What lies below the keys of this member's group.
    pub fn prefix(&self) -> String {
        match self.place.group {
            Group::PLAIN => SCOPE.to_string(),
            _ => self.keys.group_prefix(),
        }
    }

    pub fn host(&self) -> String {
        format!("host-{}", self.name)
    }

    /// Begins a new life of the daemon; everything it knew is gone.
    pub fn start_at(&mut self, now: u64) {
        let life = self.daemon.life + 1;
        let local = self.clock.read(now);
        let kept = self.daemon.proof.filter(|proof| local < *proof);
        let old = std::mem::take(&mut self.daemon);
        self.daemon = Daemon { alive: true, life, is_new: true, ..Daemon::default() };
        // What all agreed to lies on disk, as does the configuration.
        if kept.is_some() {
            (self.daemon.proof, self.daemon.peer_set) = (kept, old.peer_set);
            self.daemon.dynamic = old.dynamic;
        }
        self.daemon.memory.started = local;
        self.promises = PromiseStore::with_promise(self.promises.promise(local).cloned());
    }

    pub fn is_running(&self) -> bool {
        self.daemon.alive && !self.daemon.frozen
    }

    /// In pause a primary keeps running without a lock; when the pause ends it
    /// asks for one, and may write until it learns that another member has it.
    pub fn was_just_paused(&self, local: Millis) -> bool {
        let ago = self.daemon.last_paused.map(|at| local.since(at));
        self.daemon.dynamic.pause || ago.is_some_and(|ago| ago < 2 * CALL_MS + 500)
    }

    /// The daemon is not there to stop its server: dead, frozen, or not yet
    /// looked since, with a lock that has run out. Without a watchdog nothing
    /// stops such a server; the checker does not count it.
    ///
    /// A new daemon beside a running server gives the store `retry_timeout` to
    /// tell whose lock it is, and a call that began before that may end later.
    pub fn is_unguarded(&self, now: u64) -> bool {
        let local = self.clock.read(now);
        let memory = &self.daemon.memory;
        let grace = self.daemon.dynamic.retry_timeout_ms + 2 * CALL_MS + 500;
        let new = self.daemon.is_new && local.since(memory.started) < grace;
        let absent = !self.is_running() || !self.daemon.has_looked || new;
        (absent || self.was_just_paused(local)) && local + DRIFT_MS >= self.deadline
    }
}
