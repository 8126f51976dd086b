//! A table and its two texts: bordered for people, tab separated for tools.
//!
//! Both are compared byte for byte by programs in the field, so the widths,
//! the rule lines and the place of the title are part of the interface.
//!
//! Invariant *pure*: a table is a value, a text is made from nothing else.

use crate::yaml;
use serde_json::Value;
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// The name in tsv, json and yaml.
    pub key: Cow<'static, str>,
    /// The heading in the bordered text; `None` when the title says it.
    pub heading: Option<Cow<'static, str>>,
    pub align: Align,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    /// Set into the first border line; its presence hides empty values in json.
    pub title: Option<String>,
    pub columns: Vec<Column>,
    /// One value a column; null is an empty cell.
    pub rows: Vec<Vec<Value>>,
    /// Lines below the bordered text.
    pub footer: Vec<String>,
    /// One line a member: maps are written in one line, no rules between rows.
    pub is_tree: bool,
}

/// Columns that numbers make right aligned.
const RIGHT: [&str; 10] = [
    "Group",
    "TL",
    "LSN",
    "Lag",
    "Receive LSN",
    "Receive Lag",
    "Replay LSN",
    "Replay Lag",
    "Distance",
    "Safe",
];

/// The longest line of a restart reason that is shown whole in a bordered text.
const REASON_CHARS_MAX: usize = 50;

impl Column {
    pub(crate) fn new(key: &'static str) -> Column {
        let align = if RIGHT.contains(&key) { Align::Right } else { Align::Left };
        let heading = if key.ends_with(" Lag") { "Lag" } else { key };
        Column { key: key.into(), heading: Some(heading.into()), align }
    }

    /// A column that a server has named.
    pub(crate) fn named(key: String) -> Column {
        let key: Cow<str> = Cow::Owned(key);
        Column { heading: Some(key.clone()), key, align: Align::Left }
    }

    /// A column that the title stands for in the bordered text.
    pub(crate) fn titled(key: &'static str) -> Column {
        Column { heading: None, ..Column::new(key) }
    }
}

/// The bordered text with its footer, ending in a line break.
pub(crate) fn pretty(table: &Table) -> String {
    let shown: Vec<usize> =
        (0..table.columns.len()).filter(|i| table.columns[*i].heading.is_some()).collect();
    let head: Vec<Vec<String>> = shown.iter().map(|i| heading(&table.columns[*i])).collect();
    let body: Vec<Vec<Vec<String>>> = table.rows.iter().map(|r| cells(table, &shown, r)).collect();
    let widths = widths(&head, &body);
    let aligns: Vec<Align> = shown.iter().map(|i| table.columns[*i].align).collect();
    let rule = rule(&widths);
    let is_ruled = body.iter().flatten().any(|cell| cell.len() > 1);

    let mut lines = vec![titled_rule(&rule, table.title.as_deref())];
    lines.extend(row_lines(&head, &widths, &aligns));
    lines.push(rule.clone());
    for (index, row) in body.iter().enumerate() {
        lines.extend(row_lines(row, &widths, &aligns));
        if is_ruled && index + 1 < body.len() {
            lines.push(rule.clone());
        }
    }
    lines.push(rule);
    lines.extend(table.footer.iter().cloned());
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Tab separated: a header line and one line a row.
pub(crate) fn tsv(table: &Table) -> String {
    let keys: Vec<&str> = table.columns.iter().map(|c| c.key.as_ref()).collect();
    let mut text = keys.join("\t") + "\n";
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(|v| plain(v).replace('\n', ", ")).collect();
        text.push_str(&cells.join("\t"));
        text.push('\n');
    }
    text
}

/// One value in one line; maps in flow style.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(_) | Value::Array(_) => yaml::flow(value),
        other => other.to_string(),
    }
}

fn heading(column: &Column) -> Vec<String> {
    vec![column.heading.as_ref().unwrap_or(&column.key).to_string()]
}

