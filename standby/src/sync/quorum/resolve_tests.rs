//! Each way from what is to what is wanted, with its numbers.

use super::*;
use topology::MemberName;

fn set(names: &str) -> NameSet {
    names.split_whitespace().map(MemberName::from).collect()
}

/// `quorum voters | count names | confirmed active`; `wanted` are to confirm each commit.
fn state(text: &str, wanted: i64) -> State {
    let parts: Vec<Vec<&str>> = text.split('|').map(|p| p.split_whitespace().collect()).collect();
    let number = |part: usize| parts[part][0].parse::<i64>().expect("a number");
    let names = |part: usize| parts[part][1..].iter().map(|n| MemberName::from(*n)).collect();
    State {
        quorum: number(0),
        voters: names(0),
        count: number(1),
        names: names(1),
        confirmed: number(2),
        active: names(2),
        wanted,
    }
}

fn moves(text: &str, wanted: i64) -> Vec<String> {
    let list = |set: &NameSet| set.iter().map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    let write = |one: &Move| match one {
        Move::Quorum { quorum, voters } => format!("/sync {quorum} [{}]", list(voters)),
        Move::Sync { count, names } => format!("names {count} [{}]", list(names)),
        Move::Restart => "restart".to_string(),
    };
    state(text, wanted).moves().iter().map(write).collect()
}

#[test]
fn the_first_standby_is_named_and_votes_when_it_has_confirmed() {
    assert_eq!(moves("0 | 0 | 0 a", 1), ["names 1 [a]", "restart"]);
    assert_eq!(moves("0 | 1 a | 0 a", 1), ["restart"]);
    assert_eq!(moves("0 | 1 a | 1 a", 1), ["/sync 0 [a]"]);
    assert!(moves("0 a | 1 a | 1 a", 1).is_empty());
}

#[test]
fn another_one_raises_the_quorum_before_the_names_grow() {
    assert_eq!(moves("0 a | 1 a | 1 a b", 1), ["/sync 1 [a b]", "names 1 [a b]"]);
    assert_eq!(moves("1 a b | 1 a b | 2 a b c", 1), ["/sync 2 [a b c]", "names 1 [a b c]"]);
}

#[test]
fn as_long_as_too_few_confirm_the_count_grows_first() {
    assert_eq!(moves("0 a | 1 a | 1 a b", 2), ["names 2 [a b]", "/sync 1 [a b]"]);
    assert_eq!(moves("1 a b | 2 a b | 2 a b", 2), ["/sync 0 [a b]"], "when both have confirmed");
    assert!(moves("1 a b | 2 a b | 1 a b", 2).is_empty());
    let many = moves("0 a | 1 a | 1 a b c", 2);
    assert_eq!(many, ["names 2 [a b]", "/sync 1 [a b]", "/sync 2 [a b c]", "names 2 [a b c]"]);
}

#[test]
fn who_leaves_is_spared_by_the_quorum_or_loses_its_vote_first() {
    assert_eq!(moves("1 a b | 1 a b | 1 a", 1), ["names 1 [a]", "/sync 0 [a]"]);
    assert_eq!(moves("0 a b | 2 a b | 1 a", 2), ["/sync 0 [a]", "names 1 [a]"]);
    let both = moves("1 a b c | 2 a b c | 1 a", 2);
    assert_eq!(both, ["names 2 [a b]", "/sync 0 [a b]", "/sync 0 [a]", "names 1 [a]"]);
    assert_eq!(moves("1 a b | 1 a b | 0", 1), ["/sync 0 []", "names 0 []"]);
}

#[test]
fn more_voters_than_names_are_named_or_lose_their_vote() {
    assert_eq!(moves("1 a b | 1 a | 1 a b", 1), ["names 1 [a b]"]);
    assert_eq!(moves("1 a b | 1 a | 1 a", 1), ["/sync 0 [a]"]);
    let both = moves("2 a b c | 1 a | 1 a b", 1);
    assert_eq!(both, ["names 1 [a b]", "/sync 1 [a b]"]);
}

#[test]
fn more_names_than_voters_leave_or_vote() {
    assert_eq!(moves("0 a | 2 a b | 1 a", 1), ["names 1 [a]"]);
    assert_eq!(moves("0 a | 2 a b | 2 a b", 2), ["/sync 0 [a b]"]);
    // The contract drops `b` here though it votes, and misses those of `c d`.
    let gone = moves("0 b c | 3 b c d | 2 c d", 3);
    assert_eq!(gone[0], "/sync 1 [b c d]");
}

#[test]
fn the_count_follows_the_wish_in_the_safe_order() {
    assert_eq!(moves("0 a b | 2 a b | 2 a b", 1), ["/sync 1 [a b]", "names 1 [a b]"]);
    assert_eq!(moves("1 a b | 1 a b | 2 a b", 2), ["names 2 [a b]", "/sync 0 [a b]"]);
    assert_eq!(moves("1 a b | 2 a b | 2 a b", 1), ["names 1 [a b]"], "the quorum covers it");
}

#[test]
fn every_confirming_set_meets_every_electing_one() {
    for (sound, text) in [
        (true, "0 | 1 a | 0"),
        (true, "0 a b | 2 a b | 0"),
        (true, "1 a b | 1 a b | 0"),
        (true, "1 a b | 1 a | 0"),
        (false, "0 a b | 1 a b | 0"),
        (false, "0 a | 1 a b | 0"),
        (false, "3 a | 1 b | 0"),
        (false, "0 a | 0 | 0"),
    ] {
        assert_eq!(state(text, 1).is_sound(), sound, "{text}");
    }
}

#[test]
fn primitive_moves_refuse_numbers_that_cannot_be() {
    let list = || List { at: state("1 a b | 1 a b | 2 a b", 1), moves: Vec::new() };
    assert!(list().set_quorum(-1, set("a b"), false).is_err());
    assert!(list().set_quorum(2, set("a b"), false).is_err());
    assert!(list().set_quorum(0, set("a b"), false).is_err(), "an election would miss a commit");
    assert!(list().set_names(3, set("a b")).is_err());
    assert!(list().set_names(-1, set("a b")).is_err());
    let mut same = list();
    assert!(same.set_quorum(1, set("A b"), true).is_ok() && same.moves.is_empty());
}
