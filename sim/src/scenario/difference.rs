//! What differs between two texts, line by line, for a person to read.

use std::fmt::Write;

/// Unchanged lines that are shown around a change.
const AROUND: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// `-` marks a line of `before`, `+` one of `after`.
pub fn difference(before: &str, after: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) =
        (before.lines().collect(), after.lines().collect());
    let lines = aligned(&before, &after);
    let near = |at: usize| {
        let (from, to) = (at.saturating_sub(AROUND), (at + AROUND + 1).min(lines.len()));
        lines[from..to].iter().any(|line| !matches!(line, Line::Same(_)))
    };
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate().filter(|(at, _)| near(*at)) {
        if at > 0 && !near(at - 1) {
            text.push_str("  ...\n");
        }
        let (mark, line) = match line {
            Line::Same(line) => (' ', line),
            Line::Gone(line) => ('-', line),
            Line::New(line) => ('+', line),
        };
        writeln!(text, "{mark} {line}").expect("a string takes all");
    }
    text
}

/// Along a longest common subsequence.
fn aligned<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<Line<'a>> {
    let common = common(before, after);
    let (mut b, mut a, mut lines) = (0, 0, Vec::new());
    while b < before.len() || a < after.len() {
        let same = b < before.len() && a < after.len() && before[b] == after[a];
        if same {
            lines.push(Line::Same(before[b]));
            (b, a) = (b + 1, a + 1);
        } else if a == after.len() || b < before.len() && common[b + 1][a] >= common[b][a + 1] {
            lines.push(Line::Gone(before[b]));
            b += 1;
        } else {
            lines.push(Line::New(after[a]));
            a += 1;
        }
    }
    lines
}

/// How many lines the rests of both texts have in common, from each place on.
fn common(before: &[&str], after: &[&str]) -> Vec<Vec<usize>> {
    let mut common = vec![vec![0; after.len() + 1]; before.len() + 1];
    for b in (0..before.len()).rev() {
        for a in (0..after.len()).rev() {
            common[b][a] = match before[b] == after[a] {
                true => common[b + 1][a + 1] + 1,
                false => common[b + 1][a].max(common[b][a + 1]),
            };
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_is_shown_with_its_neighbours() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9";
        let text = difference(before, &before.replace('5', "five"));
        assert_eq!(text, "  ...\n  2\n  3\n  4\n- 5\n+ five\n  6\n  7\n  8\n");
    }

    #[test]
    fn equal_texts_do_not_differ() {
        assert_eq!(difference("a\nb", "a\nb"), "");
    }
}
