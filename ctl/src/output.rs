//! The five forms of `--format`.
//!
//! A table with a title describes members: empty values are left out of json
//! and yaml, as readers of these expect. Without a title every key is there.

use crate::{table, table::Table, yaml};
use clap::ValueEnum;
use serde_json::{Map, Value};
use topology::document;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Pretty,
    Tsv,
    Json,
    Yaml,
    Yml,
}

/// The text of a table, ending in a line break.
pub(crate) fn render(table: &Table, format: Format) -> String {
    match format {
        Format::Pretty => table::pretty(table),
        Format::Tsv => table::tsv(table),
        Format::Json => document::spaced(&objects(table)) + "\n",
        Format::Yaml | Format::Yml => yaml::block(&objects(table)),
    }
}

fn objects(table: &Table) -> Value {
    let object = |row: &Vec<Value>| {
        let pairs = table.columns.iter().zip(row);
        let kept = pairs.filter(|(_, value)| table.title.is_none() || !is_empty(value));
        let map: Map<_, _> = kept.map(|(c, value)| (c.key.to_string(), value.clone())).collect();
        Value::Object(map)
    };
    Value::Array(table.rows.iter().map(object).collect())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Column;
    use serde_json::json;

    #[test]
    fn empty_values_are_hidden_only_below_a_title() {
        let columns = vec![Column::new("Member"), Column::new("TL")];
        let rows = vec![vec![json!("a"), Value::Null], vec![json!("b"), json!(0)]];
        let mut table = Table { columns, rows, ..Table::default() };
        let text = "[{\"Member\": \"a\", \"TL\": null}, {\"Member\": \"b\", \"TL\": 0}]\n";
        assert_eq!(render(&table, Format::Json), text);
        table.title = Some(" x ".into());
        assert_eq!(render(&table, Format::Yml), "- Member: a\n- Member: b\n  TL: 0\n");
    }
}
