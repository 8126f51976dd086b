//! What a site's acceptor says while `register` decides.
//!
//! The votes of older programs are the key `register`. Until the acceptors of all sites are in
//! force, each region's agent writes the key `acceptor` beside it: which certificate the register
//! accepted, how often the store lost what it held, and how far the other sites were seen to be.
//! It follows the register wherever older programs lead that. No vote is given by it; a store that
//! lost its votes does not count when an epoch is confirmed.

use std::collections::BTreeMap;
use topology::RegionName;
use topology::acceptor::{Acceptor, Position};
use topology::region::Certificate;

/// The acceptor that stands beside a register which accepted this certificate. `old`: the one
/// that stands there; `known`: the furthest that the site was seen.
pub fn beside(
    old: Option<&Acceptor>,
    known: Option<&Position>,
    accepted: &Certificate,
    formation: &str,
) -> Acceptor {
    let old = old.filter(|old| old.formation == formation);
    let Some(old) = old else {
        let first = Acceptor::first(formation, Some(accepted.clone()));
        return match known {
            None => first,
            Some(known) => emptied(first, known.life),
        };
    };
    let is_older = known.is_some_and(|known| old.position() < *known);
    let life = known.map_or(0, |known| known.life).max(old.life);
    let holds_it = old.chosen.as_ref() == Some(accepted);
    match (is_older, holds_it) {
        (false, true) => old.clone(),
        (false, false) if accepted.epoch > old.epoch() => old.after(accepted.clone()),
        (true, true) => emptied(old.clone(), life),
        (_, false) => emptied(old.after(accepted.clone()), life),
    }
}

/// The store lost what it held, and holds again what others told it.
fn emptied(site: Acceptor, last_life: u64) -> Acceptor {
    let blank_through = site.epoch() + 2;
    Acceptor { life: last_life + 1, blank_through, promised: None, accepted: None, ..site }
}

/// The acceptor with what is seen of the other sites. What it knows of them never goes back.
pub fn noted(mut site: Acceptor, others: &BTreeMap<RegionName, Position>) -> Acceptor {
    for (name, seen) in others {
        let known = site.knows.entry(name.clone()).or_default();
        if *known < *seen {
            *known = seen.clone();
        }
    }
    site
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreement::sample::{first, second};

    fn certificate() -> Certificate {
        first().chosen.expect("an owner")
    }

    fn imported() -> Acceptor {
        Acceptor::first("", Some(certificate()))
    }

    #[test]
    fn a_store_of_an_older_program_gets_an_acceptor_and_keeps_it() {
        let site = beside(None, None, &certificate(), "");
        assert_eq!(site, imported());
        assert_eq!(beside(Some(&site), Some(&site.position()), &certificate(), ""), site);
    }

    #[test]
    fn it_follows_what_the_register_accepts() {
        let next = beside(Some(&imported()), None, &second("b"), "");
        assert_eq!((next.epoch(), next.life, next.is_blank()), (2, 1, false));
        assert_eq!(next.chain.iter().map(|link| link.epoch).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_store_that_lost_its_acceptor_or_went_back_begins_another_life() {
        let (old, new) = (imported(), imported().after(second("b")));
        let known = new.position();
        let emptied = beside(None, Some(&known), &second("b"), "");
        assert_eq!((emptied.life, emptied.epoch(), emptied.blank_through), (2, 2, 4));
        let went_back = beside(Some(&old), Some(&known), &second("b"), "");
        assert_eq!((went_back.life, went_back.blank_through), (2, 4));
        let still_back = beside(Some(&old), Some(&known), &certificate(), "");
        assert_eq!((still_back.life, still_back.blank_through), (2, 3));
        for site in [emptied, went_back, still_back] {
            assert!(site.position() > known, "{site:?}");
        }
    }

    /// An older program accepted another certificate of the epoch.
    #[test]
    fn another_certificate_of_an_epoch_begins_another_life() {
        let new = imported().after(second("b"));
        for certificate in [second("a"), certificate()] {
            let site = beside(Some(&new), None, &certificate, "");
            assert_eq!((site.life, site.chosen.as_ref()), (2, Some(&certificate)));
            assert!(site.is_blank() && site.hash() == certificate.hash());
        }
    }

    #[test]
    fn an_acceptor_of_another_formation_is_not_taken_over() {
        let site = beside(Some(&imported()), None, &certificate(), "shop");
        assert_eq!((site.life, &*site.formation), (1, "shop"));
    }

    #[test]
    fn what_is_known_of_other_sites_never_goes_back_and_raises_no_position() {
        let low = imported().position();
        let high = imported().after(second("b")).position();
        let see = |site, seen: &Position| noted(site, &[("b".into(), seen.clone())].into());
        let site = see(see(imported(), &high), &low);
        assert_eq!(site.knows[&"b".into()], high);
        assert_eq!(site.position(), low);
    }
}
