//! `GET /decisions`, for operators and for all other callers. Pure.
//!
//! What a program of PostgreSQL said when it failed may name paths, hosts and users.
//! Callers that may not change anything get the time, the rule with its sentence, and
//! the outcome in one word; detail and step are left out.

use member::ha::table::{Rests, Wait};
use member::ha::{Decision, Outcome, TABLES};
use serde_json::{Value, json};

/// What a rule waits for, and what happens otherwise; `None`: it acts, or waits for nothing.
pub fn waits(rule: u16) -> Option<Wait> {
    let mut rules = TABLES.iter().flat_map(|(_, table)| table.iter());
    match rules.find(|row| row.id == rule)?.rests {
        Rests::Until(wait) => Some(wait),
        Rests::InOrder | Rests::Never => None,
    }
}

/// A decision as the daemon keeps it.
pub(crate) fn entry(at_ms: u64, decision: &Decision, outcome: Option<&Outcome>) -> Value {
    json!({
        "at": at_ms,
        "rule": decision.rule,
        "why": decision.why,
        "detail": decision.detail,
        "step": format!("{:?}", decision.step),
        "outcome": outcome.map(|outcome| format!("{outcome:?}")),
    })
}

/// `all`: as the daemon keeps them.
pub(crate) fn shown(all: Value, may_change_something: bool) -> Value {
    match all {
        Value::Array(entries) if !may_change_something => {
            entries.iter().map(without_detail).collect()
        }
        all => all,
    }
}

fn without_detail(entry: &Value) -> Value {
    let outcome = entry.get("outcome").and_then(Value::as_str);
    json!({
        "at": entry.get("at"),
        "rule": entry.get("rule"),
        "why": entry.get("why"),
        "outcome": outcome.map(|outcome| outcome.split('(').next()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use member::ha::Step;

    #[test]
    fn s7_what_tools_said_is_for_operators() {
        let decision = Decision {
            rule: 660,
            step: Step::Rest { at_most_ms: None },
            why: "the data are damaged: nothing is touched",
            detail: Some("pg_controldata: x".into()),
        };
        let outcome = Outcome::Failed("FATAL: user boss".into());
        let all = json!([entry(7, &decision, Some(&outcome))]);
        assert_eq!(all[0]["detail"], "pg_controldata: x");
        assert_eq!(all[0]["outcome"], "Failed(\"FATAL: user boss\")");
        assert_eq!(shown(all.clone(), true), all);
        let general = json!([{"at": 7, "rule": 660,
            "why": "the data are damaged: nothing is touched", "outcome": "Failed"}]);
        assert_eq!(shown(all, false), general);
    }

    #[test]
    fn s7_the_sentence_of_every_rule_is_shown_whole() {
        for rule in TABLES.iter().flat_map(|(_, table)| table.iter()) {
            let step = Step::Rest { at_most_ms: None };
            let detail = Some("FATAL: user boss".to_string());
            let decision = Decision { rule: rule.id, step, why: rule.why, detail };
            let shown = shown(json!([entry(7, &decision, None)]), false);
            let general = json!([{"at": 7, "rule": rule.id, "why": rule.why, "outcome": null}]);
            assert_eq!(shown, general);
        }
    }
}