fn cells(table: &Table, shown: &[usize], row: &[Value]) -> Vec<Vec<String>> {
    shown.iter().map(|i| cell(table, &table.columns[*i], &row[*i])).collect()
}

/// The lines of one cell.
fn cell(table: &Table, column: &Column, value: &Value) -> Vec<String> {
    let text = match value {
        Value::Object(_) if !table.is_tree => yaml::block(value),
        other => plain(other),
    };
    let shorten = column.key == "Pending restart reason";
    let lines = text.trim_end_matches('\n').split('\n');
    lines.map(|line| if shorten { shortened(line) } else { line.to_string() }).collect()
}

fn shortened(line: &str) -> String {
    if line.chars().count() <= REASON_CHARS_MAX {
        return line.to_string();
    }
    line.chars().take(REASON_CHARS_MAX - 3).chain("...".chars()).collect()
}

fn widths(head: &[Vec<String>], body: &[Vec<Vec<String>>]) -> Vec<usize> {
    let width = |cell: &Vec<String>| cell.iter().map(|l| l.chars().count()).max().unwrap_or(0);
    (0..head.len())
        .map(|i| body.iter().map(|row| width(&row[i])).chain([width(&head[i])]).max().unwrap_or(0))
        .collect()
}

fn rule(widths: &[usize]) -> String {
    let dashes: Vec<String> = widths.iter().map(|w| "-".repeat(w + 2)).collect();
    format!("+{}+", dashes.join("+"))
}

/// The title covers the rule line from its second character on.
fn titled_rule(rule: &str, title: Option<&str>) -> String {
    let Some(title) = title else {
        return rule.to_string();
    };
    let rest = rule.chars().skip(1 + title.chars().count());
    "+".chars().chain(title.chars()).chain(rest).collect()
}

fn row_lines(row: &[Vec<String>], widths: &[usize], aligns: &[Align]) -> Vec<String> {
    let height = row.iter().map(Vec::len).max().unwrap_or(1);
    let line = |at: usize| {
        let parts = row.iter().zip(widths).zip(aligns).map(|((cell, width), align)| {
            let text = cell.get(at).map_or("", String::as_str);
            match align {
                Align::Left => format!(" {text:<width$} "),
                Align::Right => format!(" {text:>width$} "),
            }
        });
        format!("|{}|", parts.collect::<Vec<_>>().join("|"))
    };
    (0..height).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(rows: Vec<Vec<Value>>) -> Table {
        let columns = vec![Column::titled("Cluster"), Column::new("Member"), Column::new("TL")];
        Table { title: Some(" Cluster: c ".into()), columns, rows, ..Table::default() }
    }

    #[test]
    fn the_title_covers_the_rule_and_may_be_longer_than_it() {
        let short = pretty(&table(vec![vec![json!("c"), json!("a-long-name"), json!(1)]]));
        assert_eq!(short.lines().next(), Some("+ Cluster: c -+----+"));
        assert_eq!(short.lines().nth(3), Some("| a-long-name |  1 |"));
        assert_eq!(titled_rule("+--+", Some(" a longer title ")), "+ a longer title ");
    }

    #[test]
    fn a_cell_of_two_lines_rules_all_rows_apart() {
        let rows = vec![
            vec![json!("c"), json!("a\nb"), Value::Null],
            vec![json!("c"), json!("d"), json!(2)],
        ];
        let text = pretty(&Table { title: None, ..table(rows) });
        let rule = "+--------+----+";
        assert_eq!(text.lines().filter(|l| *l == rule).count(), 4);
        assert!(text.contains("| a      |    |\n| b      |    |\n"));
    }

    #[test]
    fn a_long_reason_is_cut_only_in_the_bordered_text() {
        let columns = vec![Column::new("Pending restart reason")];
        let reason = format!("shared_preload_libraries: {}->b", "a".repeat(60));
        let table = Table { columns, rows: vec![vec![json!(reason)]], ..Table::default() };
        assert!(pretty(&table).contains("aaa... |"));
        assert!(tsv(&table).ends_with("->b\n"));
    }
}
