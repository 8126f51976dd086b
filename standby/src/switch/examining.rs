//! A preflight by an agent, on what both stores hold now.
//!
//! Both stores are read, then all leaders are asked at once. A store that gives no answer
//! is a finding of its own: the copy of a frozen one looks well.

use super::Site;
use super::calls::{STORE_CALL_MS, Scene};
use super::effect::{Answer, Call};
use super::preflight::{Finding, Probe, Side, preflight};
use super::purpose::{ExamineCall, Purpose};
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::region::Journal;
use topology::schedule::Limits;
use topology::{Group, RegionName};

/// Deadline of one leader's answers: a connection and each statement has its own of ten
/// seconds.
const PROBE_MS: u64 = 30_000;

type Probes = BTreeMap<Group, Result<Probe, String>>;

#[derive(Debug)]
pub(super) struct Examining {
    from: RegionName,
    to: RegionName,
    limits: Limits,
    /// Another move that is under way hinders this one. `None`: it is this move itself.
    running: Option<Journal>,
    purpose: fn(ExamineCall) -> Purpose,
    read: BTreeMap<RegionName, Result<Arc<Site>, Finding>>,
    probes: BTreeMap<RegionName, Probes>,
    /// Leaders that have not answered yet.
    open: usize,
}

impl Examining {
    pub(super) fn begin(
        scene: &mut Scene,
        (from, to): (&RegionName, &RegionName),
        limits: &Limits,
        running: Option<&Journal>,
        purpose: fn(ExamineCall) -> Purpose,
    ) -> Examining {
        let mut read = BTreeMap::new();
        for region in [from, to] {
            if *region == scene.identity.region || scene.knows(region) {
                scene.read(region, STORE_CALL_MS, purpose(ExamineCall::Read(region.clone())));
            } else {
                let remedy = "list the region in the `topology` section of every daemon";
                let why = "its store is not known here";
                read.insert(region.clone(), Err(Finding::error(object(region), why, remedy)));
            }
        }
        Examining {
            from: from.clone(),
            to: to.clone(),
            limits: limits.clone(),
            running: running.cloned(),
            purpose,
            read,
            probes: BTreeMap::new(),
            open: 0,
        }
    }

    /// True: nothing is awaited any more.
    pub(super) fn answer(&mut self, scene: &mut Scene, call: ExamineCall, answer: Answer) -> bool {
        match call {
            ExamineCall::Read(region) => self.site_read(scene, region, answer),
            ExamineCall::Probe(region, group) => {
                let probe = match answer {
                    Answer::Probed(probe) => Ok(*probe),
                    other => Err(other.failure()),
                };
                self.probes.entry(region).or_default().insert(group, probe);
                self.open = self.open.saturating_sub(1);
            }
        }
        self.read.len() == 2 && self.open == 0
    }

    fn site_read(&mut self, scene: &mut Scene, region: RegionName, answer: Answer) {
        let read = match answer {
            Answer::Read(site) => Ok(site),
            other => {
                let why = format!("its store does not answer: {}", other.failure());
                let remedy = "start its store or restore the connection to it";
                Err(Finding::error(object(&region), why, remedy))
            }
        };
        self.read.insert(region, read);
        if self.read.len() == 2 && self.read.values().all(Result::is_ok) {
            self.probe(scene);
        }
    }

    fn probe(&mut self, scene: &mut Scene) {
        for (region, site) in &self.read {
            for target in site.iter().flat_map(|site| site.leaders()) {
                self.open += 1;
                let call = ExamineCall::Probe(region.clone(), target.group);
                scene.call(PROBE_MS, Call::Probe(target), (self.purpose)(call));
            }
        }
    }

    pub(super) fn findings(mut self) -> Vec<Finding> {
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
            &self.limits,
            self.running.as_ref(),
        )
    }
}

fn object(region: &RegionName) -> String {
    format!("region {region}")
}
