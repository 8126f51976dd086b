//! Two regions on stores in memory, with agents as they are and groups that are
//! reduced to what the protocol asks of them.
//!
//! Every group obeys `ownership` and `order` and nothing else. *One writer* is
//! checked at every change of a role: two regions are never open at once.

mod schedules;

use super::context::AgentContext;
use super::group_servers::{Done, GroupServers, Held};
use super::ownership::read_site;
use super::request::{RequestError, request_switch};
use super::run;
use crate::clock::unix_ms;
use crate::dcs::by_hand::Edit;
use crate::dcs::keys::Keys;
use crate::dcs::memory::MemoryStore;
use crate::dcs::{Session, Store};
use standby::promotion::may_open;
use standby::switch::agent::Pace;
use standby::switch::ownership::{Order, Ownership, Remembered, order, ownership};
use standby::switch::preflight::{Probe, STANDBY_SETTINGS};
use standby::switch::request::Refusal;
use standby::switch::write::sign;
use standby::switch::{Replayed, Site, Target};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;
use topology::region::{Journal, Phase, Policy, Token};
use topology::schedule::Limits;
use topology::{Group, Lsn, RegionName, SystemId, Timeline};

const SYSTEM: &str = "7710375988543033523";
const SHUTDOWN_RECORD: u64 = 120;
const GROUPS: [Group; 3] = [Group(Some(0)), Group(Some(1)), Group(Some(2))];
/// In beats, of which each of two members has one every 2 ms: far more than all
/// steps take, and far less than one tick or pause between two of them.
const OUTAGE: u32 = 50;
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Standby,
    Primary,
    Stopped,
}

#[derive(Clone, Debug)]
struct Server {
    role: Role,
    lsn: u64,
    signed: Option<String>,
    verified: Option<u64>,
}

#[derive(Default)]
struct Servers {
    all: BTreeMap<(RegionName, Group), Server>,
    /// Nothing that is replicated arrives.
    is_replay_stuck: bool,
    /// Beats of the coordinator's members while none of them is open: an
    /// outage, in what the simulated servers do, however slow the machine is.
    closed: u32,
}

impl Servers {
    fn set(&mut self, region: &RegionName, group: Group, role: Role) {
        let key = (region.clone(), group);
        let Some(server) = self.all.get_mut(&key) else {
            return;
        };
        if server.role == Role::Primary && role == Role::Stopped {
            server.lsn += SHUTDOWN_RECORD;
        }
        server.role = role;
        let open = self.all.iter().filter(|((_, g), s)| *g == group && s.role == Role::Primary);
        let open = open.count();
        assert!(open <= 1, "one writer: group {group} is open in two regions");
        self.closed += u32::from(open == 0 && group.is_coordinator());
    }

    fn replicate(&mut self) {
        if self.is_replay_stuck {
            return;
        }
        for group in GROUPS {
            let of = |s: &&(RegionName, Group)| s.1 == group;
            let keys: Vec<_> = self.all.keys().filter(of).cloned().collect();
            let end = keys.iter().map(|key| self.all[key].lsn).max().unwrap_or(0);
            for key in keys {
                if let Some(server) = self.all.get_mut(&key).filter(|s| s.role == Role::Standby) {
                    server.lsn = end;
                }
            }
        }
    }
}

/// Answers as sound servers would; `host` of a target is its region's name.
#[derive(Clone)]
struct FakeServers(Arc<Mutex<Servers>>);

impl GroupServers for FakeServers {
    fn probe(&self, target: Target) -> Done<'_, Probe> {
        let in_recovery = role(&self.0, &target) != Role::Primary;
        Box::pin(async move {
            Ok(Probe {
                in_recovery,
                version: 150004,
                system_id: SYSTEM.into(),
                settings: STANDBY_SETTINGS.iter().map(|s| (s.to_string(), 100)).collect(),
                wal_log_hints: true,
                is_streaming: in_recovery,
                ..Probe::default()
            })
        })
    }

    fn checkpoint(&self, _: Target) -> Done<'_, Duration> {
        Box::pin(async { Ok(Duration::from_millis(1)) })
    }

    fn hold(&self, _: Vec<Target>, _: u64) -> Done<'_, Held> {
        Box::pin(async { Ok(Box::new(()) as Held) })
    }

    fn replayed(&self, target: Target) -> Done<'_, Replayed> {
        let key = (RegionName::new(&*target.host), target.group);
        let lsn = lock(&self.0).all.get(&key).map(|server| server.lsn);
        Box::pin(async move {
            let lsn = Lsn(lsn.ok_or("no such server")?);
            Ok(Replayed { system_id: SystemId(SYSTEM.into()), timeline: Some(Timeline(1)), lsn })
        })
    }
}

