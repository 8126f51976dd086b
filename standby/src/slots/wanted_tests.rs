//! Which slots a member should have, in small groups and in random ones.

use super::*;
use crate::made_up::TakeSample;
use crate::slots::Kind;
use proptest::prelude::*;
use serde_json::{Value, json};
use topology::{Dynamic, GroupView, RegionName};

/// A group as one of its members sees it.
struct Group {
    view: GroupView,
    dynamic: Dynamic,
    heard: BTreeMap<MemberName, Lsn>,
    regions: Vec<RegionName>,
}

impl Group {
    /// Members with their tags; the first one leads.
    fn of(members: &[(&str, Value)], config: Value) -> Group {
        let mut view = GroupView::default();
        view.take_sample("leader", members[0].0, 1, 1);
        for (name, tags) in members {
            let record = json!({"tags": tags, "xlog_location": 50, "version": "4.1.5"});
            view.take_sample(&format!("members/{name}"), &record.to_string(), 1, 1);
        }
        let dynamic = Dynamic::read(&config).unwrap();
        Group { view, dynamic, heard: BTreeMap::new(), regions: Vec::new() }
    }

    fn status(mut self, status: Value) -> Group {
        self.view.take_sample("status", &status.to_string(), 2, 0);
        self
    }

    fn at<T>(&self, me: &str, look: impl FnOnce(&Situation) -> T) -> T {
        let me = MemberName::new(me);
        let leads = self.view.leader_name() == Some(&me);
        let situation = Situation {
            me: &me,
            nofailover: self.view.member(&me).is_some_and(|record| record.tags.nofailover()),
            view: &self.view,
            dynamic: &self.dynamic,
            role: if leads { Role::Primary } else { Role::Replica },
            cluster: Some(ClusterKind::Primary),
            copies_region: false,
            end: Lsn(1_000),
            regions: &self.regions,
            doubtful_regions: &[],
            heard: &self.heard,
            citus_databases: &[],
        };
        look(&situation)
    }

    fn plan(&self, me: &str) -> Plan {
        self.at(me, wanted)
    }

    /// `name` for one that is expected to be active, `(name)` for one that is not,
    /// `name?` where that is not known.
    fn names(&self, me: &str) -> String {
        let shown = |(name, wanted): (&String, &Wanted)| match wanted.expected_active {
            Some(true) => name.clone(),
            Some(false) => format!("({name})"),
            None => format!("{name}?"),
        };
        let names: Vec<String> = self.plan(me).wanted.iter().map(shown).collect();
        names.join(" ")
    }
}

fn from(name: &str) -> Value {
    json!({"replicatefrom": name})
}

/// b cascades from a, d from c, which never leads; e names a member that is not there.
fn cascades(config: Value) -> Group {
    let tags = |from: &str| json!({"replicatefrom": from, "nofailover": true});
    Group::of(
        &[
            ("l", json!({})),
            ("a", json!({})),
            ("b", from("a")),
            ("c", tags("l")),
            ("d", from("c")),
            ("e", from("gone")),
            ("q", json!({"nostream": true})),
        ],
        config,
    )
}

#[test]
fn every_member_keeps_a_slot_for_every_other_one() {
    let group = cascades(json!({}));
    assert_eq!(group.names("l"), "a (b) c (d) e");
    assert_eq!(group.names("a"), "b (c) (d) (e) (l)");
    assert_eq!(group.names("b"), "(a) (c) (d) (e) (l)");
    // One that never leads keeps those alone that stream from it.
    assert_eq!(group.names("c"), "d");
}

#[test]
fn without_a_time_to_keep_slots_only_those_that_are_used_are_wanted() {
    let group = cascades(json!({"member_slots_ttl": 0}));
    assert_eq!(group.names("l"), "a c e");
    assert_eq!(group.names("a"), "b");
    assert_eq!((group.names("b"), group.names("c")), (String::new(), "d".into()));
}

#[test]
fn a_circle_streams_from_the_leader() {
    let group = Group::of(&[("l", json!({})), ("a", from("b")), ("b", from("a"))], json!({}));
    assert_eq!((group.names("l"), group.names("a")), ("a b".into(), "(b) (l)".into()));
}

