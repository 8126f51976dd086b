//! What binds a proposer, and what was chosen.

use super::*;
use crate::agreement::sample::{accepted, ballot, first, promised, second};

fn heard<'a>(sites: impl IntoIterator<Item = (&'static str, &'a Acceptor)>) -> Heard<'a> {
    sites.into_iter().map(|(name, site)| (name.into(), site)).collect()
}

fn names(names: &[&str]) -> BTreeSet<RegionName> {
    names.iter().map(|name| RegionName::from(*name)).collect()
}

/// The site accepted this at an earlier ballot, and promises now another one.
fn promises_after(site: &Acceptor, now: &Ballot, was: Ballot, old: &Certificate) -> Acceptor {
    promised(&accepted(site, was, old), now.clone())
}

#[test]
fn a_ballot_is_above_all_that_were_heard_of() {
    let me = RegionName::from("b");
    let (one, two) =
        (promised(&first(), ballot(4, "a")), accepted(&first(), ballot(5, "a"), &second("b")));
    assert_eq!(next_ballot(&me, &heard([])), ballot(1, "b"));
    let plain = first();
    assert_eq!(next_ballot(&me, &heard([("a", &plain), ("b", &plain)])), ballot(1, "b"));
    assert_eq!(next_ballot(&me, &heard([("a", &one), ("b", &plain)])), ballot(5, "b"));
    assert_eq!(next_ballot(&me, &heard([("a", &one), ("c", &two)])), ballot(6, "b"));
}

#[test]
fn a_proposer_needs_promises_of_its_epoch() {
    let (quorums, now) = (Quorums::of_letters(3), ballot(1, "b"));
    let (plain, yes) = (first(), promised(&first(), now.clone()));
    let choose = |sites| choice(&quorums, &now, &heard(sites), false);
    assert_eq!(choose(vec![("a", &yes)]), Choice::Hear(names(&["b"])));
    assert_eq!(choose(vec![("a", &plain), ("b", &yes)]), Choice::Hear(names(&["a", "c"])));
    assert_eq!(choose(vec![("a", &yes), ("b", &plain)]), Choice::Hear(names(&["b", "c"])));
    assert_eq!(choose(vec![("a", &yes), ("b", &yes)]), Choice::Free);
    let later = promised(&first().after(second("c")), now.clone());
    let behind = choose(vec![("b", &yes), ("c", &later)]);
    assert_eq!(behind, Choice::Learn("c".into()));
    // A promise of an epoch that is over is none of this one.
    assert_eq!(choose(vec![("a", &yes), ("b", &later)]), Choice::Hear(names(&["a", "c"])));
}

#[test]
fn with_two_sites_a_proof_stands_for_the_silent_one() {
    let now = ballot(1, "b");
    let (yes, certificate) = (promised(&first(), now.clone()), second("b"));
    let alone = heard([("b", &yes)]);
    let two = Quorums::of_letters(2);
    assert_eq!(choice(&two, &now, &alone, false), Choice::Hear(names(&["a"])));
    assert_eq!(choice(&two, &now, &alone, true), Choice::Free);
    let three = Quorums::of_letters(3);
    assert_eq!(choice(&three, &now, &alone, true), Choice::Hear(names(&["a", "c"])));
    let has_it = promises_after(&first(), &now, ballot(0, "a"), &certificate);
    let alone = heard([("b", &has_it)]);
    assert_eq!(choice(&two, &now, &alone, true), Choice::Bound(certificate));
    let blank = Acceptor { blank_through: 3, ..yes };
    let alone = heard([("b", &blank)]);
    assert_eq!(choice(&two, &now, &alone, true), Choice::Hear(names(&["a", "b"])));
}

#[test]
fn what_may_have_been_chosen_binds_and_nothing_else() {
    let (certificate, now) = (second("b"), ballot(1, "a"));
    let has_it = promises_after(&first(), &now, ballot(0, "a"), &certificate);
    let yes = promised(&first(), now.clone());
    let two = Quorums::of_letters(2);
    let reads = |quorums: &Quorums, sites| choice(quorums, &now, &heard(sites), false);
    // The other site shows nothing: the owner is free to reclaim.
    assert_eq!(reads(&two, vec![("a", &has_it), ("b", &yes)]), Choice::Free);
    let both = reads(&two, vec![("a", &has_it), ("b", &has_it)]);
    assert_eq!(both, Choice::Bound(certificate.clone()));
    let three = Quorums::of_letters(3);
    // The silent third site may have accepted it as well.
    let bound = reads(&three, vec![("a", &has_it), ("c", &yes)]);
    assert_eq!(bound, Choice::Bound(certificate));
    assert_eq!(reads(&three, vec![("a", &has_it), ("b", &yes), ("c", &yes)]), Choice::Free);
}

