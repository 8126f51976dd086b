//! Every document below `topology/` reads back as it was written: what is
//! compared to decide whether to write again must be the same.

use super::local::{LocalTopology, PastMove, Rewired, SignedToken, Verified};
use proptest::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use topology::acceptor::{Accepted, Acceptor, Ballot, Position};
use topology::region::{
    AbortRequest, Certificate, CertificateKind, Isolation, Journal, Mode, PeerGroup, PeerMember,
    PeerRegion, Phase, Policy, RegionPolicy, Register, StepRecord, Token,
};
use topology::schedule::{CronLine, Limits, Occurrence, Outcome, Schedule};
use topology::{Group, Lsn, MemberName, RegionName, SystemId, Timeline};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z0-9:./-]{0,8}", 1 => "\\PC{0,8}"]
}

fn region() -> impl Strategy<Value = RegionName> {
    "[a-z]{1,6}".prop_map(RegionName::new)
}

fn group() -> impl Strategy<Value = Group> {
    any::<Option<u32>>().prop_map(Group)
}

fn phase() -> impl Strategy<Value = Phase> {
    prop::sample::select(vec![
        Phase::Requested,
        Phase::Preflight,
        Phase::Warm,
        Phase::Hold,
        Phase::Stop,
        Phase::CatchUp,
        Phase::Certify,
        Phase::Open,
        Phase::Rewire,
        Phase::Reverse,
        Phase::Done,
        Phase::Aborted,
    ])
}

prop_compose! {
    fn token()(system in text(), timeline in any::<u32>(), lsn in any::<u64>()) -> Token {
        Token { system_id: SystemId(system), timeline: Timeline(timeline), lsn: Lsn(lsn) }
    }
}

fn tokens() -> impl Strategy<Value = BTreeMap<Group, Token>> {
    prop::collection::btree_map(group(), token(), 0..3)
}

prop_compose! {
    fn policy()(
        formation in text(),
        regions in prop::collection::vec(
            (region(), any::<i64>(), prop::collection::vec(text(), 0..3)),
            0..3,
        ),
        step_seconds in any::<u64>(),
    ) -> Policy {
        let region = |(name, priority, endpoints)| RegionPolicy { name, priority, endpoints };
        Policy {
            formation,
            regions: regions.into_iter().map(region).collect(),
            mode: Mode::Manual,
            isolation: Isolation::Continue,
            step_seconds,
        }
    }
}

prop_compose! {
    fn certificate()(
        numbers in any::<(u64, u64)>(),
        owner in region(),
        kind in prop::sample::select(vec![
            CertificateKind::Initial, CertificateKind::Planned, CertificateKind::Forced,
            CertificateKind::Automatic, CertificateKind::Reclaim, CertificateKind::Asserted,
        ]),
        groups in tokens(),
        texts in prop::array::uniform4(text()),
    ) -> Certificate {
        let [previous_hash, proof, policy_hash, at] = texts;
        Certificate {
            epoch: numbers.0, ballot: numbers.1, owner, kind, previous_hash, groups, proof,
            policy_hash, at,
        }
    }
}

prop_compose! {
    fn limits()(of in any::<(Option<u64>, Option<u64>)>()) -> Limits {
        Limits { lag_bytes_max: of.0, pause_seconds_max: of.1 }
    }
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (any::<u64>(), region()).prop_map(|(round, region)| Ballot { round, region })
}

fn position() -> impl Strategy<Value = Position> {
    let votes = (prop::option::of(ballot()), prop::option::of(ballot()));
    (any::<u64>(), any::<u64>(), votes).prop_map(|(life, epoch, (promised, accepted))| Position {
        life,
        epoch,
        promised,
        accepted,
    })
}

prop_compose! {
    fn acceptor()(
        formation in text(),
        numbers in prop::array::uniform2(any::<u64>()),
        chosen in prop::option::of(certificate()),
        promised in prop::option::of(ballot()),
        accepted in prop::option::of((ballot(), certificate())),
        knows in prop::collection::btree_map(region(), position(), 0..3),
        in_force in any::<bool>(),
        later in prop::option::of(text()),
    ) -> Acceptor {
        let accepted = accepted.map(|(ballot, certificate)| Accepted { ballot, certificate });
        let rest = later.map(|text| ("later".to_string(), text.into())).into_iter().collect();
        let [life, blank_through] = numbers;
        Acceptor {
            life, blank_through, promised, accepted, knows, in_force, rest,
            ..Acceptor::first(&formation, chosen)
        }
    }
}

fn occurrence() -> impl Strategy<Value = Occurrence> {
    let outcome = prop_oneof![
        text().prop_map(Outcome::Started),
        text().prop_map(Outcome::Skipped),
        text().prop_map(Outcome::Cancelled),
    ];
    (any::<u64>(), outcome).prop_map(|(due_ms, outcome)| Occurrence { due_ms, outcome })
}

