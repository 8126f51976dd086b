//! Each row of the acceptor, and what holds of all of them.

use super::*;
use crate::agreement::sample::{accepted, ballot, first, promised, proposed, region, second};
use proptest::prelude::*;
use topology::region::CertificateKind;

fn question<'a>(site: &'a Acceptor, ask: Ask<'a>) -> Question<'a> {
    Question { formation: "", site: Some(site), known: None, ask }
}

fn accept_of<'a>(ballot: &'a Ballot, certificate: &'a Certificate) -> Ask<'a> {
    Ask::Accept { ballot, certificate }
}

fn refused(row: u16, refusal: Refusal) -> (u16, Verdict) {
    (row, Verdict::Refuse(refusal))
}

fn written(row: u16, site: Acceptor) -> (u16, Verdict) {
    (row, Verdict::Write(Box::new(site)))
}

#[test]
fn the_ids_of_the_rows_rise() {
    assert!(ACCEPTOR.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert!(ACCEPTOR.iter().all(|row| !row.why.is_empty()));
}

#[test]
fn a_store_without_votes_or_with_lost_ones_gives_none() {
    let (site, low) = (first(), ballot(1, "b"));
    let ask = Ask::Prepare(&low);
    let empty = Question { site: None, ..question(&site, ask) };
    assert_eq!(answer(&empty), refused(3005, Refusal::Empty));
    let known = promised(&site, low.clone()).position();
    let older = Question { known: Some(&known), ..question(&site, ask) };
    assert_eq!(answer(&older), refused(3010, Refusal::Older));
    let equal = Question { known: Some(&site.position()), ..question(&site, ask) };
    assert_eq!(answer(&equal).0, 3050);
    let foreign = Question { formation: "shop", ..question(&site, ask) };
    assert_eq!(answer(&foreign), refused(3015, Refusal::Foreign));
}

#[test]
fn an_epoch_that_is_over_is_decided() {
    let (next, high) = (first().after(second("b")), ballot(9, "a"));
    let late = second("a");
    let ask = accept_of(&high, &late);
    assert_eq!(answer(&question(&next, ask)), refused(3020, Refusal::Decided));
    let told = |teller: &Acceptor| answer(&question(&next, Ask::Learn(teller)));
    assert_eq!(told(&next), (3020, Verdict::Holds));
    assert_eq!(told(&first()), (3020, Verdict::Holds));
    assert_eq!(told(&first().after(second("a"))), refused(3020, Refusal::Split));
}

#[test]
fn a_certificate_follows_the_one_in_force() {
    let (site, zero) = (first(), ballot(0, "a"));
    let third = proposed(&site.after(second("b")), 0, &region(0), CertificateKind::Planned, "");
    let ask = accept_of(&zero, &third);
    assert_eq!(answer(&question(&site, ask)), refused(3030, Refusal::Behind));
    let stray = Certificate { previous_hash: "other".into(), ..second("b") };
    let ask = accept_of(&zero, &stray);
    assert_eq!(answer(&question(&site, ask)), refused(3035, Refusal::Split));
    let other = first().after(second("b"));
    let other = other.after(proposed(&other, 0, &region(1), CertificateKind::Planned, ""));
    let here = first().after(second("a"));
    let told = answer(&question(&here, Ask::Learn(&other)));
    assert_eq!(told, refused(3035, Refusal::Split));
}

#[test]
fn a_promise_holds_against_lower_ballots() {
    let site = promised(&first(), ballot(1, "b"));
    let (low, high, certificate) = (ballot(1, "a"), ballot(2, "a"), second("b"));
    let ask = |ask| answer(&question(&site, ask));
    assert_eq!(ask(Ask::Prepare(&low)), refused(3040, Refusal::Promised));
    let zero = ballot(0, "a");
    assert_eq!(ask(accept_of(&zero, &certificate)), refused(3040, Refusal::Promised));
    assert_eq!(ask(Ask::Prepare(&high)), written(3050, promised(&site, high.clone())));
    let after = accepted(&site, high.clone(), &certificate);
    assert_eq!(ask(accept_of(&high, &certificate)), written(3060, after));
}

#[test]
fn only_the_owner_proposes_without_promises() {
    let (site, certificate) = (first(), second("b"));
    let zero = ballot(0, "b");
    let ask = accept_of(&zero, &certificate);
    assert_eq!(answer(&question(&site, ask)), refused(3042, Refusal::NotOwner));
    let zero = ballot(0, "a");
    let after = accepted(&site, zero.clone(), &certificate);
    assert_eq!(answer(&question(&site, accept_of(&zero, &certificate))), written(3060, after));
    let unowned = Acceptor::first("", None);
    let initial = first().chosen.expect("an owner");
    let ask = accept_of(&zero, &initial);
    assert_eq!(answer(&question(&unowned, ask)), refused(3042, Refusal::NotOwner));
}

#[test]
fn one_ballot_has_one_certificate() {
    let (zero, certificate) = (ballot(0, "a"), second("b"));
    let site = accepted(&first(), zero.clone(), &certificate);
    let other = second("c");
    let ask = accept_of(&zero, &other);
    assert_eq!(answer(&question(&site, ask)), refused(3045, Refusal::OtherValue));
    let ask = accept_of(&zero, &certificate);
    assert_eq!(answer(&question(&site, ask)), (3048, Verdict::Holds));
    let higher = ballot(1, "b");
    let after = accepted(&site, higher.clone(), &other);
    assert_eq!(answer(&question(&site, accept_of(&higher, &other))), written(3060, after));
}

#[test]
fn what_was_chosen_is_learnt_over_several_epochs() {
    let two = first().after(second("b"));
    let three = two.after(proposed(&two, 0, &region(2), CertificateKind::Planned, ""));
    let mut here = accepted(&first(), ballot(1, "a"), &second("a"));
    here.knows.insert(region(1), two.position());
    let (row, verdict) = answer(&question(&here, Ask::Learn(&three)));
    let Verdict::Write(after) = verdict else { panic!("{row}: {verdict:?}") };
    assert_eq!(row, 3070);
    assert_eq!((&after.chosen, &after.chain), (&three.chosen, &three.chain));
    assert_eq!((&after.promised, &after.accepted), (&None, &None));
    assert_eq!((after.life, &after.knows), (here.life, &here.knows));
    // A chain that was cut off before our epoch is no contradiction.
    let cut = Acceptor { chain: three.chain[2..].to_vec(), ..three };
    assert_eq!(answer(&question(&here, Ask::Learn(&cut))).0, 3070);
}

fn a_ballot() -> impl Strategy<Value = Ballot> {
    (0u64..4, 0usize..3).prop_map(|(round, at)| Ballot { round, region: region(at) })
}

fn a_certificate(site: Acceptor) -> impl Strategy<Value = Certificate> {
    (0usize..3, 0u64..4, 0u64..2, any::<bool>()).prop_map(move |(owner, round, skips, strays)| {
        let kind = CertificateKind::Planned;
        let mut certificate = proposed(&site, round, &region(owner), kind, "");
        certificate.epoch += skips;
        if strays {
            certificate.previous_hash = "other".into();
        }
        certificate
    })
}

/// A site as votes make it: what it accepted, it promised.
fn a_site() -> impl Strategy<Value = Acceptor> {
    let votes = (prop::option::of(a_ballot()), prop::option::of(a_ballot()), 0usize..3, 0u64..3);
    votes.prop_map(|(promised, accepted, owner, epochs)| {
        let kind = CertificateKind::Planned;
        let grown = |site: Acceptor, _| {
            let certificate = proposed(&site, 0, &region(owner), kind, "");
            site.after(certificate)
        };
        let mut site = (0..epochs).fold(first(), grown);
        let certificate = proposed(&site, 0, &region(owner), kind, "");
        site.promised = promised.max(accepted.clone());
        site.accepted = accepted.map(|ballot| Accepted { ballot, certificate });
        site
    })
}

proptest! {
    #[test]
    fn a_vote_raises_the_position_and_is_given_once(
        (site, certificate) in a_site().prop_flat_map(|site| (Just(site.clone()), a_certificate(site))),
        teller in a_site(),
        ballot in a_ballot(),
        kind in 0usize..3,
    ) {
        let ask = [Ask::Prepare(&ballot), accept_of(&ballot, &certificate), Ask::Learn(&teller)][kind];
        let (row, verdict) = answer(&question(&site, ask));
        if let Verdict::Write(after) = verdict {
            prop_assert!(after.position() > site.position(), "row {row}");
            let again = answer(&question(&after, ask)).1;
            prop_assert!(!matches!(again, Verdict::Write(_)), "row {row}, then {again:?}");
            // The site as it was before the vote gives no other one.
            let known = after.position();
            let older = Question { known: Some(&known), ..question(&site, ask) };
            prop_assert_eq!(answer(&older).0, 3010);
        }
    }
}
