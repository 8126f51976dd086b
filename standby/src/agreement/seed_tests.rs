//! What a site that lost its votes is given.

use super::*;
use crate::agreement::sample::{accepted, ballot, first, promised, second};

fn seed(
    sites: usize,
    others: &[(&str, &Acceptor)],
    remembered: Option<&Acceptor>,
) -> Result<Acceptor, Unseeded> {
    let others = others.iter().map(|(name, site)| (RegionName::from(*name), *site)).collect();
    seeded(&"a".into(), &Quorums::of_letters(sites), &others, remembered)
}

#[test]
fn every_other_site_is_read_before_a_site_is_seeded() {
    let site = first();
    let missing = seed(3, &[("b", &site)], Some(&site));
    assert_eq!(missing, Err(Unseeded::Missing(["c".into()].into())));
    let alone = seed(1, &[], None);
    assert_eq!(alone, Err(Unseeded::Unknown));
}

#[test]
fn a_seeded_site_votes_above_all_rounds_and_is_blank() {
    let other = accepted(&first(), ballot(3, "b"), &second("b"));
    let disk = promised(&first(), ballot(5, "a"));
    let site = seed(2, &[("b", &other)], Some(&disk)).expect("all are read");
    assert_eq!((site.life, site.promised.clone()), (2, Some(ballot(6, "a"))));
    assert_eq!((site.accepted.clone(), site.blank_through), (None, 3));
    assert!(site.position() > disk.position() && site.in_force);
    let without_disk = seed(2, &[("b", &other)], None).expect("all are read");
    assert_eq!(without_disk.promised, Some(ballot(4, "a")));
}

#[test]
fn the_life_is_above_all_that_were_seen() {
    let mut other = first();
    let seen = Acceptor { life: 4, ..first() }.position();
    other.knows.insert("a".into(), seen);
    let life = |disk: Option<&Acceptor>| seed(2, &[("b", &other)], disk).expect("read").life;
    assert_eq!((life(None), life(Some(&first()))), (5, 5));
    assert_eq!(life(Some(&Acceptor { life: 7, ..first() })), 8);
}

/// A choice with a proof may be known to the own disk alone.
#[test]
fn the_furthest_certificate_is_taken_of_sites_and_disk() {
    let (old, new) = (first(), first().after(second("a")));
    for (other, disk) in [(&old, &new), (&new, &old)] {
        let site = seed(2, &[("b", other)], Some(disk)).expect("all are read");
        assert_eq!((site.chosen.clone(), site.hash()), (new.chosen.clone(), new.hash()));
        assert_eq!(site.blank_through, 4);
    }
    let other = first().after(second("b"));
    assert_eq!(seed(2, &[("b", &other)], Some(&new)), Err(Unseeded::Split(2)));
}