#[test]
fn a_leader_that_cascaded_before_is_no_standby() {
    let group = Group::of(&[("l", from("a")), ("a", json!({}))], json!({"member_slots_ttl": 0}));
    assert_eq!((group.names("l"), group.names("a")), ("a".into(), String::new()));
}

#[test]
fn a_member_that_never_leads_but_does_keeps_the_slots_of_its_standbys() {
    let group = Group::of(&[("l", json!({"nofailover": true})), ("a", json!({}))], json!({}));
    assert_eq!(group.names("l"), "a");
}

#[test]
fn two_members_with_the_same_slot_are_named() {
    let members = [("l", json!({})), ("n-1", json!({})), ("n_1", from("n-1"))];
    let group = Group::of(&members, json!({})).status(json!({"optime": 9, "slots": {"n_1": 7}}));
    let plan = group.plan("l");
    assert_eq!(group.names("l"), "n_1");
    assert_eq!(plan.wanted["n_1"].to, None, "it moves for neither of them");
    assert!(plan.findings[0].contains("n-1 and n_1 share the slot `n_1`"), "{plan:?}");
    assert!(!group.plan("n-1").wanted.contains_key("n_1"), "a member's own name");
}

#[test]
fn a_slot_moves_to_what_the_leader_reports_or_the_cascading_member_itself() {
    let slots = json!({"optime": 90, "slots": {"a": 40, "b": 30, "d": 60}});
    let mut group = cascades(json!({})).status(slots);
    let to = |group: &Group, slot: &str| group.plan("b").wanted[slot].to;
    assert_eq!((to(&group, "a"), to(&group, "d")), (Some(Lsn(40)), Some(Lsn(60))));
    assert_eq!(group.plan("l").wanted["b"].to, Some(Lsn(50)), "its record is further");
    assert_eq!(to(&group, "l"), None);
    group.heard.insert("a".into(), Lsn(70));
    assert_eq!(to(&group, "a"), Some(Lsn(70)));
    // A leader of an old release reports no members.
    let old = json!({"version": "3.3.2", "xlog_location": 99});
    group.view.take_sample("members/l", &old.to_string(), 2, 1);
    assert_eq!((to(&group, "e"), to(&group, "l")), (Some(Lsn(50)), Some(Lsn(99))));
}

#[test]
fn a_member_that_has_gone_keeps_its_slot_as_long_as_the_leader_says() {
    let status = json!({"optime": 9, "slots": {"gone": 5}, "retain_slots": ["gone", "l", "a"]});
    let members = [("l", json!({})), ("a", json!({})), ("c", json!({"nofailover": true}))];
    let group = Group::of(&members, json!({})).status(status);
    assert_eq!(group.names("a"), "(c) gone? (l)");
    assert_eq!(group.plan("a").wanted["gone"].to, Some(Lsn(5)));
    assert_eq!(group.names("c"), "", "a member that never leads keeps none");
}

#[test]
fn permanent_slots_are_kept_where_they_belong() {
    let slots = json!({"slots": {"keep": 0, "main": {"cluster_type": "primary"},
        "copy": {"type": "physical", "cluster_type": "standby"}, "a": null, "Bad-1": null,
        "half": {"type": "logical"}, "logical": {"database": "d", "plugin": "p"},
        "l": {"database": "d", "plugin": "p"}}});
    let members = [("l", json!({})), ("a", json!({})), ("c", json!({"nofailover": true}))];
    let group = Group::of(&members, slots);
    assert_eq!(group.names("l"), "a c keep logical? main");
    assert_eq!(group.names("a"), "(c) keep? (l) logical? main?");
    assert_eq!(group.names("c"), "");
    let plan = group.plan("a");
    let unclear: Vec<&str> = plan.unclear.iter().map(String::as_str).collect();
    assert_eq!(unclear, ["Bad-1", "half", "l"]);
    // The member whose name it is says the same as the others, and keeps none.
    for member in ["l", "a"] {
        let told = group.plan(member).findings;
        assert!(told.iter().any(|told| told.contains("`l` has the name of a member's slot")));
        assert!(group.plan(member).unclear.contains("l"), "one that is there is not dropped");
    }
    let inside = |cluster| group.at("l", |s| wanted(&Situation { cluster, ..s.clone() }));
    let copy = inside(Some(ClusterKind::Standby));
    let names: Vec<&str> = copy.wanted.keys().map(String::as_str).collect();
    assert_eq!(names, ["a", "c", "copy", "keep"], "no logical ones there");
    let unknown = inside(None);
    assert!(["main", "copy", "logical"].iter().all(|name| unknown.unclear.contains(*name)));
    assert!(unknown.wanted.contains_key("keep") && !unknown.wanted.contains_key("main"));
}