/// Without it: a and b accept one certificate at two ballots, and a third proposer counts one site.
#[test]
fn a_certificate_binds_at_whatever_ballots_sites_show_it() {
    let (certificate, now) = (second("b"), ballot(2, "a"));
    let a = promises_after(&first(), &now, ballot(0, "a"), &certificate);
    let b = promises_after(&first(), &now, ballot(1, "b"), &certificate);
    let (two, sites) = (Quorums::of_letters(2), heard([("a", &a), ("b", &b)]));
    assert_eq!(choice(&two, &now, &sites, false), Choice::Bound(certificate));
    let at_highest = |site: &Acceptor, highest: &Accepted| site.accepted.as_ref() == Some(highest);
    assert_eq!(choice_by(at_highest, &two, &now, &sites, false), Choice::Free);
}

/// Without it: a third ballot, which a promised in between, chooses another certificate.
#[test]
fn one_certificate_at_two_ballots_is_not_chosen() {
    let certificate = second("b");
    let a = accepted(&first(), ballot(0, "a"), &certificate);
    let b = accepted(&first(), ballot(2, "b"), &certificate);
    let (three, sites) = (Quorums::of_letters(3), heard([("a", &a), ("b", &b)]));
    assert_eq!(elected(&three, 2, &sites), None);
    let same = |one: &Accepted, other: &Accepted| one.certificate == other.certificate;
    assert_eq!(elected_by(same, &three, 2, &sites), Some(&certificate));
    let c = accepted(&first(), ballot(2, "b"), &certificate);
    assert_eq!(elected(&three, 2, &heard([("a", &a), ("b", &b), ("c", &c)])), Some(&certificate));
    assert_eq!(elected(&three, 3, &heard([("b", &b), ("c", &c)])), None);
}

#[test]
fn a_site_that_lost_its_votes_may_hide_some() {
    let (certificate, now) = (second("b"), ballot(1, "a"));
    let yes = promised(&first(), now.clone());
    let blank = Acceptor { blank_through: 3, ..yes.clone() };
    let two = Quorums::of_letters(2);
    let reads = |quorums: &Quorums, sites| choice(quorums, &now, &heard(sites), false);
    let has_it = promises_after(&first(), &now, ballot(0, "a"), &certificate);
    assert_eq!(reads(&two, vec![("a", &blank), ("b", &yes)]), Choice::Free);
    let bound = reads(&two, vec![("a", &blank), ("b", &has_it)]);
    assert_eq!(bound, Choice::Bound(certificate.clone()));
    assert_eq!(reads(&two, vec![("a", &blank), ("b", &blank)]), Choice::Hear(names(&["a", "b"])));
    // Of three sites, the blank one and the silent one could have chosen.
    let three = Quorums::of_letters(3);
    assert_eq!(reads(&three, vec![("a", &blank), ("b", &yes)]), Choice::Hear(names(&["a", "c"])));
    // What it accepted since it was seeded is real.
    let again = accepted(&blank, ballot(0, "a"), &certificate);
    let again = promised(&again, now.clone());
    let bound = reads(&three, vec![("a", &again), ("b", &yes), ("c", &has_it)]);
    assert_eq!(bound, Choice::Bound(certificate));
}

#[test]
fn a_region_carries_what_its_own_store_accepted_at_its_own_ballot() {
    let (plain, certificate) = (first(), second("b"));
    assert_eq!(to_carry(&"a".into(), &plain), None);
    let site = accepted(&plain, ballot(0, "a"), &certificate);
    assert_eq!(to_carry(&"a".into(), &site), site.accepted.as_ref());
    assert_eq!(to_carry(&"b".into(), &site), None);
}

#[test]
fn a_formation_without_an_owner_has_no_successor() {
    let proposal = Proposal {
        kind: CertificateKind::Reclaim,
        goal: BTreeMap::new(),
        proof: String::new(),
        at: String::new(),
    };
    let none = successor(&Acceptor::first("", None), 1, &"a".into(), proposal.clone());
    assert_eq!(none, None);
    let site = first();
    let next = successor(&site, 3, &"a".into(), proposal).expect("an owner");
    assert_eq!((next.epoch, next.ballot, &*next.previous_hash), (2, 3, site.hash()));
}
