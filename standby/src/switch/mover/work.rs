//! What takes time before the old side stops: preflight, checkpoints, the hold.
//!
//! Each is done once for a move. A step that fails for good leaves its reason in
//! `Progress::failure`, and the table gives the move up.

use super::super::calls::{STORE_CALL_MS, Scene};
use super::super::effect::{Answer, Call};
use super::super::preflight::{Finding, Probe, Side, preflight};
use super::super::purpose::{Lead, MoverCall, Purpose};
use super::super::table::Work;
use super::super::{Site, Target};
use super::{Mover, WARM_SECONDS, step_seconds};
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::{Group, RegionName};

/// Checkpoints in a row, until all are short.
const WARM_ROUNDS_MAX: usize = 3;
const WARM_ENOUGH_MS: u64 = 300;
/// Deadlines: a connection and each statement has its own of ten seconds.
const PROBE_MS: u64 = 30_000;
const CHECKPOINT_MS: u64 = WARM_SECONDS * 1_000;
const HOLD_MS: u64 = 60_000;
/// A hold lasts for two steps at most: for its own and for the stop.
const HOLD_MARGIN_MS: u64 = 10_000;

type Probes = BTreeMap<Group, Result<Probe, String>>;

/// A preflight on what both stores hold now. A store that gives no answer is a
/// finding of its own: the copy of a frozen one looks well.
#[derive(Debug)]
pub(super) struct Examining {
    from: RegionName,
    to: RegionName,
    read: BTreeMap<RegionName, Result<Arc<Site>, Finding>>,
    probes: BTreeMap<RegionName, Probes>,
    /// Leaders that have not answered yet.
    open: usize,
}

/// Checkpoints everywhere at once, until all are short.
#[derive(Debug)]
pub(super) struct Warming {
    targets: Vec<Target>,
    rounds: usize,
    open: usize,
    longest_ms: u64,
}

impl Mover {
    pub(super) fn begin_work(
        &mut self,
        scene: &mut Scene,
        work: Work,
        lead: &Lead,
        from: Option<Arc<Site>>,
    ) {
        let Some(from) = from.filter(|_| self.working != Some(work)) else { return };
        self.working = Some(work);
        match work {
            Work::Preflight => self.examine(scene, lead),
            Work::Warm => {
                let to = scene.site(&lead.journal.to).unwrap_or_default();
                let targets = from.leaders().chain(to.leaders()).collect();
                self.warm(scene, Warming { targets, rounds: 0, open: 0, longest_ms: 0 });
            }
            Work::Hold => {
                let limit_ms = 2 * 1_000 * step_seconds(&from) + HOLD_MARGIN_MS;
                let call = Call::Hold { targets: from.leaders().collect(), limit_ms };
                self.hold = Some(scene.call(HOLD_MS, call, Purpose::Mover(MoverCall::Hold)));
            }
        }
    }

    /// Reads both stores, then asks all leaders.
    fn examine(&mut self, scene: &mut Scene, lead: &Lead) {
        let (from, to) = (lead.journal.from.clone(), lead.journal.to.clone());
        let mut read = BTreeMap::new();
        for region in [&from, &to] {
            if *region == scene.identity.region || scene.knows(region) {
                let call = MoverCall::ExamineRead(region.clone());
                scene.read(region, STORE_CALL_MS, Purpose::Mover(call));
            } else {
                let remedy = "list the region in the `topology` section of every daemon";
                let why = "its store is not known here";
                read.insert(region.clone(), Err(Finding::error(object(region), why, remedy)));
            }
        }
        let probes = BTreeMap::new();
        self.examining = Some(Examining { from, to, read, probes, open: 0 });
    }

    /// True: the preflight is over.
    pub(super) fn read_for_preflight(
        &mut self,
        scene: &mut Scene,
        region: &RegionName,
        answer: Answer,
    ) -> bool {
        let Some(examining) = &mut self.examining else { return false };
        let read = match answer {
            Answer::Read(site) => Ok(site),
            other => {
                let why = format!("its store does not answer: {}", other.failure());
                let remedy = "start its store or restore the connection to it";
                Err(Finding::error(object(region), why, remedy))
            }
        };
        examining.read.insert(region.clone(), read);
        if examining.read.len() < 2 {
            return false;
        }
        examining.probe(scene);
        self.judge()
    }

