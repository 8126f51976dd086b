//! What must hold of the regions in every state.

use super::check::RegionModel;
use super::rules::Rules;
use super::step::Setting;
use super::world::{Servers, World, is_owned_by};
use super::{Bounds, event, region};
use stateright::Property;
use std::collections::BTreeMap;
use topology::acceptor::Acceptor;
use topology::region::{Certificate, CertificateKind};

pub(super) const ONE_OWNER: &str = "the groups of at most one region are open";
pub(super) const ONE_CHOICE: &str = "of each epoch at most one certificate is chosen";
pub(super) const ONE_HISTORY: &str = "what two sites hold as chosen is the same";
pub(super) const ENDS: &str = "once nothing else happens, one region is open and all know it";
pub(super) const CHOSEN_BY_A_QUORUM: &str = "what a site holds as chosen was chosen";

/// What a run must have met, else it was too short to say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    Moved,
    Reclaimed,
    SeededVoted,
    Forced,
}

pub(super) fn all(reached: &[Reached], walks: bool) -> Vec<Property<RegionModel>> {
    let mut all = vec![
        Property::always(ONE_OWNER, |m: &RegionModel, world| one_owner(&m.setting, world).is_ok()),
        Property::always(ONE_CHOICE, |m, world| one_choice(&m.setting, world).is_ok()),
        Property::always(ONE_HISTORY, |m, world| one_history(&m.setting, world).is_ok()),
        Property::always(CHOSEN_BY_A_QUORUM, |m, world| {
            chosen_by_a_quorum(&m.setting, world).is_ok()
        }),
    ];
    if walks {
        all.push(Property::always(ENDS, |m, world| ends(&m.setting, world).is_ok()));
    }
    all.extend(reached.iter().map(|reached| reached.property()));
    all
}

/// How the regions break the property of this name, if they do.
pub(super) fn why_not(setting: &Setting, world: &World, name: &str) -> Option<String> {
    let held = match name {
        ONE_OWNER => one_owner(setting, world),
        ONE_CHOICE => one_choice(setting, world),
        ONE_HISTORY => one_history(setting, world),
        CHOSEN_BY_A_QUORUM => chosen_by_a_quorum(setting, world),
        ENDS => ends(setting, world),
        _ => Ok(()),
    };
    held.err()
}

impl Reached {
    fn property(self) -> Property<RegionModel> {
        match self {
            Reached::Moved => Property::sometimes("another region is open", |_, world: &World| {
                is_open_by(world, 1, CertificateKind::Planned)
            }),
            Reached::Reclaimed => {
                Property::sometimes("the owner is open again", |_, world: &World| {
                    is_open_by(world, 0, CertificateKind::Reclaim)
                })
            }
            Reached::SeededVoted => {
                Property::sometimes("a site that lost its votes voted", |_, world: &World| {
                    world.held().any(|votes| votes.life > 1 && votes.accepted.is_some())
                })
            }
            Reached::Forced => {
                Property::sometimes("the old owner knows of the forced one", |_, world: &World| {
                    let kind = CertificateKind::Forced;
                    let knows = world.votes_of(0).is_some_and(|votes| is_chosen_as(votes, kind));
                    knows && is_open_by(world, 1, kind)
                })
            }
        }
    }
}

fn is_chosen_as(votes: &Acceptor, kind: CertificateKind) -> bool {
    votes.chosen.as_ref().is_some_and(|chosen| chosen.kind == kind)
}

fn is_open_by(world: &World, at: usize, kind: CertificateKind) -> bool {
    let held = world.votes_of(at);
    world.regions[at].group == Servers::Open
        && held.is_some_and(|votes| is_owned_by(votes, at) && is_chosen_as(votes, kind))
}

/// Excused after a false proof only.
fn one_owner(_: &Setting, world: &World) -> Result<(), String> {
    match world.open() <= 1 || world.lied {
        true => Ok(()),
        false => Err("two regions are open".into()),
    }
}

/// Every certificate that a quorum accepted at one ballot, or one site with a proof.
fn chosen<'a>(setting: &Setting, world: &'a World) -> Vec<&'a Certificate> {
    let mut chosen: Vec<&Certificate> = world.solos.iter().map(|solo| &**solo).collect();
    for vote in &world.votes {
        let alike = world.votes.iter().filter(|other| {
            (&other.ballot, &other.certificate) == (&vote.ballot, &vote.certificate)
        });
        let sites: Vec<_> = alike.map(|other| region(other.site)).collect();
        if !chosen.contains(&&*vote.certificate) && setting.rules.quorums.choose(&sites) {
            chosen.push(&vote.certificate);
        }
    }
    chosen
}

/// A vote that was lost without a trace is no part of a choice that counts: `one_history` tells
/// whether a region acted on it.
fn one_choice(setting: &Setting, world: &World) -> Result<(), String> {
    if setting.unnoticed {
        return Ok(());
    }
    let mut owners = BTreeMap::new();
    for certificate in chosen(setting, world) {
        if let Some(other) = owners.insert(certificate.epoch, certificate) {
            return Err(format!("two certificates are chosen: {other:?} and {certificate:?}"));
        }
    }
    Ok(())
}

fn one_history(_: &Setting, world: &World) -> Result<(), String> {
    let mut known = BTreeMap::new();
    for link in world.held().flat_map(|votes| &votes.chain) {
        if *known.entry(link.epoch).or_insert(&link.hash) != &link.hash {
            return Err(format!("two certificates of epoch {} are held", link.epoch));
        }
    }
    Ok(())
}

fn chosen_by_a_quorum(setting: &Setting, world: &World) -> Result<(), String> {
    if world.held().all(|votes| votes.epoch() <= 1) {
        return Ok(());
    }
    let chosen = chosen(setting, world);
    for votes in world.held().filter(|votes| votes.epoch() > 1) {
        let held = votes.chosen.as_ref().expect("an epoch has a certificate");
        if !chosen.contains(&held) {
            return Err(format!("no quorum chose {held:?}"));
        }
        if votes.hash_of(held.epoch - 1) != Some(&held.previous_hash) {
            return Err(format!("the chain is broken before epoch {}", held.epoch));
        }
    }
    Ok(())
}

/// More steps than any way to rest has.
const STEPS_MAX: usize = 100;
/// Rounds and epochs that the way to rest may take beside those of the run.
const MORE: u64 = 20;

/// No move, fault or operator any more: the agents do what is left to do, in one order.
pub(super) fn ends(setting: &Setting, world: &World) -> Result<(), String> {
    let (rounds, epochs) = (setting.rounds + MORE, setting.epochs + MORE);
    let rules = Rules::new(setting.rules.sites, setting.rules.flaw);
    let calm = Setting { rules, rounds, epochs, bounds: Bounds::default(), ..*setting };
    let events = event::towards_rest(setting.rules.sites);
    let mut at = World { left: Bounds::default(), late: vec![], ..world.clone() };
    let mut way = Vec::new();
    for _ in 0..STEPS_MAX {
        let next = events.iter().find_map(|event| Some((*event, calm.next(&at, *event)?)));
        let Some((event, after)) = next else { break };
        way.push(event);
        at = after;
    }
    let epoch = at.votes_of(0).map(|votes| votes.epoch());
    let all_know = at
        .sites
        .iter()
        .all(|site| site.acceptor.as_ref().map(|votes| votes.epoch()) == epoch && !site.moves);
    match at.open() == 1 && all_know {
        true => Ok(()),
        false => Err(format!("it ends here:\n{at}\n  after {way:?}")),
    }
}