prop_compose! {
    fn schedule()(
        texts in prop::array::uniform2(text()),
        regions in (region(), region()),
        numbers in prop::array::uniform3(any::<u64>()),
        cron in prop::option::of((text(), text())),
        due_ms in any::<Option<u64>>(),
        limits in limits(),
        last in prop::option::of(occurrence()),
    ) -> Schedule {
        let ([id, host], [epoch, revision, window_minutes]) = (texts, numbers);
        let cron = cron.map(|(line, timezone)| CronLine { line, timezone });
        Schedule {
            id, from: regions.0, to: regions.1, epoch, revision, host, cron, due_ms,
            window_minutes, limits, last,
        }
    }
}

prop_compose! {
    fn journal()(
        texts in prop::array::uniform2(text()),
        regions in (region(), region()),
        epoch in any::<u64>(),
        attempt in 0..3u64,
        phase in phase(),
        groups in prop::collection::vec(group(), 0..3),
        steps in prop::collection::vec((phase(), any::<u64>()), 0..4),
        tokens in tokens(),
        error in prop::option::of(text()),
        limits in limits(),
        abort in prop::option::of((text(), any::<u64>())),
    ) -> Journal {
        let [id, driver] = texts;
        let abort = abort.map(|(host, at_ms)| AbortRequest { host, at_ms });
        let step = |(phase, at_ms)| StepRecord { phase, at_ms };
        Journal {
            id, from: regions.0, to: regions.1, epoch, attempt, phase, groups, driver,
            steps: steps.into_iter().map(step).collect(), tokens, error, limits, abort,
        }
    }
}

prop_compose! {
    fn member()(
        texts in prop::array::uniform4(text()),
        port in any::<u16>(),
        api_url in prop::option::of(text()),
        timeline in any::<Option<u32>>(),
        lsn in any::<Option<u64>>(),
    ) -> PeerMember {
        let [name, role, state, host] = texts;
        PeerMember {
            name: MemberName::new(name), role, state, host, port, api_url,
            timeline: timeline.map(Timeline), lsn: lsn.map(Lsn),
        }
    }
}

prop_compose! {
    fn peer()(
        region in region(),
        epoch in any::<Option<u64>>(),
        groups in prop::collection::btree_map(
            group(),
            (prop::option::of(text()), prop::option::of(text()),
             prop::collection::vec(member(), 0..3)),
            0..3,
        ),
    ) -> PeerRegion {
        let of = |(leader, system, members): (Option<String>, Option<String>, _)| PeerGroup {
            leader: leader.map(MemberName::new), system_id: system.map(SystemId), members,
        };
        let groups = groups.into_iter().map(|(group, rest)| (group, of(rest))).collect();
        PeerRegion { region, epoch, groups }
    }
}

fn read(key: &str, value: &impl Serialize) -> LocalTopology {
    let text = serde_json::to_string(value).expect("plain values");
    let local = LocalTopology::read([(key, text.as_str())]);
    assert!(local.unreadable.is_empty(), "{:?}", local.unreadable);
    local
}

proptest! {
    #[test]
    fn b6_what_a_region_writes_of_itself_reads_back(
        policy in policy(),
        certificate in certificate(),
        promised in any::<u64>(),
        is_accepted in any::<bool>(),
    ) {
        prop_assert_eq!(read("policy", &policy).policy.unwrap().value, policy);
        let known = read("certificate", &certificate).certificate.unwrap().value;
        prop_assert_eq!(&known, &certificate);
        let register = Register { promised, accepted: is_accepted.then_some(certificate) };
        prop_assert_eq!(read("register", &register).register.unwrap().value, register);
        let verified = Verified { epoch: promised };
        prop_assert_eq!(read("verified", &verified).verified.unwrap().value, verified);
    }

    #[test]
    fn b6_what_a_move_writes_reads_back(journal in journal(), group in group(), token in token()) {
        prop_assert_eq!(&read("switch", &journal).switch.unwrap().value, &journal);
        let lines = vec![PastMove::of(&journal)];
        prop_assert_eq!(read("history", &lines).history.unwrap().value, lines);
        let rewired = Rewired { id: journal.id.clone() };
        prop_assert_eq!(read("switch/rewired", &rewired).rewired.unwrap(), rewired);
        let signed = SignedToken { id: journal.id, token };
        let key = format!("switch/token/{group}");
        prop_assert_eq!(read(&key, &signed).tokens.remove(&group).unwrap(), signed);
    }

    #[test]
    fn b6_the_acceptor_of_a_region_reads_back(acceptor in acceptor()) {
        prop_assert_eq!(read("acceptor", &acceptor).acceptor.unwrap().value, acceptor);
    }

    #[test]
    fn b6_a_schedule_reads_back(schedule in schedule()) {
        let key = format!("schedule/{}", schedule.id);
        let known = read(&key, &schedule).schedules.remove(&schedule.id).unwrap();
        prop_assert_eq!(known, schedule);
    }

    #[test]
    fn b6_the_record_of_another_region_reads_back(peer in peer()) {
        let key = format!("peers/{}", peer.region);
        prop_assert_eq!(read(&key, &peer).peers.remove(&peer.region).unwrap(), peer);
    }
}