    pub(super) fn probed(&mut self, region: &RegionName, group: Group, answer: Answer) -> bool {
        let Some(examining) = &mut self.examining else { return false };
        let probe = match answer {
            Answer::Probed(probe) => Ok(*probe),
            other => Err(other.failure()),
        };
        examining.probes.entry(region.clone()).or_default().insert(group, probe);
        examining.open = examining.open.saturating_sub(1);
        self.judge()
    }

    /// Ends the preflight once every leader has answered.
    fn judge(&mut self) -> bool {
        let Some(examining) = self.examining.take_if(|examining| examining.open == 0) else {
            return false;
        };
        self.progress.findings = Some(examining.findings());
        true
    }

    /// A round of checkpoints. True: none is needed.
    fn warm(&mut self, scene: &mut Scene, mut warming: Warming) -> bool {
        (warming.open, warming.longest_ms) = (warming.targets.len(), 0);
        for target in &warming.targets {
            let purpose = Purpose::Mover(MoverCall::Checkpoint);
            scene.call(CHECKPOINT_MS, Call::Checkpoint(target.clone()), purpose);
        }
        self.progress.is_warm = warming.targets.is_empty();
        self.warming = Some(warming);
        self.progress.is_warm
    }

    /// True: all are warm.
    pub(super) fn warmed(&mut self, scene: &mut Scene, answer: &Answer) -> bool {
        let Some(warming) = &mut self.warming else { return false };
        warming.open = warming.open.saturating_sub(1);
        match answer {
            Answer::Took(ms) => warming.longest_ms = warming.longest_ms.max(*ms),
            // The stop would take as long as this one, with all writes held back.
            other => {
                let why = format!("checkpoint before the stop: {}", other.failure());
                self.progress.failure = Some(why);
                self.warming = None;
                return true;
            }
        }
        let Some(mut warming) = self.warming.take_if(|warming| warming.open == 0) else {
            return false;
        };
        warming.rounds += 1;
        if warming.longest_ms < WARM_ENOUGH_MS || warming.rounds == WARM_ROUNDS_MAX {
            self.progress.is_warm = true;
            return true;
        }
        self.warm(scene, warming)
    }

    pub(super) fn held(&mut self, answer: &Answer) -> bool {
        match answer {
            Answer::Done => self.progress.is_held = true,
            other => {
                self.hold = None;
                self.progress.failure = Some(format!("hold: {}", other.failure()));
            }
        }
        true
    }
}

impl Examining {
    /// Asks all leaders, if both stores could be read.
    fn probe(&mut self, scene: &mut Scene) {
        if self.read.values().any(Result::is_err) {
            return;
        }
        for (region, site) in &self.read {
            for target in site.iter().flat_map(|site| site.leaders()) {
                self.open += 1;
                let call = MoverCall::Probe(region.clone(), target.group);
                scene.call(PROBE_MS, Call::Probe(target), Purpose::Mover(call));
            }
        }
    }

    fn findings(mut self) -> Vec<Finding> {
        let (from, to) = (self.from.clone(), self.to.clone());
        let sites = (self.read.remove(&from), self.read.remove(&to));
        let (Some(Ok(old)), Some(Ok(new))) = &sites else {
            let found = [sites.0, sites.1].into_iter().flatten();
            return found.filter_map(Result::err).collect();
        };
        let probes = [&from, &to].map(|region| self.probes.remove(region).unwrap_or_default());
        preflight(
            &Side { region: &from, groups: &old.groups, probes: &probes[0] },
            &Side { region: &to, groups: &new.groups, probes: &probes[1] },
            None,
        )
    }
}

fn object(region: &RegionName) -> String {
    format!("region {region}")
}