fn role(servers: &Mutex<Servers>, target: &Target) -> Role {
    let key = (RegionName::new(&*target.host), target.group);
    lock(servers).all.get(&key).map_or(Role::Stopped, |server| server.role)
}

fn lock(servers: &Mutex<Servers>) -> MutexGuard<'_, Servers> {
    servers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One daemon that may become the agent.
struct Daemon {
    task: tokio::task::JoinHandle<()>,
    lease: Session,
    region: &'static str,
    /// Its way to the other region's store.
    line: MemoryStore,
    _out: (watch::Sender<Option<Session>>, watch::Sender<bool>),
}

struct World {
    stores: BTreeMap<&'static str, MemoryStore>,
    servers: Arc<Mutex<Servers>>,
    groups: Vec<tokio::task::JoinHandle<()>>,
    daemons: Vec<Daemon>,
    policy: Policy,
    pace: Pace,
    broken: Arc<AtomicBool>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.groups.iter().for_each(tokio::task::JoinHandle::abort);
        self.daemons.iter().for_each(|daemon| daemon.task.abort());
        assert!(!self.broken.load(Ordering::SeqCst) || std::thread::panicking(), "a group failed");
    }
}

fn keys() -> Keys {
    Keys::new("/service/", "shop", Group::COORDINATOR)
}

fn other(region: &str) -> &'static str {
    if region == "a" { "b" } else { "a" }
}