#[test]
fn definitions_under_another_name_that_do_not_count_are_named() {
    let config = json!({"slots": {"a": null}, "permanent_slots": {"b": null}});
    let plan = Group::of(&[("l", json!({}))], config).plan("l");
    let names: Vec<&str> = plan.wanted.keys().map(String::as_str).collect();
    assert_eq!(names, ["b"]);
    let told = "`permanent_slots` of /config is used: what `slots` defines is ignored";
    assert_eq!(plan.findings, [told]);
}

#[test]
fn a_permanent_slot_of_a_cascading_namesake_moves_with_it() {
    let members = [("l", json!({})), ("a", json!({})), ("b-1", from("a"))];
    let config = json!({"slots": {"b_1": null}, "member_slots_ttl": 0});
    let group = Group::of(&members, config).status(json!({"optime": 9, "slots": {"b_1": 3}}));
    assert_eq!(group.names("l"), "a b_1?");
    assert_eq!(group.plan("l").wanted["b_1"].to, Some(Lsn(50)));
}

#[test]
fn below_a_member_without_streaming_no_logical_slot_is_kept() {
    let slots = json!({"slots": {"logical": {"database": "d", "plugin": "p"}}});
    let members = [
        ("l", json!({})),
        ("q", json!({"nostream": true})),
        ("b", from("q")),
        ("x", from("y")),
        ("y", from("x")),
    ];
    let group = Group::of(&members, slots);
    let has = |me: &str| group.plan(me).wanted.contains_key("logical");
    assert_eq!([has("l"), has("q"), has("b"), has("x")], [true, false, false, false]);
}

#[test]
fn without_slots_only_regions_have_theirs() {
    let config = json!({"postgresql": {"use_slots": "off"}, "slots": {"keep": 0}});
    let mut group = Group::of(&[("l", json!({})), ("a", json!({}))], config);
    group.regions = vec![RegionName::new("B-1")];
    assert_eq!((group.names("l"), group.names("a")), ("region_b_1".into(), "(region_b_1)".into()));
    let other = RegionName::new("C");
    let doubtful = std::slice::from_ref(&other);
    let plan = group.at("l", |s| wanted(&Situation { doubtful_regions: doubtful, ..s.clone() }));
    assert!(plan.unclear.contains("region_c") && !plan.wanted.contains_key("region_c"));
}

#[test]
fn a_logical_slot_does_not_take_the_name_of_a_region_s() {
    let slots = json!({"slots": {"region_b": {"database": "d", "plugin": "p"}}});
    let mut group = Group::of(&[("l", json!({})), ("a", json!({}))], slots);
    assert_eq!(group.names("l"), "a region_b?", "there is no such region");
    group.regions = vec![RegionName::new("b")];
    assert_eq!(group.names("l"), "a region_b");
    let plan = group.plan("l");
    assert_eq!(plan.wanted["region_b"].kind, Kind::Physical);
    assert!(plan.findings[0].contains("`region_b` has the name of a region's slot"), "{plan:?}");
    let regions = std::mem::take(&mut group.regions);
    let plan = group.at("l", |s| wanted(&Situation { doubtful_regions: &regions, ..s.clone() }));
    assert!(plan.unclear.contains("region_b") && !plan.wanted.contains_key("region_b"));
    assert_eq!(plan.findings.len(), 1);
}

#[test]
fn two_standby_clusters_with_one_slot_are_named() {
    let links = json!([{"name": "east", "slot": "dr"}, {"name": "west", "slot": "dr"}]);
    for slots in [json!({}), json!({"dr": null})] {
        let config = json!({"standby_clusters": links, "slots": slots});
        let group = Group::of(&[("l", json!({})), ("a", json!({}))], config);
        let plan = group.plan("l");
        let told = "the standby clusters east and west share the slot `dr`: give one of them another \
                    slot";
        assert_eq!(plan.findings, [told]);
        assert_eq!(group.names("l"), "a dr", "the first of them has it");
    }
}

