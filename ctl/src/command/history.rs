//! `history`: who led since when, by timeline.

use crate::args::History;
use crate::output::render;
use crate::table::{Column, Table};
use crate::world::World;
use anyhow::Result;
use serde_json::{Value, json};
use topology::{GroupView, HistoryEntry};

pub(crate) async fn run(world: &mut World, args: &History) -> Result<()> {
    let scope = world.scope(args.of.cluster.as_deref())?;
    let cluster = world.read(&scope, world.own_group(args.of.group)).await?;
    let table = table(cluster.one()?.view);
    world.terminal.print(&render(&table, args.format))
}

fn table(view: &GroupView) -> Table {
    let entries = view.history.iter().flat_map(|h| &h.value);
    Table {
        columns: ["TL", "LSN", "Reason", "Timestamp", "New Leader"].map(Column::new).to_vec(),
        rows: entries.map(row).collect(),
        ..Table::default()
    }
}

fn row(entry: &HistoryEntry) -> Vec<Value> {
    let HistoryEntry { timeline, switch, reason, at, new_leader } = entry;
    vec![json!(timeline.0), json!(switch.0), json!(reason), json!(at), json!(new_leader)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{golden, transcript};
    use crate::output::Format;

    #[test]
    fn the_recorded_history_is_shown_byte_for_byte() {
        let groups = golden("16-after-switchover", "golden");
        let table = table(groups.values().next().unwrap());
        let mut compared = 0;
        for (command, expected) in transcript("16-after-switchover") {
            let format = match command.as_str() {
                "history" => Format::Pretty,
                "history -f json" => Format::Json,
                "history -f yaml" => Format::Yaml,
                _ => continue,
            };
            assert_eq!(render(&table, format), expected, "{command}");
            compared += 1;
        }
        assert_eq!(compared, 3);
    }

    #[test]
    fn no_history_is_an_empty_table_and_an_empty_list() {
        let table = table(&GroupView::default());
        let rule = "+----+-----+--------+-----------+------------+\n";
        let head = "| TL | LSN | Reason | Timestamp | New Leader |\n";
        assert_eq!(render(&table, Format::Pretty), format!("{rule}{head}{rule}{rule}"));
        assert_eq!(render(&table, Format::Json), "[]\n");
    }
}
