//! When a region's groups are open, and when its epoch is confirmed.

use super::*;
use crate::agreement::sample::{accepted, ballot, first, promised, second};

fn names(names: &[&str]) -> BTreeSet<RegionName> {
    names.iter().map(|name| RegionName::from(*name)).collect()
}

fn open(site: &Acceptor, granted: Option<u64>) -> Result<u64, Doubt> {
    may_open(Some(site), None, &"a".into(), granted)
}

#[test]
fn the_owner_opens_in_the_epoch_that_is_confirmed() {
    let site = first();
    assert_eq!(open(&site, Some(1)), Ok(1));
    assert_eq!(open(&site, None), Err(Doubt::Unconfirmed));
    assert_eq!(open(&site, Some(2)), Err(Doubt::Unconfirmed));
    assert_eq!(open(&site.after(second("b")), Some(2)), Err(Doubt::OtherOwner));
    assert_eq!(may_open(Some(&site), None, &"b".into(), Some(1)), Err(Doubt::OtherOwner));
}

#[test]
fn a_store_that_is_empty_older_or_blank_opens_nothing() {
    let site = first();
    let known = promised(&site, ballot(1, "b")).position();
    let me = "a".into();
    assert_eq!(may_open(None, None, &me, Some(1)), Err(Doubt::Empty));
    assert_eq!(open(&Acceptor::first("", None), Some(0)), Err(Doubt::Empty));
    assert_eq!(may_open(Some(&site), Some(&known), &me, Some(1)), Err(Doubt::Older));
    assert_eq!(open(&Acceptor { blank_through: 3, ..site.clone() }, Some(1)), Err(Doubt::Blank));
    assert_eq!(open(&Acceptor { blank_through: 1, ..site }, Some(1)), Ok(1));
}

#[test]
fn a_region_closes_once_its_store_has_accepted_another_owner() {
    let gone = accepted(&first(), ballot(0, "a"), &second("b"));
    assert_eq!(open(&gone, Some(1)), Err(Doubt::Accepted));
    let kept = accepted(&first(), ballot(1, "a"), &second("a"));
    assert_eq!(open(&kept, Some(1)), Ok(1));
}

fn confirm(sites: usize, heard: &[(&str, &Acceptor)]) -> Result<u64, Unconfirmed> {
    let heard = heard.iter().map(|(name, site)| (RegionName::from(*name), *site)).collect();
    confirmed(&Quorums::of_letters(sites), &"a".into(), &heard)
}

#[test]
fn an_epoch_is_confirmed_by_a_majority_of_read_sites() {
    let site = first();
    assert_eq!(confirm(2, &[("a", &site), ("b", &site)]), Ok(1));
    assert_eq!(confirm(3, &[("a", &site), ("c", &site)]), Ok(1));
    assert_eq!(confirm(2, &[("a", &site)]), Err(Unconfirmed::Unread(names(&["b"]))));
    assert_eq!(confirm(3, &[("a", &site)]), Err(Unconfirmed::Unread(names(&["b", "c"]))));
    assert_eq!(confirm(2, &[("b", &site)]), Err(Unconfirmed::Unread(names(&["a"]))));
    let next = site.after(second("b"));
    assert_eq!(confirm(2, &[("a", &next), ("b", &next)]), Ok(2));
}

#[test]
fn another_certificate_of_this_epoch_or_a_later_one_refuses_it() {
    let site = first();
    let later = site.after(second("b"));
    let superseded = Err(Unconfirmed::Superseded("b".into()));
    assert_eq!(confirm(2, &[("a", &site), ("b", &later)]), superseded);
    let mut other = site.clone();
    other.chain[0].hash = "other".into();
    assert_eq!(confirm(2, &[("a", &site), ("b", &other)]), superseded);
}

#[test]
fn votes_on_the_next_owner_refuse_it_while_acceptors_are_in_force() {
    let site = first();
    let outbid = promised(&site, ballot(1, "b"));
    let given = accepted(&site, ballot(0, "a"), &second("b"));
    let taken = |name: &str| Err(Unconfirmed::Taken(name.into()));
    assert_eq!(confirm(2, &[("a", &site), ("b", &outbid)]), taken("b"));
    assert_eq!(confirm(2, &[("a", &given), ("b", &site)]), taken("a"));
    // Its own claim may have replaced a promise to another region.
    let claimed = promised(&site, ballot(2, "a"));
    assert_eq!(confirm(3, &[("a", &claimed), ("b", &site)]), taken("a"));
    // A promise in an instance that is over says nothing.
    let behind = Acceptor { in_force: false, ..site };
    assert_eq!(confirm(2, &[("a", &behind), ("b", &outbid)]), Ok(1));
}

#[test]
fn a_site_that_lost_its_votes_answers_but_may_hide_a_certificate() {
    let site = first();
    let blank = Acceptor { blank_through: 3, ..site.clone() };
    assert_eq!(confirm(2, &[("a", &site), ("b", &blank)]), Ok(1));
    let hidden = confirm(3, &[("a", &site), ("c", &blank)]);
    assert_eq!(hidden, Err(Unconfirmed::Unread(names(&["b", "c"]))));
    assert_eq!(confirm(3, &[("a", &site), ("b", &site), ("c", &blank)]), Ok(1));
    // Where certificates are not voted on yet, all sites together hide nothing.
    let imported = Acceptor { in_force: false, ..blank.clone() };
    assert!(confirm(2, &[("a", &blank), ("b", &blank)]).is_err());
    assert_eq!(confirm(2, &[("a", &imported), ("b", &imported)]), Ok(1));
    assert!(confirm(3, &[("a", &imported), ("b", &imported)]).is_err());
}