/// The server that a member streams from, said as simply as can be.
fn streams_from(group: &Group, name: &str) -> Option<String> {
    let leader = group.view.leader_name()?.to_string();
    let record = group.view.member(&name.into())?;
    if record.tags.nostream() || name == leader {
        return None;
    }
    let mut at = name.to_string();
    for _ in 0..10 {
        let next = group.view.member(&at.as_str().into());
        match next.and_then(|record| record.tags.replicatefrom()) {
            _ if at == leader => break,
            Some(next) if group.view.members.contains_key(&next.into()) => at = next.to_string(),
            _ => {
                at = leader.clone();
                break;
            }
        }
    }
    // A chain that does not end goes round in a circle.
    let wanted = record
        .tags
        .replicatefrom()
        .filter(|from| at == leader && group.view.members.contains_key(&MemberName::new(*from)));
    Some(wanted.unwrap_or(&leader).to_string())
}

proptest! {
    #[test]
    fn every_member_that_streams_from_another_one_has_a_slot_there(
        members in prop::collection::vec(
            (0..7usize, any::<bool>(), prop::bool::weighted(0.2)), 2..6
        ),
        ttl in prop::sample::select(vec![0, 60]),
    ) {
        let names = ["m0", "m1", "m2", "m3", "m4", "m5", "gone"];
        let tags = members.iter().enumerate().map(|(i, (from, nofailover, nostream))| {
            let mut tags = json!({"nofailover": nofailover, "nostream": nostream});
            if *from % 2 == 1 && *from != i {
                tags["replicatefrom"] = json!(names[*from]);
            }
            (names[i], tags)
        });
        let tags: Vec<(&str, Value)> = tags.collect();
        let group = Group::of(&tags, json!({"member_slots_ttl": ttl}));
        for (name, own) in &tags {
            let plan = group.plan(name);
            prop_assert!(!plan.wanted.contains_key(*name), "its own");
            prop_assert!(plan.wanted.values().all(|wanted| wanted.kind == Kind::Physical));
            for (other, theirs) in &tags {
                let streams = streams_from(&group, other).as_deref() == Some(*name);
                let wanted = plan.wanted.get(*other);
                if streams {
                    prop_assert_eq!(wanted.map(|w| w.expected_active), Some(Some(true)));
                } else if theirs["nostream"] == true {
                    prop_assert!(wanted.is_none(), "it streams from no server");
                } else if own["nofailover"] == true && theirs["replicatefrom"] != **name {
                    prop_assert!(wanted.is_none(), "a member that never leads");
                } else if let Some(wanted) = wanted {
                    prop_assert_eq!(wanted.expected_active, Some(false));
                }
            }
        }
    }
}

#[test]
fn clusters_that_follow_have_their_slots_on_members_that_may_lead() {
    let members = [("l", json!({})), ("a", json!({})), ("c", json!({"nofailover": true}))];
    let links = json!([{"name": "shop-dr"}, {"name": "far", "slot": "a"}]);
    let group = Group::of(&members, json!({"standby_clusters": links}))
        .status(json!({"optime": 90, "slots": {"shop_dr": 40}}));
    assert_eq!(group.names("l"), "a c shop_dr");
    assert_eq!((group.names("a"), group.names("c")), ("(c) (l) (shop_dr)".into(), String::new()));
    let plan = group.plan("a");
    assert_eq!(
        (plan.wanted["shop_dr"].to, plan.wanted["shop_dr"].why),
        (Some(Lsn(40)), Why::Linked)
    );
    let clash = "the slot `a` of the standby cluster far is one of this cluster's own";
    assert!(group.plan("l").findings[0].starts_with(clash));
    // This cluster follows another one itself, or that is not known.
    let of = |cluster| group.at("l", |s| wanted(&Situation { cluster, ..s.clone() }));
    assert!(!of(Some(ClusterKind::Standby)).wanted.contains_key("shop_dr"));
    let unknown = of(None);
    assert!(unknown.unclear.contains("shop_dr") && !unknown.wanted.contains_key("shop_dr"));
}
