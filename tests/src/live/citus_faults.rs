//! Faults that change the leader of a Citus group, one round after the other, under the
//! transfers of `citus_bank`: after each round the books are right, nothing is in doubt and
//! `pg_dist_node` names the leaders on every metadata node, by the numbers it had.

use super::citus_bank::{Bank, COORDINATORS, Tale, WORKERS};
use super::citus_formation::{COORDINATOR, Formation, connect, short_times};
use super::net::Net;
use super::stage::{LONG, SHORT, TTL};
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const STORE: &str = "etcd-local";
/// Between rounds, so that a round does not pay for the one before.
const CALM: Duration = Duration::from_millis(500);
/// A node that is frozen as a whole wakes up after another member has led for this time.
const THAW: Duration = Duration::from_secs(3);
/// A frozen postmaster wakes up after this.
const NAP: Duration = Duration::from_secs(6);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Switchover,
    /// kill -9 of the daemon and of the server with all its processes.
    KillNode,
    /// kill -9 of the postmaster alone.
    KillPostmaster,
    /// SIGSTOP of the daemon until another member leads.
    FreezeDaemon,
    /// SIGSTOP of the daemon and of all processes of the server.
    FreezeNode,
    /// SIGSTOP of the postmaster for some seconds; its backends go on.
    FreezePostmaster,
    /// No packet to or from the store and all other members.
    Cut,
}

impl Fault {
    pub const fn says(self) -> &'static str {
        match self {
            Fault::Switchover => "switchover",
            Fault::KillNode => "kill -9 of daemon and server",
            Fault::KillPostmaster => "kill -9 of the postmaster",
            Fault::FreezeDaemon => "SIGSTOP of the daemon",
            Fault::FreezeNode => "SIGSTOP of daemon and server",
            Fault::FreezePostmaster => "SIGSTOP of the postmaster for 6 s",
            Fault::Cut => "cut off from all",
        }
    }
}

/// The stand-in has no shards: nothing of this can be shown on it.
pub fn has_extension() -> bool {
    let has = ctl::demo::has_citus(&super::ground::programs());
    if !has {
        println!("  the Citus extension is not installed: passed over");
    }
    has
}

