//! The regions of a formation, followed through everything that can happen to their votes.
//!
//! The owner moves the formation away, gives a move up, dies and returns; regions claim ballots,
//! promise, propose and learn; an operator forces a region with a true or a false proof; a store is
//! wiped, or becomes what it was when a copy was made; an accept arrives late and more than once.
//! In every state the groups of at most one region are open, of each epoch one certificate is
//! chosen, and what a site holds as chosen was chosen. From every state the regions can still
//! agree, once nothing else happens.
//!
//! The model checker is `stateright`, breadth first: a counterexample is one of the shortest. A
//! run in which a guard is taken out must find one, else the model does not see what the guard is
//! for. The rules are those of the neighbours of this file; the model adds only what they are
//! asked about.
//!
//! The model is milder than reality:
//! - the daemons of a region see their own store at once, and share one disk; a region has one
//!   group;
//! - a promise is given at once: one that is late only slows the proposer;
//! - there are no clocks and no lease;
//! - the disk has seen what the store loses, unless a run says otherwise. A store that is restored
//!   to before a vote that no daemon of its region has seen forgets that vote without a trace:
//!   another region wrote it. With two sites the other site is part of every choice and shows its
//!   own vote; with three, two certificates of one epoch may be chosen then.

mod check;
mod event;
mod properties;
mod rules;
mod step;
mod world;

use super::sample::region;
use check::{counterexample, explore, explore_ends};
use event::{Event, What};
use properties::{CHOSEN_BY_A_QUORUM, ONE_CHOICE, ONE_OWNER, Reached};
use step::Setting;

/// A guard that a run takes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// A proposer counts only the sites that show a certificate at its highest ballot.
    OneBallot,
    /// A site that was seeded counts as one that knows what it accepted before.
    BlankCounts,
    /// Row 3045 is missing: a site accepts a second certificate at one ballot.
    SameBallot,
    /// Row 3040 is missing for accepts.
    PromisesIgnored,
    /// Nothing is remembered of a store that went back.
    NoMemory,
    /// One site chooses.
    SingleWrite,
    /// A region opens whose store lost votes.
    OpensBlank,
    /// A site that was not read counts as one without a vote.
    UnreadCounts,
    /// An epoch is confirmed although a site has voted on the next owner.
    GrantIgnoresPromises,
    /// The same, if all promises are to the owner itself.
    OwnPromiseForgets,
    /// The owner is proved to be fenced before the ballot is claimed.
    EarlyProof,
    /// With a proof, a site accepts its certificate before it has it chosen.
    SoloInTwoSteps,
    /// A certificate that two sites accepted at two ballots counts as chosen.
    MixedBallots,
}

/// What may happen, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Bounds {
    moves: u8,
    late: u8,
    save: u8,
    restore: u8,
    wipe: u8,
    crash: u8,
    force: u8,
    lie: u8,
}

const CALM: Bounds =
    Bounds { moves: 1, late: 0, save: 0, restore: 0, wipe: 0, crash: 0, force: 0, lie: 0 };
const RESTORED: Bounds = Bounds { save: 1, restore: 1, ..CALM };
const WIPED: Bounds = Bounds { wipe: 1, ..CALM };
const FORCED: Bounds = Bounds { crash: 1, force: 1, ..CALM };

fn setting(sites: usize, bounds: Bounds) -> Setting {
    Setting::new(sites, bounds, None)
}

#[test]
fn moves_that_overtake_each_other_choose_one_owner() {
    let bounds = Bounds { moves: 2, late: 1, crash: 1, ..CALM };
    let setting = Setting { movers: 2, ..setting(2, bounds) };
    explore(setting, &[Reached::Moved, Reached::Reclaimed]);
}

#[test]
fn a_store_that_went_back_chooses_no_second_owner() {
    let bounds = Bounds { late: 1, ..RESTORED };
    explore(setting(2, bounds), &[Reached::Moved, Reached::SeededVoted]);
    let unnoticed = Setting { unnoticed: true, ..setting(2, bounds) };
    explore(unnoticed, &[Reached::Moved]);
    let forced = Bounds { crash: 1, force: 1, ..RESTORED };
    explore(setting(2, forced), &[Reached::Moved]);
}

#[test]
fn a_store_that_was_wiped_chooses_no_second_owner() {
    let bounds = Bounds { late: 1, ..WIPED };
    explore(setting(2, bounds), &[Reached::Moved, Reached::Reclaimed, Reached::SeededVoted]);
    let forced = Bounds { crash: 1, force: 1, ..WIPED };
    explore(setting(2, forced), &[Reached::Moved]);
}

#[test]
fn a_forced_region_is_the_only_owner() {
    let bounds = Bounds { late: 1, ..FORCED };
    explore(setting(2, bounds), &[Reached::Moved, Reached::Forced]);
}

#[test]
fn a_false_proof_still_chooses_one_certificate() {
    let bounds = Bounds { late: 1, lie: 1, ..FORCED };
    explore(setting(2, bounds), &[Reached::Moved, Reached::Forced]);
}

#[test]
fn three_regions_choose_one_owner() {
    explore(setting(3, FORCED), &[Reached::Moved]);
    explore(setting(3, RESTORED), &[Reached::Moved]);
}

#[test]
fn three_regions_choose_one_owner_after_a_wipe() {
    explore(setting(3, WIPED), &[Reached::Moved]);
    let forced = Bounds { crash: 1, force: 1, ..WIPED };
    explore(setting(3, forced), &[Reached::Moved]);
}