impl World {
    fn new(step_seconds: u64) -> World {
        let policy = format!(
            r#"{{"formation":"shop","step_seconds":{step_seconds},"regions":[
            {{"name":"a","priority":2,"endpoints":["a:1"]}},{{"name":"b","endpoints":["b:1"]}}]}}"#
        );
        let mut world = World {
            stores: [("a", MemoryStore::new()), ("b", MemoryStore::new())].into(),
            servers: Arc::default(),
            groups: Vec::new(),
            daemons: Vec::new(),
            policy: serde_json::from_str(&policy).expect("a policy"),
            pace: Pace::default(),
            broken: Arc::default(),
        };
        for region in ["a", "b"] {
            for group in GROUPS {
                world.add_group(region, group);
            }
        }
        world
    }

    fn add_group(&mut self, region: &'static str, group: Group) {
        let server = Server { role: Role::Standby, lsn: 1_000, signed: None, verified: None };
        lock(&self.servers).all.insert((region.into(), group), server);
        let member = Member {
            store: self.stores[region].clone(),
            servers: self.servers.clone(),
            region: region.into(),
            group,
        };
        let broken = self.broken.clone();
        self.groups.push(tokio::spawn(async move {
            let lives = tokio::spawn(member.live());
            broken.store(lives.await.is_err_and(|e| e.is_panic()), Ordering::SeqCst);
        }));
    }

    fn add_daemon(&mut self, region: &'static str, member: &str) {
        let store = &self.stores[region];
        let line = self.stores[other(region)].client();
        let lease = store.grant_now(Duration::from_secs(30)).expect("a lease");
        let (lease_out, lease_in) = watch::channel(Some(lease));
        let (lock_out, holds_lock) = watch::channel(true);
        let remote: Arc<dyn Store> = Arc::new(line.clone());
        let task = tokio::spawn(run::run(AgentContext {
            region: region.into(),
            policy: self.policy.clone(),
            name: format!("{region}/{member}"),
            is_preferred: true,
            keys: keys(),
            store: Arc::new(store.clone()),
            others: [(other(region).into(), remote)].into(),
            servers: Arc::new(FakeServers(self.servers.clone())),
            lease: lease_in,
            holds_lock,
            memory: watch::channel(None).1,
            pace: self.pace,
        }));
        self.daemons.push(Daemon { task, lease, region, line, _out: (lease_out, lock_out) });
    }

    fn with_agents(step_seconds: u64) -> World {
        World::new(step_seconds).and_agents()
    }

    fn and_agents(mut self) -> World {
        self.add_daemon("a", "n1");
        self.add_daemon("b", "n1");
        self
    }

    /// Agents and drivers that go on only when a change reaches them.
    fn without_clocks() -> World {
        let never = 3_600_000;
        let mut world = World::new(20);
        world.pace = Pace { agent_ms: never, mover_ms: never };
        world.and_agents()
    }

    /// The oldest daemon of a region dies, and its lease ends.
    fn kill_agent(&mut self, region: &str) {
        let index = self.daemons.iter().position(|d| d.region == region).expect("a daemon");
        let daemon = self.daemons.remove(index);
        daemon.task.abort();
        self.stores[region].revoke_now(daemon.lease).expect("revoked");
    }

    fn cut_regions(&self, cut: bool) {
        self.daemons.iter().for_each(|daemon| daemon.line.set_unreachable(cut));
    }

    fn site(&self, region: &str) -> Site {
        let read = self.stores[region].read_now(&[keys().scope_prefix()]).expect("read");
        read_site(&keys(), &read.entries)
    }

    fn roles(&self, region: &str) -> Vec<Role> {
        let servers = lock(&self.servers);
        GROUPS.iter().map(|group| servers.all[&(region.into(), *group)].role).collect()
    }

    fn is_open(&self, region: &str) -> bool {
        self.roles(region).iter().all(|role| *role == Role::Primary)
    }

    fn epoch(&self, region: &str) -> u64 {
        self.site(region).topology.accepted_epoch()
    }

    fn phase(&self, region: &str) -> Option<Phase> {
        self.site(region).topology.journal().map(|journal| journal.phase)
    }

    async fn until(&self, what: &str, test: impl Fn(&World) -> bool) {
        let began = std::time::Instant::now();
        while !test(self) {
            if began.elapsed() > LIMIT {
                let (a, b) = (self.site("a"), self.site("b"));
                panic!(
                    "never: {what}\na {:?} {:?} {:?}\nb {:?} {:?} {:?}",
                    self.roles("a"),
                    a.topology.journal(),
                    a.topology.certificate(),
                    self.roles("b"),
                    b.topology.journal(),
                    b.topology.certificate()
                );
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn settled(&self) {
        self.until("region a opens", |w| w.is_open("a")).await;
        self.until("all is published", |w| {
            let [a, b] = ["a", "b"].map(|region| w.site(region));
            let ready = |site: &Site, role: &str| {
                let leaders = site.groups.values().filter_map(|g| g.leader_record());
                leaders.filter(|r| r.role.text() == role).count() == GROUPS.len()
            };
            b.topology.accepted_epoch() == 1
                && ready(&a, "primary")
                && ready(&b, "standby_leader")
                && a.topology.peers.contains_key(&"b".into())
                && b.topology.peers.contains_key(&"a".into())
                && b.topology.verified.is_some()
        })
        .await;
    }

    async fn ask(&self, from: &str, to: &str) -> Result<Journal, RequestError> {
        let store = &self.stores[from];
        let (from, to) = (from.into(), to.into());
        request_switch(store, &keys(), (&from, &to), &Limits::default(), unix_ms()).await
    }
}

/// One group of one region: its only member, which holds the lock.
struct Member {
    store: MemoryStore,
    servers: Arc<Mutex<Servers>>,
    region: RegionName,
    group: Group,
}

impl Member {
    async fn live(self) {
        let keys = keys().for_group(self.group);
        self.put(keys.leader(), "n".into());
        self.put(keys.initialize(), SYSTEM.into());
        loop {
            self.beat(&keys);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn put(&self, key: String, value: String) {
        self.store.edit_now([Edit::put(key, value)]).expect("written");
    }

    fn beat(&self, keys: &Keys) {
        let read = self.store.read_now(&[keys.scope_prefix()]).expect("read");
        let site = read_site(keys, &read.entries);
        let mut servers = lock(&self.servers);
        servers.replicate();
        let server = servers.all[&(self.region.clone(), self.group)].clone();
        let local = &site.topology;
        let disk = Remembered { newest: local.accepted_epoch(), verified: server.verified };
        let owner = ownership(local, &self.region, self.group, disk);
        let mut after = server.clone();
        let role = match (order(local, &self.region, self.group, disk), &owner) {
            (Some(Order::StopAndSign { id }), _) => {
                if server.role == Role::Stopped && server.signed.as_ref() != Some(&id) {
                    self.sign(keys, &site, &id, server.lsn - SHUTDOWN_RECORD);
                    after.signed = Some(id);
                }
                Role::Stopped
            }
            (None, Ownership::Owner { epoch, token, opening }) => {
                after.verified = Some(*epoch);
                let system = SystemId(SYSTEM.into());
                let at = (Some(Timeline(1)), Lsn(server.lsn));
                let ready = may_open(token.as_ref(), &system, at.0, at.1).is_ok();
                let workers_open = site.groups.iter().all(|(group, view)| {
                    let leader = view.leader_record();
                    group.is_coordinator() || leader.is_some_and(|l| l.role.text() == "primary")
                });
                let waits = *opening && self.group.is_coordinator() && !workers_open;
                if ready && !waits { Role::Primary } else { Role::Standby }
            }
            (None, _) => Role::Standby,
        };
        servers.set(&self.region, self.group, role);
        if let Some(server) = servers.all.get_mut(&(self.region.clone(), self.group)) {
            server.signed = after.signed;
            server.verified = after.verified;
        }
        drop(servers);
        self.publish(keys, &site, role, &owner);
    }

    fn sign(&self, keys: &Keys, site: &Site, id: &str, lsn: u64) {
        let system_id = SystemId(SYSTEM.into());
        let token = Token { system_id, timeline: Timeline(1), lsn: Lsn(lsn) };
        let write = sign(&site.topology, &"n".into(), id, &token).expect("an order");
        self.store.write_now(keys, &write).expect("written");
    }

    fn publish(&self, keys: &Keys, site: &Site, role: Role, owner: &Ownership) {
        let (text, state) = match role {
            Role::Primary => ("primary", "running"),
            Role::Standby => ("standby_leader", "running"),
            Role::Stopped => ("demoted", "stopped"),
        };
        let record = format!(
            r#"{{"conn_url":"postgres://{}:5432/x","state":"{state}","role":"{text}","replication_state":"streaming","timeline":1}}"#,
            self.region
        );
        let known = site.groups.get(&self.group).and_then(|g| g.members.get(&"n".into()));
        if known.is_none_or(|m| m.value != topology::MemberRecord::read(&record)) {
            self.put(keys.member(&"n".into()), record);
        }
        let rewires = self.group.is_coordinator() && role == Role::Primary;
        let journal = site.topology.journal();
        if let (true, Ownership::Owner { opening: true, .. }, Some(j)) = (rewires, owner, journal) {
            let rewired = format!(r#"{{"id":"{}"}}"#, j.id);
            if site.topology.rewired.as_ref().is_none_or(|r| r.id != j.id) {
                self.put(keys.topology("switch/rewired"), rewired);
            }
        }
    }
}

#[tokio::test]
async fn the_first_certificate_waits_for_every_store() {
    let mut world = World::new(20);
    world.add_daemon("a", "n1");
    world.cut_regions(true);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!((world.epoch("a"), world.is_open("a")), (0, false));
    world.add_daemon("b", "n1");
    world.cut_regions(false);
    world.settled().await;
    assert_eq!((world.epoch("a"), world.epoch("b")), (1, 1));
    assert_eq!(world.roles("b"), [Role::Standby; 3]);
}

#[tokio::test]
async fn a_region_that_was_restarted_opens_only_after_reading_the_other() {
    let mut world = World::with_agents(20);
    world.settled().await;
    world.kill_agent("a");
    for server in lock(&world.servers).all.values_mut() {
        server.verified = None;
    }
    world.until("nobody remembers the epoch", |w| w.roles("a") == [Role::Standby; 3]).await;
    world.add_daemon("a", "n2");
    world.daemons.last().expect("a daemon").line.set_unreachable(true);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.roles("a"), [Role::Standby; 3]);
    world.cut_regions(false);
    world.until("the other register was read", |w| w.is_open("a")).await;
}

#[tokio::test]
async fn an_agent_that_saw_the_mark_takes_over_without_the_other_region() {
    let mut world = World::with_agents(20);
    world.add_daemon("a", "n2");
    world.settled().await;
    let mark = world.site("a").topology.verified.expect("a mark").session;
    world.cut_regions(true);
    world.kill_agent("a");
    world
        .until("the mark hangs on the new agent's lease", |w| {
            w.site("a").topology.verified.is_some_and(|v| v.session != mark)
        })
        .await;
    assert!(world.is_open("a"));
}

#[tokio::test]
async fn a_lost_store_is_repaired_from_the_other_region() {
    let world = World::with_agents(20);
    world.settled().await;
    let prefix = keys().topology_prefix();
    let lost = ["register", "certificate"].map(|key| Edit::delete(format!("{prefix}{key}")));
    world.stores["b"].edit_now(lost).expect("written");
    world.until("b accepts the certificate again", |w| w.epoch("b") == 1).await;
}

/// And waits for nothing but what others tell: no step takes a tick.
#[tokio::test]
async fn a_move_goes_there_and_back() {
    let world = World::without_clocks();
    world.settled().await;
    assert!(matches!(
        world.ask("a", "x").await,
        Err(RequestError::Refused(Refusal::UnknownRegion(..)))
    ));
    assert!(matches!(
        world.ask("a", "a").await,
        Err(RequestError::Refused(Refusal::AlreadyOwner(..)))
    ));
    assert!(matches!(world.ask("b", "b").await, Err(RequestError::Refused(Refusal::NotOwner(_)))));
    let mut owner = "a";
    for epoch in 2..=3 {
        let to = other(owner);
        lock(&world.servers).closed = 0;
        world.ask(owner, to).await.expect("asked");
        assert!(matches!(
            world.ask(owner, to).await,
            Err(RequestError::Refused(Refusal::Running { .. }))
        ));
        let over = |w: &World, region: &str| w.phase(region) == Some(Phase::Done);
        world.until("both copies are done", |w| over(w, "a") && over(w, "b")).await;
        assert!(world.is_open(to), "{:?}", world.roles(to));
        assert_eq!((world.epoch("a"), world.epoch("b")), (epoch, epoch));
        assert_eq!(world.roles(owner), [Role::Standby; 3]);
        let journal = world.site(to).topology.journal().cloned().expect("a journal");
        let phases: Vec<Phase> = journal.steps.iter().map(|step| step.phase).collect();
        use Phase::*;
        let all =
            [Requested, Preflight, Warm, Hold, Stop, CatchUp, Certify, Open, Rewire, Reverse, Done];
        assert_eq!(phases, all);
        let closed = lock(&world.servers).closed;
        assert!(closed < OUTAGE, "{closed} beats, {:?}", journal.steps);
        owner = to;
    }
    assert_eq!(world.site("a").topology.history.expect("a history").value.len(), 2);
}

#[tokio::test]
async fn a_move_to_a_region_whose_store_is_silent_does_not_begin() {
    let world = World::with_agents(20);
    world.settled().await;
    world.cut_regions(true);
    world.ask("a", "b").await.expect("asked");
    world.until("it is given up", |w| w.phase("a") == Some(Phase::Aborted)).await;
    let journal = world.site("a").topology.journal().cloned().expect("a journal");
    assert!(journal.error.is_some_and(|why| why.contains("its store does not answer")));
    assert!(journal.steps.iter().all(|step| step.phase != Phase::Stop));
    assert!(world.is_open("a"));
}

#[tokio::test]
async fn a_driver_may_die_in_every_phase() {
    use Phase::*;
    for phase in [Preflight, Warm, Hold, Stop, CatchUp, Open, Rewire, Reverse] {
        let mut world = World::with_agents(20);
        world.add_daemon("a", "n2");
        world.settled().await;
        world.ask("a", "b").await.expect("asked");
        world.until("the phase comes", |w| w.phase("a") >= Some(phase)).await;
        world.kill_agent("a");
        world.until("the move is done", |w| w.phase("b") == Some(Done)).await;
        world.until("the old side knows", |w| w.phase("a") == Some(Done)).await;
        assert!(world.is_open("b"), "{phase:?}");
        assert_eq!(world.epoch("a"), 2, "{phase:?}");
    }
}

#[tokio::test]
async fn a_late_move_is_given_up_and_the_old_side_serves_again() {
    let world = World::with_agents(1);
    world.settled().await;
    lock(&world.servers).is_replay_stuck = true;
    world.ask("a", "b").await.expect("asked");
    world.until("the move is given up", |w| w.phase("a") == Some(Phase::Aborted)).await;
    world.until("the old side is open", |w| w.is_open("a")).await;
    assert_eq!((world.epoch("a"), world.roles("b")), (1, vec![Role::Standby; 3]));
    let why = world.site("a").topology.journal().and_then(|j| j.error.clone());
    assert!(why.is_some_and(|why| why.contains("have not replayed")));
    lock(&world.servers).is_replay_stuck = false;
    world.until("b knows", |w| w.phase("b") == Some(Phase::Aborted)).await;
    world.ask("a", "b").await.expect("asked again");
    world.until("the second move is done", |w| w.phase("a") == Some(Phase::Done)).await;
}

#[tokio::test]
async fn after_the_certificate_the_old_side_stays_closed_until_the_new_one_is_reached() {
    let world = World::with_agents(20);
    world.settled().await;
    lock(&world.servers).is_replay_stuck = true;
    world.ask("a", "b").await.expect("asked");
    world.until("all have signed", |w| w.phase("a") == Some(Phase::CatchUp)).await;
    world.cut_regions(true);
    lock(&world.servers).is_replay_stuck = false;
    world.until("the decision is made", |w| w.epoch("a") == 2).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!((world.epoch("b"), world.phase("a")), (1, Some(Phase::Open)));
    assert!(!world.is_open("a") && !world.is_open("b"));
    world.cut_regions(false);
    world.until("the move is done", |w| w.phase("a") == Some(Phase::Done)).await;
    assert!(world.is_open("b"));
}
