//! A unified diff of two texts, with three lines of context.
//!
//! Matching blocks are found longest first (then earliest), which is what
//! operators' tools have shown for `edit-config` so far; a shortest edit
//! script would be as right and look different.

const CONTEXT: usize = 3;

/// A block that is equal in both texts, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    is_equal: bool,
    old: (usize, usize),
    new: (usize, usize),
}

/// Lines of the diff; empty when the texts are equal.
pub fn unified(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let hunks = hunks(&spans(&old, &new));
    if hunks.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["--- ".to_string(), "+++ ".to_string()];
    for hunk in hunks {
        lines.extend(hunk_lines(&hunk, &old, &new));
    }
    lines
}

fn hunk_lines(hunk: &[Span], old: &[&str], new: &[&str]) -> Vec<String> {
    let (first, last) = (hunk[0], hunk[hunk.len() - 1]);
    let from = range(first.old.0, last.old.1);
    let to = range(first.new.0, last.new.1);
    let mut lines = vec![format!("@@ -{from} +{to} @@")];
    for span in hunk {
        if span.is_equal {
            lines.extend(old[span.old.0..span.old.1].iter().map(|l| format!(" {l}")));
        } else {
            lines.extend(old[span.old.0..span.old.1].iter().map(|l| format!("-{l}")));
            lines.extend(new[span.new.0..span.new.1].iter().map(|l| format!("+{l}")));
        }
    }
    lines
}

/// Lines are counted from 1; an empty range names the line before it.
fn range(start: usize, end: usize) -> String {
    match end - start {
        1 => format!("{}", start + 1),
        0 => format!("{start},0"),
        count => format!("{},{count}", start + 1),
    }
}

/// Groups of spans whose changes are close to each other.
fn hunks(spans: &[Span]) -> Vec<Vec<Span>> {
    let mut hunks: Vec<Vec<Span>> = vec![Vec::new()];
    for (index, span) in spans.iter().enumerate() {
        let is_last = index + 1 == spans.len();
        let length = span.old.1 - span.old.0;
        let hunk = hunks.last_mut().expect("there is always a hunk");
        if !span.is_equal {
            hunk.push(*span);
        } else if index == 0 {
            hunk.push(tail(*span));
        } else if is_last {
            hunk.push(head(*span));
        } else if length > 2 * CONTEXT {
            hunk.push(head(*span));
            hunks.push(vec![tail(*span)]);
        } else {
            hunk.push(*span);
        }
    }
    hunks.retain(|hunk| hunk.iter().any(|span| !span.is_equal));
    hunks
}

fn head(span: Span) -> Span {
    let keep = CONTEXT.min(span.old.1 - span.old.0);
    Span { old: (span.old.0, span.old.0 + keep), new: (span.new.0, span.new.0 + keep), ..span }
}

fn tail(span: Span) -> Span {
    let keep = CONTEXT.min(span.old.1 - span.old.0);
    Span { old: (span.old.1 - keep, span.old.1), new: (span.new.1 - keep, span.new.1), ..span }
}

/// Both texts cut into equal and changed spans, in order.
fn spans(old: &[&str], new: &[&str]) -> Vec<Span> {
    let mut blocks = Vec::new();
    matching(old, new, (0, old.len()), (0, new.len()), &mut blocks);
    blocks.push((old.len(), new.len(), 0));
    let mut spans: Vec<Span> = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (a, b, size) in blocks {
        if i < a || j < b {
            spans.push(Span { is_equal: false, old: (i, a), new: (j, b) });
        }
        let equal = Span { is_equal: true, old: (a, a + size), new: (b, b + size) };
        match spans.last_mut() {
            Some(last) if size > 0 && last.is_equal => {
                last.old.1 = equal.old.1;
                last.new.1 = equal.new.1;
            }
            _ if size > 0 => spans.push(equal),
            _ => {}
        }
        (i, j) = (a + size, b + size);
    }
    spans
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
                for span in spans(&a, &b) {
                    let kept = span.is_equal.then(|| &a[span.old.0..span.old.1]);
                    rebuilt.extend(kept.unwrap_or(&b[span.new.0..span.new.1]));
                }
                assert_eq!(rebuilt, b);
            }
        }
    }
}
