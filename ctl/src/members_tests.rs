//! Rows against what the field's tool printed for the same keys, and the
//! cases that no recorded moment shows.

use super::*;
use crate::fixture::{GOLDEN, golden, transcript};
use crate::made_up::TakeSample;
use crate::output::{Format, render};
use jiff::Timestamp;
use topology::MemberName;

fn text_of(groups: &Groups, scope: &str, command: &str) -> Option<String> {
    let words: Vec<&str> = command.split(' ').collect();
    let format = match words.iter().position(|w| *w == "-f").map(|at| words[at + 1]) {
        Some("json") => Format::Json,
        Some("tsv") => Format::Tsv,
        Some("yaml") => Format::Yaml,
        _ => Format::Pretty,
    };
    let shown = Shown {
        scope: scope.to_string(),
        extended: words.contains(&"-e"),
        is_tree: words[0] == "topology",
        ..Shown::default()
    };
    ["list", "topology"].contains(&words[0]).then(|| render(&rows(groups, &shown), format))
}

#[test]
fn recorded_moments_are_shown_byte_for_byte() {
    let mut compared = 0;
    for (name, scope) in GOLDEN {
        let groups = golden(name, scope);
        for (command, expected) in transcript(name) {
            if let Some(text) = text_of(&groups, scope, &command) {
                assert_eq!(text, expected, "{name}: {command}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 31);
}

#[test]
fn a_scope_that_does_not_exist_is_an_empty_table() {
    let groups = Groups::from([(Group::PLAIN, GroupView::default())]);
    let text = text_of(&groups, "nosuch", "list").unwrap();
    assert_eq!(
        text,
        "+ Cluster: nosuch (uninitialized) --+-------------+-----+------------+-----+\n\
         | Member | Host | Role | State | TL | Receive LSN | Lag | Replay LSN | Lag |\n\
         +--------+------+------+-------+----+-------------+-----+------------+-----+\n\
         +--------+------+------+-------+----+-------------+-----+------------+-----+\n"
    );
}

fn citus() -> Groups {
    let mut groups = Groups::new();
    for (number, member) in [(0, "c1"), (1, "w1")] {
        let mut view = GroupView::default();
        let record = format!(
            r#"{{"conn_url":"postgres://{member}:5432/p","state":"running",
                "role":"primary","timeline":1}}"#
        );
        view.take_sample(&format!("members/{member}"), &record, 1, 1);
        view.take_sample("leader", member, 1, 1);
        view.take_sample("initialize", &format!("{}", 7_000_000_000u64 + number), 1, 1);
        view.take_sample("config", r#"{"pause":true}"#, 1, 0);
        groups.insert(Group(Some(number as u32)), view);
    }
    groups
}

#[test]
fn all_groups_have_a_column_and_one_group_has_a_title() {
    let groups = citus();
    let all = Shown { scope: "demo".into(), is_citus: true, ..Shown::default() };
    let text = render(&rows(&groups, &all), Format::Pretty);
    assert!(text.starts_with("+ Citus cluster: demo -"), "{text}");
    assert!(text.contains("|     1 | w1     | w1   | Leader | running |"), "{text}");
    assert!(text.ends_with("Citus group: 1\n Maintenance mode: on\n"), "{text}");

    let one = Shown { group: Some(1), ..all };
    let groups = Groups::from([(Group(Some(1)), groups[&Group(Some(1))].clone())]);
    let text = render(&rows(&groups, &one), Format::Pretty);
    assert!(text.starts_with("+ Citus cluster: demo (group: 1, 7000000001) "), "{text}");
    assert!(!text.contains("Group |") && text.ends_with("+\n Maintenance mode: on\n"), "{text}");
    assert!(render(&rows(&groups, &one), Format::Tsv).starts_with("Cluster\tGroup\tMember\t"));
}

#[test]
fn unknown_positions_have_no_lag_and_old_members_one_position() {
    let mut view = GroupView::default();
    view.take_sample("leader", "l", 1, 1);
    view.take_sample("members/a", r#"{"xlog_location":1,"replication_state":"streaming"}"#, 1, 1);
    let name = MemberName::new("a");
    let record = view.member(&name).unwrap().clone();
    let found = positions(&MemberReport::of(&view, &name, &record));
    assert_eq!(found, [json!("0/1"), Value::Null, json!("unknown"), Value::Null]);
    view.take_sample("status", r#"{"optime":3145729}"#, 1, 1);
    let old = MemberRecord { replication_state: None, ..record };
    let found = positions(&MemberReport::of(&view, &name, &old));
    assert_eq!(found, [json!("unknown"), Value::Null, json!("0/1"), json!(3)]);
}

#[test]
fn standby_leaders_are_behind_the_remote_side_in_bytes_and_seconds() {
    let mut view = GroupView::default();
    view.take_sample("leader", "l", 1, 1);
    let record = r#"{"role":"standby_leader","state":"running","receive_lsn":90,"replay_lsn":80,
        "remote":{"lsn":100,"replayed_at":"2026-11-20 21:58:24.500000+00:00"}}"#;
    view.take_sample("members/l", record, 1, 1);
    view.take_sample("members/r", r#"{"role":"replica","state":"running"}"#, 1, 1);
    let groups = Groups::from([(Group(None), view)]);
    let at: Timestamp = "2026-11-20T21:58:30Z".parse().unwrap();
    let shown = Shown {
        scope: "dr".into(),
        remote_lag_at: Some(at.as_millisecond().unsigned_abs()),
        ..Shown::default()
    };
    let text = render(&rows(&groups, &shown), Format::Tsv);
    let lines: Vec<&str> = text.lines().collect();
    let head = "\tRemote Receive Lag\tRemote Replay Lag\tRemote Lag Seconds";
    assert!(lines[0].ends_with(head), "{text}");
    assert!(lines[1].ends_with("\t10\t20\t5"), "{text}");
    assert!(lines[2].ends_with("\t\t\t"), "{text}");
    let without = Shown { remote_lag_at: None, ..shown };
    assert!(!render(&rows(&groups, &without), Format::Tsv).contains("Remote"));
}

#[test]
fn the_extended_list_shows_whether_readers_of_logical_slots_can_go_on() {
    let mut view = GroupView::default();
    view.take_sample("leader", "l", 1, 1);
    let words = r#"{"role":"replica","state":"running",
        "logical_slots":{"orders":"ready","audit":"missing"}}"#;
    view.take_sample("members/a", words, 1, 1);
    view.take_sample("members/l", r#"{"role":"primary","state":"running"}"#, 1, 1);
    let groups = Groups::from([(Group::PLAIN, view)]);
    let text = |command: &str| text_of(&groups, "shop", command).unwrap();
    let extended = text("list -e -f tsv");
    let lines: Vec<&str> = extended.lines().collect();
    assert!(lines[0].ends_with("\tTags\tLogical Slots"), "{extended}");
    assert!(lines[1].ends_with("\taudit missing, orders ready"), "{extended}");
    assert!(lines[2].ends_with('\t') && lines[2].contains("\tl\t"), "{extended}");
    assert!(!text("list -f tsv").contains("Logical Slots"));
    // No member keeps any.
    let none = text_of(&citus(), "demo", "list -e -f tsv").unwrap();
    assert!(!none.contains("Logical Slots"), "{none}");
}

#[test]
fn a_restart_shows_its_conditions_and_every_reason() {
    let record = MemberRecord::read(
        r#"{"scheduled_restart":{"schedule":"2035-06-02T12:30:00+00:00","postgres_version":"15.2"},
            "pending_restart_reason":{"a":{"old_value":"1","new_value":2},"b":{"old_value":"x"}}}"#,
    );
    let text = "2035-06-02T12:30:00+00:00 if version < 15.2";
    assert_eq!(scheduled_restart(&record).as_deref(), Some(text));
    assert_eq!(restart_reason(&record).as_deref(), Some("a: 1->2\nb: x->"));
}

#[test]
fn a_region_that_follows_has_standby_leaders() {
    let mut view = GroupView::default();
    view.take_sample("leader", "a", 1, 1);
    view.take_sample("members/a", r#"{"role":"standby_leader","state":"running"}"#, 1, 1);
    assert_eq!(Role::of(&view, &MemberName::new("a")), Role::StandbyLeader);
}
