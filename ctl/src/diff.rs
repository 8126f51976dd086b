//! A unified diff of two texts, with three lines of context.
//!
//! Matching blocks are found longest first (then earliest), which is what
//! operators' tools have shown for `edit-config` so far; a shortest edit
//! script, which `similar` finds, is as short but differs from that output. Hunks
//! and their headers are `similar`'s.

use similar::udiff::UnifiedHunkHeader;
use similar::{DiffOp, group_diff_ops};

const CONTEXT: usize = 3;

/// Lines of the diff; empty when the texts are equal.
pub(crate) fn unified(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let hunks = group_diff_ops(steps(&old, &new), CONTEXT);
    if hunks.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["--- ".to_string(), "+++ ".to_string()];
    for hunk in hunks {
        lines.push(UnifiedHunkHeader::new(&hunk).to_string());
        for step in hunk {
            add_lines(&step, &old, &new, &mut lines);
        }
    }
    lines
}

fn add_lines(step: &DiffOp, old: &[&str], new: &[&str], lines: &mut Vec<String>) {
    let (gone, come) = (&old[step.old_range()], &new[step.new_range()]);
    if matches!(step, DiffOp::Equal { .. }) {
        lines.extend(gone.iter().map(|line| format!(" {line}")));
        return;
    }
    lines.extend(gone.iter().map(|line| format!("-{line}")));
    lines.extend(come.iter().map(|line| format!("+{line}")));
}

/// What stays and what is replaced, in order.
fn steps(old: &[&str], new: &[&str]) -> Vec<DiffOp> {
    let mut blocks = Vec::new();
    matching(old, new, (0, old.len()), (0, new.len()), &mut blocks);
    blocks.push((old.len(), new.len(), 0));
    let mut steps: Vec<DiffOp> = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (a, b, size) in blocks {
        if i < a || j < b {
            let (old_len, new_len) = (a - i, b - j);
            steps.push(DiffOp::Replace { old_index: i, old_len, new_index: j, new_len });
        }
        match steps.last_mut() {
            Some(DiffOp::Equal { len, .. }) => *len += size,
            _ if size > 0 => steps.push(DiffOp::Equal { old_index: a, new_index: b, len: size }),
            _ => {}
        }
        (i, j) = (a + size, b + size);
    }
    steps
}

/// Appends the matching blocks of two ranges as (old, new, size), in order.
fn matching(
    old: &[&str],
    new: &[&str],
    in_old: (usize, usize),
    in_new: (usize, usize),
    blocks: &mut Vec<(usize, usize, usize)>,
) {
    let (a, b, size) = longest(old, new, in_old, in_new);
    if size == 0 {
        return;
    }
    matching(old, new, (in_old.0, a), (in_new.0, b), blocks);
    blocks.push((a, b, size));
    matching(old, new, (a + size, in_old.1), (b + size, in_new.1), blocks);
}

/// The longest block that is in both ranges, the earliest of equals.
fn longest(
    old: &[&str],
    new: &[&str],
    in_old: (usize, usize),
    in_new: (usize, usize),
) -> (usize, usize, usize) {
    let mut best = (in_old.0, in_new.0, 0);
    // Lengths of the common ends that finish at the line before this one.
    let mut ends = vec![0; new.len() + 1];
    for (i, line) in old.iter().enumerate().take(in_old.1).skip(in_old.0) {
        let mut here = vec![0; new.len() + 1];
        for j in in_new.0..in_new.1 {
            if *line == new[j] {
                here[j + 1] = if j > in_new.0 { ends[j] + 1 } else { 1 };
                if here[j + 1] > best.2 {
                    let size = here[j + 1];
                    best = (i + 1 - size, j + 1 - size, size);
                }
            }
        }
        ends = here;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_edit_looks_as_it_did() {
        let old = "loop_wait: 2\nmaximum_lag_on_failover: 1048576\npostgresql:\n  parameters:\n    \
                   max_connections: 110\n    work_mem: 5MB\n  use_pg_rewind: true\n\
                   retry_timeout: 5\nttl: 20\n";
        let new = old.replace("5MB", "6MB").replace("ttl", "synchronous_mode: false\nttl");
        let expected = "--- \n+++ \n@@ -3,7 +3,8 @@\n postgresql:\n   parameters:\n     \
                        max_connections: 110\n-    work_mem: 5MB\n+    work_mem: 6MB\n   \
                        use_pg_rewind: true\n retry_timeout: 5\n+synchronous_mode: false\n ttl: 20";
        assert_eq!(unified(old, &new).join("\n"), expected);
        assert!(unified(old, old).is_empty());
    }

    #[test]
    fn distant_changes_are_two_hunks_and_ends_are_counted_right() {
        let old: Vec<String> = (1..=20).map(|n| n.to_string()).collect();
        let mut new = old.clone();
        new[0] = "x".into();
        new.remove(19);
        let lines = unified(&old.join("\n"), &new.join("\n"));
        let heads: Vec<_> = lines.iter().filter(|l| l.starts_with("@@")).collect();
        assert_eq!(heads, ["@@ -1,4 +1,4 @@", "@@ -17,4 +17,3 @@"]);
        assert_eq!(unified("", "a\n")[2..], ["@@ -0,0 +1 @@", "+a"]);
    }

    #[test]
    fn every_diff_rebuilds_the_new_text() {
        let texts = ["a\nb\nc\nd", "b\nc\nx\nd\na", "", "d\nc\nb\na", "a\nb\nc\nd\ne\nf\ng\nh"];
        for old in texts {
            for new in texts {
                let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
                let mut rebuilt: Vec<&str> = Vec::new();
                for step in steps(&a, &b) {
                    let is_kept = matches!(step, DiffOp::Equal { .. });
                    let kept = is_kept.then(|| &a[step.old_range()]);
                    rebuilt.extend(kept.unwrap_or(&b[step.new_range()]));
                }
                assert_eq!(rebuilt, b);
            }
        }
    }
}
