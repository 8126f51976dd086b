//! `slots`: the replication slots of all members, with who holds them and how much WAL they keep.
//!
//! The members are those of the store; each is asked for its own slots. One that does not
//! answer has a row that says so: its slots are not known, which is not the same as none.

use super::list::{CLEAR, every};
use super::reload::call;
use crate::args::Slots;
use crate::output::render;
use crate::rest::QUICK;
use crate::table::{Column, Table};
use crate::world::{Chosen, World};
use anyhow::Result;
use node::api::slots::SlotReport;
use reqwest::Method;
use serde_json::{Value, json};

const COLUMNS: [&str; 13] = [
    "Group", "Member", "Slot", "Type", "Holder", "Active", "Distance", "Status", "Safe", "Xmin",
    "Database", "Plugin", "Ready",
];
const NOT_KNOWN: &str = "unknown";

/// What a member says of its slots; `None`: it does not answer.
struct Told {
    member: Chosen,
    slots: Option<Vec<SlotReport>>,
}

pub(crate) async fn run(world: &mut World, args: &Slots) -> Result<()> {
    let scope = world.scope(args.of.cluster.as_deref())?;
    let every = every(&args.watch);
    loop {
        if every.is_some() {
            world.terminal.print(CLEAR)?;
        }
        let told = ask(world, &scope, args.of.group).await?;
        world.terminal.print(&render(&table(&told), args.format))?;
        match every {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Ok(()),
        }
    }
}

async fn ask(world: &mut World, scope: &str, group: Option<u32>) -> Result<Vec<Told>> {
    let cluster = world.read(scope, group).await?;
    let mut told = Vec::new();
    for member in cluster.members() {
        let reply = call(world, &member, Method::GET, "slots", None, QUICK).await;
        let slots = reply.ok().filter(|reply| reply.status == 200);
        let slots = slots.and_then(|reply| read(&reply.json()));
        told.push(Told { member, slots });
    }
    Ok(told)
}

fn read(body: &Value) -> Option<Vec<SlotReport>> {
    serde_json::from_value(body.get("slots")?.clone()).ok()
}

fn table(told: &[Told]) -> Table {
    let is_citus = told.iter().any(|told| told.member.group.0.is_some());
    let skipped = usize::from(!is_citus);
    let rows = told.iter().flat_map(rows);
    Table {
        columns: COLUMNS[skipped..].iter().map(|key| Column::new(key)).collect(),
        rows: rows.map(|row| row[skipped..].to_vec()).collect(),
        ..Table::default()
    }
}

fn rows(told: &Told) -> Vec<Vec<Value>> {
    let start = || vec![json!(told.member.group.0), json!(told.member.name)];
    let Some(slots) = &told.slots else {
        let rest = COLUMNS.len() - 3;
        let empty = std::iter::repeat_n(Value::Null, rest);
        return vec![start().into_iter().chain([json!(NOT_KNOWN)]).chain(empty).collect()];
    };
    slots.iter().map(|slot| start().into_iter().chain(cells(slot)).collect()).collect()
}

fn cells(slot: &SlotReport) -> [Value; 11] {
    [
        json!(slot.name),
        json!(slot.kind),
        json!(slot.holder),
        json!(slot.active),
        json!(slot.distance_bytes),
        json!(slot.wal_status),
        json!(slot.safe_bytes),
        json!(slot.xmin.as_ref().or(slot.catalog_xmin.as_ref())),
        json!(slot.database),
        json!(slot.plugin),
        json!(slot.ready),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use topology::{Group, MemberRecord};

    fn told(group: Group, name: &str, slots: Option<Value>) -> Told {
        let (name, record) = (name.into(), MemberRecord::default());
        let slots = slots.map(|slots| read(&json!({ "slots": slots })).expect("slots"));
        Told { member: Chosen { group, name, record }, slots }
    }

    fn slots() -> Value {
        let of = |name: &str| {
            json!({"name": name, "kind": "physical", "active": true, "holder": "n2",
                "distance_bytes": 4096, "wal_status": "reserved", "safe_bytes": null,
                "database": null, "plugin": null, "xmin": null, "catalog_xmin": null, "ready": null})
        };
        let mut orders = of("orders");
        orders["kind"] = "logical".into();
        orders["holder"] = "permanent".into();
        (orders["active"], orders["safe_bytes"]) = (false.into(), 1_000_000.into());
        (orders["database"], orders["plugin"]) = ("shop".into(), "pgoutput".into());
        (orders["catalog_xmin"], orders["ready"]) = ("733".into(), "ready".into());
        json!([of("n2"), orders])
    }

    #[test]
    fn slots_are_shown_with_their_holders_and_what_they_keep() {
        let told = [told(Group::PLAIN, "n1", Some(slots())), told(Group::PLAIN, "n2", None)];
        let text = render(&table(&told), Format::Pretty);
        let expected = "\
+--------+---------+----------+-----------+--------+----------+----------+---------+------+----------+----------+-------+
| Member | Slot    | Type     | Holder    | Active | Distance | Status   |    Safe | Xmin | Database | Plugin   | Ready |
+--------+---------+----------+-----------+--------+----------+----------+---------+------+----------+----------+-------+
| n1     | n2      | physical | n2        | true   |     4096 | reserved |         |      |          |          |       |
| n1     | orders  | logical  | permanent | false  |     4096 | reserved | 1000000 | 733  | shop     | pgoutput | ready |
| n2     | unknown |          |           |        |          |          |         |      |          |          |       |
+--------+---------+----------+-----------+--------+----------+----------+---------+------+----------+----------+-------+
";
        assert_eq!(text, expected);
        let lines = render(&table(&told), Format::Json);
        let read: Value = serde_json::from_str(&lines).expect("JSON");
        assert_eq!(read[1]["Slot"], "orders");
    }

    #[test]
    fn of_a_citus_formation_the_group_is_shown() {
        let told = [told(Group(Some(1)), "w1", Some(slots()))];
        let text = render(&table(&told), Format::Tsv);
        assert!(text.starts_with("Group\tMember\tSlot\t"), "{text}");
        assert!(text.contains("\n1\tw1\torders\tlogical\t"), "{text}");
    }

    #[tokio::test]
    async fn a_member_that_does_not_answer_is_no_member_without_slots() {
        let (mut world, screen) = crate::fixture::world("02-three-nodes-default", "");
        crate::fixture::move_apis(&world, "http://127.0.0.1:1/patroni").await;
        let args = Slots { of: Default::default(), format: Format::Tsv, watch: Default::default() };
        run(&mut world, &args).await.unwrap();
        assert_eq!(screen.text().matches("\tunknown\t").count(), 3, "{}", screen.text());
    }
}