/// `members` of groups 0, 1 and 2, each in a namespace of its own. The formation is dropped first.
pub(super) async fn apart(members: [usize; 3]) -> (Net, Formation) {
    let names = members.iter().zip(["coord", "work1", "work2"]);
    let names = names.flat_map(|(count, group)| (1..=*count).map(move |n| format!("{group}{n}")));
    let names: Vec<String> = names.chain([STORE.to_string()]).collect();
    let net = Net::lay(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut formation = Formation::prepare(members, |plan| {
        let region = &mut plan.regions[0];
        region.store_host = net.address(STORE);
        region.members.iter_mut().for_each(|m| m.host = net.address(&m.name));
        plan.namespaces = names.iter().map(|name| (name.clone(), net.space(name))).collect();
        short_times(plan);
    });
    formation.stand_up().await;
    (net, formation)
}

/// No packet of this member reaches the store or another member, or comes from there.
pub(super) fn cut_off(formation: &Formation, net: &Net, member: &MemberPlan) {
    let all = formation.field.plan.members().map(|other| other.name.as_str());
    for other in all.chain([STORE]).filter(|other| *other != member.name) {
        net.cut_both(&member.name, other);
    }
}

pub struct Rounds {
    pub formation: Formation,
    /// Dropped after the formation: its processes live in these namespaces.
    net: Net,
    bank: Bank,
    numbers: Vec<(i32, i32)>,
    told: BTreeMap<(u32, Fault), Vec<Told>>,
}

/// What one round cost.
struct Told {
    /// Until the rows named the new leader everywhere.
    wired: Duration,
    doubt: Duration,
    through: [(&'static str, Tale); 2],
}

impl Rounds {
    /// `members` of groups 0, 1 and 2, each in a namespace of its own.
    pub async fn raise(members: [usize; 3]) -> Rounds {
        let (net, formation) = apart(members).await;
        let bank = Bank::open(&formation).await;
        let numbers = formation.numbers().await;
        Rounds { formation, net, bank, numbers, told: BTreeMap::new() }
    }

    pub async fn round(&mut self, group: u32, fault: Fault) {
        self.formation.healthy().await;
        tokio::time::sleep(CALM).await;
        let old = self.formation.leader(group).await;
        println!("  group {group}, {}: {}", old.name, fault.says());
        let begin = Instant::now();
        match fault {
            Fault::Switchover => drop(self.formation.switchover(group).await),
            Fault::KillPostmaster => self.crash(&old).await,
            Fault::FreezePostmaster => self.nap(&old).await,
            _ => self.lose(group, &old, fault).await,
        }
        match fault {
            // A frozen server's kernel still answers: sessions that wait for the server cannot
            // be ended, and keep the locks that a change of its row needs.
            Fault::FreezeNode => tokio::time::sleep(THAW).await,
            // Without a watchdog the old server runs on, and the commits of its own clients wait
            // for standbys that have left it.
            Fault::FreezeDaemon if group == COORDINATOR => self.is_wired_without(begin).await,
            _ => {
                self.is_wired_without(begin).await;
                self.bank.goes_on(&self.formation, Instant::now(), SHORT).await;
            }
        }
        self.bring_back(&old, fault);
        self.formation.is_wired(SHORT).await;
        let wired = begin.elapsed();
        self.formation.healthy().await;
        self.bank.goes_on(&self.formation, Instant::now(), SHORT).await;
        let through = [COORDINATORS, WORKERS].map(|way| (way, self.bank.tale(way, begin)));
        let doubt = self.bank.audit(&self.formation).await;
        assert_eq!(self.formation.numbers().await, self.numbers, "primary rows were made anew");
        let told = Told { wired, doubt, through };
        tell(&told);
        self.told.entry((group, fault)).or_default().push(told);
    }

    /// Rows need no member that is away.
    async fn is_wired_without(&self, begin: Instant) {
        self.formation.is_wired(SHORT).await;
        println!("    rows right after {:.2?}", begin.elapsed());
    }

    async fn crash(&self, victim: &MemberPlan) {
        assert!(self.formation.field.signal_postmaster(victim, Signal::SIGKILL));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let what = "a server that runs again";
        self.formation.until(what, LONG, async || connect(victim).await.is_ok()).await;
    }

    async fn nap(&self, victim: &MemberPlan) {
        assert!(self.formation.field.signal_postmaster(victim, Signal::SIGSTOP));
        tokio::time::sleep(NAP).await;
        assert!(self.formation.field.signal_postmaster(victim, Signal::SIGCONT));
    }

    /// Until another member leads.
    async fn lose(&mut self, group: u32, old: &MemberPlan, fault: Fault) {
        self.formation.is_away(old);
        let field = &mut self.formation.field;
        match fault {
            Fault::KillNode => field.kill_node(old),
            Fault::FreezeDaemon => assert!(field.signal_daemon(&old.name, Signal::SIGSTOP)),
            Fault::FreezeNode => assert!(field.signal_node(old, Signal::SIGSTOP)),
            Fault::Cut => cut_off(&self.formation, &self.net, old),
            _ => unreachable!("no leader is lost by it"),
        }
        let formation = &self.formation;
        formation
            .until("a new leader", TTL + SHORT, async || {
                formation.leader_if_any(group).await.is_some()
            })
            .await;
    }

    fn bring_back(&mut self, old: &MemberPlan, fault: Fault) {
        let field = &mut self.formation.field;
        match fault {
            Fault::KillNode => field.start_member(old).expect("the daemon starts"),
            Fault::FreezeDaemon => assert!(field.signal_daemon(&old.name, Signal::SIGCONT)),
            Fault::FreezeNode => assert!(field.signal_node(old, Signal::SIGCONT)),
            Fault::Cut => self.net.heal(),
            Fault::Switchover | Fault::KillPostmaster | Fault::FreezePostmaster => {}
        }
        self.formation.all_are_back();
    }

    /// Prints what each kind of round cost at worst.
    pub fn end(self) {
        let Rounds { formation, net, bank, told, .. } = self;
        for ((group, fault), rounds) in told {
            summary(group, fault, &rounds);
        }
        bank.close();
        formation.end();
        drop(net);
    }
}

fn tell(told: &Told) {
    println!("    rows right after {:.2?}, in doubt for {:.2?}", told.wired, told.doubt);
    for (through, tale) in &told.through {
        let (longest, gap) = (tale.longest, tale.gap);
        println!(
            "    through the {through}: longest transfer {longest:.2?}, longest time without one \
             {gap:.2?}, errors {:?}",
            tale.errors
        );
    }
}

fn summary(group: u32, fault: Fault, rounds: &[Told]) {
    let side = if group == COORDINATOR { "coordinator" } else { "worker" };
    println!("  {} x {side}, {}:", rounds.len(), fault.says());
    for at in 0..2 {
        let through = rounds[0].through[at].0;
        let mut longest: Vec<Duration> = rounds.iter().map(|r| r.through[at].1.longest).collect();
        let mut gaps: Vec<Duration> = rounds.iter().map(|r| r.through[at].1.gap).collect();
        longest.sort();
        gaps.sort();
        let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
        let all = rounds.iter().flat_map(|round| &round.through[at].1.errors);
        all.for_each(|(kind, count)| *errors.entry(kind.as_str()).or_default() += count);
        println!(
            "    through the {through}: longest transfer {:.2?} (median {:.2?}), longest time \
             without one {:.2?} (median {:.2?}), {} errors",
            longest[longest.len() - 1],
            longest[longest.len() / 2],
            gaps[gaps.len() - 1],
            gaps[gaps.len() / 2],
            errors.values().sum::<usize>()
        );
        errors.iter().for_each(|(kind, count)| println!("      {count} x {kind}"));
    }
    let wired = rounds.iter().map(|round| round.wired).max().unwrap_or_default();
    let doubt = rounds.iter().map(|round| round.doubt).max().unwrap_or_default();
    println!("    rows right after {wired:.2?} at most, in doubt for {doubt:.2?} at most");
}