#[test]
fn once_nothing_else_happens_the_regions_agree() {
    explore_ends(Setting { movers: 2, ..setting(2, Bounds { crash: 1, late: 1, ..CALM }) });
    for bounds in [RESTORED, WIPED, FORCED, Bounds { lie: 1, ..FORCED }] {
        explore_ends(setting(2, bounds));
    }
    for bounds in [RESTORED, WIPED, FORCED] {
        explore_ends(setting(3, bounds));
    }
}

#[test]
fn without_one_of_the_guards_two_regions_own_the_formation() {
    let still = Bounds { moves: 0, ..FORCED };
    for (flaw, sites, bounds, broken) in [
        (Flaw::OneBallot, 2, CALM, ONE_CHOICE),
        (Flaw::BlankCounts, 2, WIPED, ONE_CHOICE),
        (Flaw::PromisesIgnored, 2, Bounds { late: 1, ..CALM }, ONE_CHOICE),
        (Flaw::NoMemory, 2, RESTORED, ONE_OWNER),
        (Flaw::SingleWrite, 3, CALM, CHOSEN_BY_A_QUORUM),
        (Flaw::OpensBlank, 2, Bounds { late: 1, ..WIPED }, ONE_OWNER),
        (Flaw::UnreadCounts, 2, FORCED, ONE_OWNER),
        (Flaw::GrantIgnoresPromises, 3, still, ONE_OWNER),
        (Flaw::OwnPromiseForgets, 3, still, ONE_OWNER),
        (Flaw::EarlyProof, 2, still, ONE_OWNER),
        (Flaw::SoloInTwoSteps, 2, still, ONE_CHOICE),
    ] {
        counterexample(Setting::new(sites, bounds, Some(flaw)), broken);
    }
    let two_movers = Setting { movers: 2, ..Setting::new(2, CALM, Some(Flaw::SameBallot)) };
    counterexample(two_movers, ONE_CHOICE);
}

/// Too long for a search: a and b accept one certificate at two ballots, b takes it for chosen, and
/// a ballot between the two has c and a choose another one.
#[test]
fn a_certificate_at_two_ballots_is_chosen_twice() {
    let (a, b, c) = (0, 1, 2);
    let propose = |by, heard, what| Event::Propose { by, heard, what };
    let before = [
        Event::Move(a),
        Event::Stop(a),
        Event::AcceptOwn { by: a, to: b, variant: 0 },
        Event::Crash(a),
        Event::Claim(c),
        Event::Promise { by: c, at: b },
        Event::Prove(c),
        propose(c, 0b110, What::Forced),
        Event::Claim(b),
        Event::Promise { by: b, at: a },
        propose(b, 0b011, What::Bound),
    ];
    let after = [
        Event::Elect(b),
        Event::Claim(c),
        Event::Promise { by: c, at: a },
        propose(c, 0b101, What::Bound),
        Event::Carry { by: c, to: a },
        Event::Elect(c),
    ];
    let setting = |flaw| Setting { rounds: 3, ..Setting::new(3, FORCED, flaw) };
    let whole = setting(None);
    let at = before.iter().try_fold(whole.first(), |world, event| whole.next(&world, *event));
    let at = at.expect("every event can happen");
    assert_eq!(whole.next(&at, Event::Elect(b)), None);
    let flawed = setting(Some(Flaw::MixedBallots));
    let end = after.iter().try_fold(at, |world, event| flawed.next(&world, *event));
    let end = end.expect("every event can happen");
    assert!(properties::why_not(&flawed, &end, properties::ONE_HISTORY).is_some(), "{end}");
}

/// b forgets that it accepted what a has chosen, and no disk of b has seen it: b and c choose again.
#[test]
fn a_vote_that_three_regions_forget_without_a_trace_is_a_known_gap() {
    let (a, b, c) = (0, 1, 2);
    let before = [
        Event::Move(a),
        Event::Stop(a),
        Event::AcceptOwn { by: a, to: b, variant: 0 },
        Event::Save(b),
        Event::Carry { by: a, to: b },
        Event::Elect(a),
    ];
    let after = [
        Event::Crash(a),
        Event::Claim(c),
        Event::Promise { by: c, at: b },
        Event::Prove(c),
        Event::Propose { by: c, heard: 0b110, what: What::Forced },
        Event::Carry { by: c, to: b },
        Event::Elect(c),
    ];
    let bounds = Bounds { crash: 1, force: 1, ..RESTORED };
    let unnoticed = Setting { unnoticed: true, ..setting(3, bounds) };
    let noticed = setting(3, bounds);
    let begun =
        before.iter().try_fold(noticed.first(), |world, event| noticed.next(&world, *event));
    let begun = begun.expect("every event can happen");
    assert_eq!(noticed.next(&begun, Event::Restore(b)), None);
    let watched = noticed.next(&begun, Event::Watch(b)).expect("a disk sees it");
    let restored = noticed.next(&watched, Event::Restore(b)).expect("now it is noticed");
    let claimed = noticed.next(&restored, Event::Claim(c)).expect("a forced region");
    assert_eq!(noticed.next(&claimed, Event::Promise { by: c, at: b }), None);
    let restored = unnoticed.next(&begun, Event::Restore(b));
    let end = after.iter().try_fold(restored.expect("without a trace"), |world, event| {
        unnoticed.next(&world, *event)
    });
    let end = end.expect("every event can happen");
    assert!(properties::why_not(&unnoticed, &end, properties::ONE_HISTORY).is_some(), "{end}");
}
