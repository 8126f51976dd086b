//! Drives planned moves: asks the table, performs its answer, asks again.
//!
//! Runs beside the agent in its region, for as long as it is the agent. All
//! state that matters lies in the journals; a driver that dies loses only work
//! that the next one repeats.
//!
//! Invariants:
//! - every phase is a compare-and-set of the leading journal: the old owner's
//!   until the certificate, the new owner's after it. Two drivers are slow, not
//!   wrong;
//! - between holding and opening nothing is polled more slowly than `RECEIPTS`:
//!   everything else comes through watches.

use super::facts::{Progress, Question, is_receipt, tokens};
use super::hands::{Hands, Held, Target};
use super::ownership::Site;
use super::{Changed, Outpost, all_of, date, txn};
use crate::clock::unix_ms;
use crate::dcs::DcsError;
use crate::dcs::keys::Keys;
use standby::switch::local::may_replace;
use standby::switch::preflight::{Finding, Probe, Side, preflight};
use standby::switch::table::{Answer, Next, Work, advanced, awaited, next};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use topology::region::{Journal, Phase, Token};
use topology::{Group, RegionName};

/// Between two questions for one group's receipt.
const RECEIPTS: Duration = Duration::from_millis(10);
/// Questions without a receipt before the standby is woken, each time.
const ASKED_BEFORE_WAKING: u32 = 5;
/// The longest sleep while none runs.
const IDLE: Duration = Duration::from_secs(10);
/// Before the certificate the new owner's store is read this often, unless it was
/// heard from since; after `SILENCE` without hearing from it, it counts as silent.
const LISTEN: Duration = Duration::from_millis(500);
const SILENCE: Duration = Duration::from_secs(2);
/// After a write that failed.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// A step that waits is mentioned in the log this often.
const MENTION: Duration = Duration::from_secs(5);
/// Checkpoints in a row, until one is short.
const WARM_ROUNDS_MAX: usize = 3;
const WARM_ENOUGH: Duration = Duration::from_millis(300);

/// What a driver works with; shared with the agent.
#[derive(Clone)]
pub struct DriverContext {
    pub me: RegionName,
    /// `region/member`.
    pub name: String,
    pub keys: Keys,
    pub own: Arc<Outpost>,
    pub others: Arc<BTreeMap<RegionName, Arc<Outpost>>>,
    pub hands: Arc<dyn Hands>,
    /// The longest sleep while a move runs: only deadlines are noticed so.
    pub tick: Duration,
}

struct Driver {
    context: DriverContext,
    /// The move that `progress` belongs to.
    id: String,
    progress: Progress,
    held: Option<Held>,
    tasks: JoinSet<Finished>,
    working: Option<(Work, AbortHandle)>,
    asking: BTreeMap<Group, Token>,
    copying: Option<JoinHandle<()>>,
    /// When this driver first saw that every group has signed.
    signed_at: Option<Instant>,
    listening: bool,
    mentioned: Option<(u16, tokio::time::Instant)>,
    retry: Duration,
}

/// What a task brought back, and for which move.
struct Finished {
    id: String,
    result: Outcome,
}

enum Outcome {
    Examined(Vec<Finding>),
    Warm,
    Held(Result<Held, String>),
    Caught(Group, Token),
    Answered,
}

/// The journal that leads, and the store it lies in.
struct Lead {
    journal: Journal,
    outpost: Arc<Outpost>,
    site: Site,
}

/// Runs until it is aborted.
pub async fn run(context: DriverContext) {
    let mut changes = Changed::of(std::iter::once(&context.own).chain(context.others.values()));
    let mut driver = Driver::new(context);
    loop {
        let pause = driver.step().await;
        tokio::select! {
            () = changes.next(), if pause > Duration::ZERO => {}
            Some(done) = driver.tasks.join_next(), if !driver.tasks.is_empty() => {
                driver.take(done);
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Driver {
    fn new(context: DriverContext) -> Driver {
        Driver {
            context,
            id: String::new(),
            progress: Progress::default(),
            held: None,
            tasks: JoinSet::new(),
            working: None,
            asking: BTreeMap::new(),
            copying: None,
            signed_at: None,
            listening: false,
            mentioned: None,
            retry: RETRY_MIN,
        }
    }

    /// One question and its answer; gives how long nothing has to be done.
    async fn step(&mut self) -> Duration {
        let Some(own) = self.context.own.site() else {
            return self.context.tick;
        };
        self.reconcile(&own);
        let Some(lead) = self.lead(&own) else {
            return IDLE;
        };
        self.begin_move(&lead.journal);
        let from = self.site_of(&lead.journal.from, &own);
        let to = self.site_of(&lead.journal.to, &own);
        self.listen(&lead.journal, from.as_ref());
        let policy = own.topology.policy.as_ref();
        let question = Question {
            me: &self.context.me,
            journal: &lead.journal,
            own: &own,
            from: from.as_ref(),
            to: to.as_ref(),
            progress: &self.progress,
            is_silent: self.is_silent(&lead.journal),
            step_seconds: policy.map_or(20, |p| p.value.step_seconds),
            now_ms: unix_ms(),
        };
        let facts = question.facts();
        let answer = next(&lead.journal, &facts);
        self.ask_for_receipts(&lead.journal, from.as_ref());
        if answer.next == Next::Wait {
            self.mention(&answer, || awaited(&lead.journal, &facts));
        }
        let performed = self.perform(&answer, &lead, from.as_ref()).await;
        match performed {
            Ok(pause) => {
                self.retry = RETRY_MIN;
                pause
            }
            Err(error) => self.failed(&answer, &error),
        }
    }

    fn failed(&mut self, answer: &Answer, error: &DcsError) -> Duration {
        let pause = self.retry;
        self.retry = (self.retry * 2).min(RETRY_MAX);
        self.mention(answer, || error.to_string());
        pause
    }

    /// The journal to act on, if any is ours to act on.
    fn lead(&self, own: &Site) -> Option<Lead> {
        let journal = own.topology.journal()?.clone();
        let here =
            Lead { journal: journal.clone(), outpost: self.context.own.clone(), site: own.clone() };
        if self.context.me != journal.from || !journal.phase.is_decided() {
            let ours = self.context.me == journal.from || self.context.me == journal.to;
            return (ours && !journal.phase.is_over()).then_some(here);
        }
        // Decided: the new owner's copy leads as soon as it is there.
        let outpost = self.context.others.get(&journal.to)?;
        let site = outpost.site().unwrap_or_default();
        match site.topology.journal() {
            Some(copy) if copy.id == journal.id && copy.phase.is_decided() => (!copy
                .phase
                .is_over())
            .then(|| Lead { journal: copy.clone(), outpost: outpost.clone(), site: site.clone() }),
            _ => (journal.phase != Phase::Done).then_some(here),
        }
    }

    fn site_of(&self, region: &RegionName, own: &Site) -> Option<Site> {
        if region == &self.context.me {
            return Some(own.clone());
        }
        self.context.others.get(region)?.site()
    }

    /// Another move than before: what was done for the old one is forgotten.
    fn begin_move(&mut self, journal: &Journal) {
        if self.id != journal.id {
            self.tasks.abort_all();
            self.id = journal.id.clone();
            self.progress = Progress::default();
            self.held = None;
            self.working = None;
            self.signed_at = None;
            self.listening = false;
            self.asking.clear();
        }
        if !matches!(journal.phase, Phase::Hold) {
            // Either the servers stop now, or the move is over.
            self.held = None;
        }
    }

    async fn perform(
        &mut self,
        answer: &Answer,
        lead: &Lead,
        from: Option<&Site>,
    ) -> Result<Duration, DcsError> {
        match &answer.next {
            Next::Rest => Ok(IDLE),
            Next::Wait => Ok(self.context.tick),
            Next::Do(work) => {
                self.work(*work, lead, from);
                Ok(self.context.tick)
            }
            Next::Advance(phase) => self.advance(*phase, lead, from).await,
            Next::Commit => self.commit(lead).await,
            Next::Deliver => self.deliver(lead).await,
            Next::Abort(why) => self.abort(why, lead).await,
        }
    }

    async fn advance(
        &self,
        phase: Phase,
        lead: &Lead,
        from: Option<&Site>,
    ) -> Result<Duration, DcsError> {
        let mut journal = advanced(&lead.journal, phase, unix_ms(), &self.context.name);
        if phase == Phase::CatchUp {
            journal.tokens = tokens(&lead.journal, from);
        }
        self.write(lead, &journal).await
    }

    async fn abort(&self, why: &str, lead: &Lead) -> Result<Duration, DcsError> {
        let mut journal = advanced(&lead.journal, Phase::Aborted, unix_ms(), &self.context.name);
        journal.error = Some(why.to_string());
        self.write(lead, &journal).await
    }

    async fn write(&self, lead: &Lead, journal: &Journal) -> Result<Duration, DcsError> {
        let txn = txn::write_journal(&self.context.keys, &lead.site.topology, journal);
        if lead.outpost.write(txn).await? {
            tracing::info!("move {}: {:?}", journal.id, journal.phase);
            if let Some(why) = &journal.error {
                tracing::error!("move {} is given up: {why}", journal.id);
            }
            return Ok(Duration::ZERO);
        }
        // Another client wrote first: this read brings what it wrote to the next look.
        lead.outpost.read().await.map(|_| Duration::ZERO)
    }

    async fn commit(&self, lead: &Lead) -> Result<Duration, DcsError> {
        let (keys, name) = (&self.context.keys, &self.context.name);
        let decision = txn::commit(keys, &lead.site.topology, unix_ms(), name, &date());
        let Some(decision) = decision else {
            return lead.outpost.read().await.map(|_| self.context.tick);
        };
        if lead.outpost.write(decision).await? {
            tracing::info!("move {}: region {} owns now", lead.journal.id, lead.journal.to);
            return Ok(Duration::ZERO);
        }
        lead.outpost.read().await.map(|_| Duration::ZERO)
    }

    /// Gives vote, certificate and journal to the new owner's store.
    async fn deliver(&self, lead: &Lead) -> Result<Duration, DcsError> {
        let Some(outpost) = self.context.others.get(&lead.journal.to) else {
            return Ok(IDLE);
        };
        let Some(certificate) = lead.site.topology.accepted() else {
            return Ok(self.context.tick);
        };
        let known = match outpost.live_site() {
            Some(site) => site,
            None => outpost.read().await?,
        };
        let keys = &self.context.keys;
        let given = txn::deliver(keys, &known.topology, certificate, &lead.journal);
        if let Some(given) = given
            && outpost.write(given).await?
        {
            return Ok(Duration::ZERO);
        }
        outpost.read().await.map(|_| RECEIPTS)
    }

    /// The decision needs an answer that is younger than the last signature: it
    /// is awaited beside the receipts and costs no time of its own.
    fn is_silent(&self, journal: &Journal) -> bool {
        let Some(outpost) = self.context.others.get(&journal.to) else { return false };
        let heard = outpost.heard();
        heard.is_none_or(|at| at.elapsed() >= SILENCE || self.signed_at.is_some_and(|s| at < s))
    }

    /// A store that is frozen looks in the copy as if nothing happened there, so
    /// it is asked while the decision is still ahead.
    fn listen(&mut self, journal: &Journal, from: Option<&Site>) {
        let ahead = (Phase::Warm..=Phase::Certify).contains(&journal.phase);
        let Some(outpost) = self.context.others.get(&journal.to).filter(|_| ahead) else {
            return;
        };
        let signed = tokens(journal, from);
        if journal.phase >= Phase::Stop && journal.groups.iter().all(|g| signed.contains_key(g)) {
            self.signed_at.get_or_insert_with(Instant::now);
        }
        let young = outpost.heard().is_some_and(|at| at.elapsed() < LISTEN);
        if self.listening || young && !self.is_silent(journal) {
            return;
        }
        let (outpost, id) = (outpost.clone(), self.id.clone());
        self.listening = true;
        self.tasks.spawn(async move {
            if let Err(error) = outpost.read().await {
                tracing::debug!("the new owner's store: {error}");
            }
            Finished { id, result: Outcome::Answered }
        });
    }

    /// Keeps the two copies of the journal in step, without waiting for it: the
    /// old owner tells the other store until the certificate, and learns from it
    /// afterwards. A copy that fails is tried again with the next look.
    fn reconcile(&mut self, own: &Site) {
        let busy = self.copying.as_ref().is_some_and(|task| !task.is_finished());
        let Some(mine) = own.topology.journal().filter(|j| j.from == self.context.me) else {
            return;
        };
        let Some(outpost) = self.context.others.get(&mine.to) else {
            return;
        };
        let Some(other) = outpost.live_site().filter(|_| !busy) else {
            return;
        };
        let theirs = other.topology.journal();
        let (outpost, site, journal) = if !mine.phase.is_decided() {
            (outpost, &other, mine)
        } else {
            let Some(theirs) = theirs.filter(|j| j.id == mine.id) else {
                return;
            };
            (&self.context.own, own, theirs)
        };
        if may_replace(site.topology.journal(), journal) {
            let copy = txn::write_journal(&self.context.keys, &site.topology, journal);
            let outpost = outpost.clone();
            self.copying = Some(tokio::spawn(async move {
                if let Err(error) = outpost.write(copy).await {
                    tracing::debug!("the journal could not be copied: {error}");
                }
            }));
        }
    }

    fn work(&mut self, work: Work, lead: &Lead, from: Option<&Site>) {
        if self.working.as_ref().is_some_and(|(running, _)| *running == work) {
            return;
        }
        let Some(from) = from.cloned() else { return };
        let to = self.site_of(&lead.journal.to, &lead.site).unwrap_or_default();
        let (hands, journal) = (self.context.hands.clone(), lead.journal.clone());
        let id = journal.id.clone();
        let stores = (Some(lead.outpost.clone()), self.context.others.get(&journal.to).cloned());
        let task = self.tasks.spawn(async move {
            let result = match work {
                Work::Preflight => {
                    let seen = [(&journal.from, stores.0), (&journal.to, stores.1)];
                    Outcome::Examined(examine_now(&*hands, seen).await)
                }
                Work::Warm => warm(&hands, leaders(&from).chain(leaders(&to)).collect()).await,
                Work::Hold => Outcome::Held(hands.hold(leaders(&from).collect()).await),
            };
            Finished { id, result }
        });
        self.working = Some((work, task));
    }

    /// Starts asking every group of the new side whose token is known.
    fn ask_for_receipts(&mut self, journal: &Journal, from: Option<&Site>) {
        let Some(outpost) = self.context.others.get(&journal.to) else {
            return;
        };
        if !matches!(journal.phase, Phase::Stop | Phase::CatchUp | Phase::Certify) {
            return;
        }
        for (group, token) in tokens(journal, from) {
            if self.asking.insert(group, token.clone()).as_ref() == Some(&token) {
                continue;
            }
            let (hands, outpost) = (self.context.hands.clone(), outpost.clone());
            let id = journal.id.clone();
            self.tasks.spawn(async move {
                receipt(&*hands, &outpost, group, &token).await;
                Finished { id, result: Outcome::Caught(group, token) }
            });
        }
    }

    fn take(&mut self, done: Result<Finished, tokio::task::JoinError>) {
        let finished = match done {
            Ok(finished) if finished.id == self.id => finished,
            Ok(_) => return,
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                self.progress.failure = Some(format!("a step of the driver panicked: {error}"));
                return;
            }
        };
        match finished.result {
            Outcome::Examined(found) => self.progress.findings = Some(found),
            Outcome::Warm => self.progress.is_warm = true,
            Outcome::Held(Ok(held)) => {
                self.held = Some(held);
                self.progress.is_held = true;
            }
            Outcome::Held(Err(why)) => self.progress.failure = Some(format!("hold: {why}")),
            Outcome::Answered => self.listening = false,
            Outcome::Caught(group, token) => {
                self.progress.caught.insert(group, token);
            }
        }
    }

    fn mention(&mut self, answer: &Answer, what: impl Fn() -> String) {
        let now = tokio::time::Instant::now();
        match self.mentioned {
            Some((row, at)) if row == answer.row && now - at < MENTION => return,
            Some((row, _)) if row == answer.row => {
                tracing::warn!("move {}, row {row}, {}: {}", self.id, answer.why, what());
            }
            _ => {}
        }
        self.mentioned = Some((answer.row, now));
    }
}

/// The leaders of a site's groups, as far as they can be reached.
fn leaders(site: &Site) -> impl Iterator<Item = Target> {
    site.groups.iter().filter_map(|(group, view)| Target::leader_of(*group, view))
}

/// Asks until the group's current leader has replayed the token.
///
/// A standby that notices the end of its upstream before it has seen the last
/// record sleeps over it for up to `wal_retrieve_retry_interval` (5 s): every
/// reload wakes it.
async fn receipt(hands: &dyn Hands, outpost: &Outpost, group: Group, token: &Token) {
    let mut asked = 0u32;
    loop {
        let site = outpost.site();
        let view = site.as_ref().and_then(|site| site.groups.get(&group));
        if let Some(target) = view.and_then(|view| Target::leader_of(group, view)) {
            let seen = hands.replayed(target.clone()).await;
            if seen.is_ok_and(|seen| is_receipt(token, &seen)) {
                return;
            }
            asked += 1;
            if asked.is_multiple_of(ASKED_BEFORE_WAKING)
                && let Err(why) = hands.wake_replay(target).await
            {
                tracing::debug!("replay could not be woken: {why}");
            }
        }
        tokio::time::sleep(RECEIPTS).await;
    }
}

/// Checkpoints everywhere at once, until all are short.
async fn warm(hands: &Arc<dyn Hands>, targets: Vec<Target>) -> Outcome {
    for _ in 0..WARM_ROUNDS_MAX {
        let mut all = JoinSet::new();
        for target in targets.iter().cloned() {
            let hands = hands.clone();
            all.spawn(async move { hands.checkpoint(target).await });
        }
        let mut longest = Duration::ZERO;
        while let Some(taken) = all.join_next().await {
            match taken {
                Ok(Ok(took)) => longest = longest.max(took),
                // Only the length of the stop depends on it.
                Ok(Err(why)) => tracing::warn!("no checkpoint before the move: {why}"),
                Err(error) => tracing::warn!("no checkpoint before the move: {error}"),
            }
        }
        if longest < WARM_ENOUGH {
            break;
        }
    }
    Outcome::Warm
}

/// The preflight on what both stores hold now. A store that gives no answer is a
/// finding of its own: the copy of a frozen one looks well.
async fn examine_now(
    hands: &dyn Hands,
    seen: [(&RegionName, Option<Arc<Outpost>>); 2],
) -> Vec<Finding> {
    let read = async |region: &RegionName, outpost: &Option<Arc<Outpost>>| {
        let object = format!("region {region}");
        let Some(outpost) = outpost else {
            let remedy = "list the region in the `topology` section of every daemon";
            return Err(Finding::error(object, "its store is not known here", remedy));
        };
        let remedy = "start its store or restore the connection to it";
        let why = |error| format!("its store does not answer: {error}");
        outpost.read().await.map_err(|error| Finding::error(object, why(error), remedy))
    };
    let [from, to] = &seen;
    match tokio::join!(read(from.0, &from.1), read(to.0, &to.1)) {
        (Ok(old), Ok(new)) => examine(hands, [(from.0, &old), (to.0, &new)], None).await,
        (old, new) => [old.err(), new.err()].into_iter().flatten().collect(),
    }
}

/// Preflight of a move between two sites; `sides` are the old and the new one.
pub async fn examine(
    hands: &dyn Hands,
    sides: [(&RegionName, &Site); 2],
    running: Option<&Journal>,
) -> Vec<Finding> {
    let [from, to] = sides;
    let probes = (probe_all(hands, from.1), probe_all(hands, to.1));
    let (old, new) = tokio::join!(probes.0, probes.1);
    preflight(
        &Side { region: from.0, groups: &from.1.groups, probes: &old },
        &Side { region: to.0, groups: &to.1.groups, probes: &new },
        running,
    )
}

async fn probe_all(hands: &dyn Hands, site: &Site) -> BTreeMap<Group, Result<Probe, String>> {
    let waits = leaders(site).map(|target| {
        let group = target.group;
        async move { (group, hands.probe(target).await) }
    });
    all_of(waits.map(Box::pin).collect()).await.into_iter().collect()
}
