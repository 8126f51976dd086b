//! Which standbys a server waits for: `synchronous_standby_names` as PostgreSQL reads it.
//!
//! A second, simple implementation: written from PostgreSQL's manual and sharing
//! nothing with the daemon's own code, so that what is misread there shows here.

/// `None`: commits wait for no standby.
pub type Wanted = Option<Names>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Any of them, rather than the first ones.
    pub quorum: bool,
    pub count: usize,
    pub names: Vec<String>,
}

/// A connection that a standby streams over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    pub standby: usize,
    /// Its `application_name`.
    pub name: String,
    /// It has once caught up; until then it does not count.
    pub streaming: bool,
    /// How far the standby says that it has flushed.
    pub flush: u64,
    /// When it was last heard of, on the true clock.
    pub heard: u64,
}

/// `sync_state` of `pg_stat_replication`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    Async,
    Potential,
    Quorum,
    Sync,
}

/// `a`, `a,b`, `N (a,b)`, `FIRST N (a,b)`, `ANY N (a,b)`, `*`, names in quotes.
pub fn parse(text: &str) -> Result<Wanted, String> {
    let mut words = words(text)?;
    if words.is_empty() {
        return Ok(None);
    }
    let keyword = |word: &str, words: &[Word]| {
        matches!(words.first(), Some(Word::Plain(first)) if first.eq_ignore_ascii_case(word))
            && matches!(words.get(1), Some(Word::Plain(number)) if number.parse::<usize>().is_ok())
    };
    let quorum = keyword("any", &words);
    if quorum || keyword("first", &words) {
        words.remove(0);
    }
    let bad = || format!("synchronous_standby_names is not to be read: {text}");
    let count = match (words.first(), words.get(1)) {
        (Some(Word::Plain(number)), Some(Word::Mark('('))) => {
            let count = number.parse().map_err(|_| bad())?;
            if words.pop() != Some(Word::Mark(')')) {
                return Err(bad());
            }
            words.drain(..2);
            count
        }
        _ if quorum => return Err(bad()),
        _ => 1,
    };
    let names = list(&words).filter(|_| count > 0).ok_or_else(bad)?;
    Ok(Some(Names { quorum, count, names }))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Plain(String),
    Quoted(String),
    Mark(char),
}

fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let (name, after) =
                quoted(&rest[1..]).ok_or_else(|| format!("a quote is not closed: {text}"))?;
            out.push(Word::Quoted(name));
            rest = after;
        } else if "(),".contains(first) {
            out.push(Word::Mark(first));
            rest = &rest[1..];
        } else {
            let stops = |c: char| c.is_whitespace() || "(),\"".contains(c);
            let end = rest.find(stops).unwrap_or(rest.len());
            out.push(Word::Plain(rest[..end].to_string()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(out)
}

/// Up to the closing quote; two in a row are one.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let at = rest.find('"')?;
        name.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(after) = rest.strip_prefix('"') else {
            return Some((name, rest));
        };
        name.push('"');
        rest = after;
    }
}

fn list(words: &[Word]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for item in words.split(|word| *word == Word::Mark(',')) {
        match item {
            [Word::Quoted(name)] => names.push(name.clone()),
            [Word::Plain(name)] if is_name(name) => names.push(name.clone()),
            _ => return None,
        }
    }
    Some(names)
}

/// What needs no quotes.
fn is_name(word: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let more = |c: char| first(c) || c.is_ascii_digit() || c == '$';
    let keyword = ["any", "first"].iter().any(|k| word.eq_ignore_ascii_case(k));
    let number = word.chars().all(|c| c.is_ascii_digit());
    let name = word.starts_with(first) && word.chars().all(more) && !keyword;
    word == "*" || number || name
}

impl Names {
    /// Its place in the list, from 1; `None`: it is not in it.
    fn priority(&self, name: &str) -> Option<usize> {
        let is = |listed: &String| listed == "*" || listed.eq_ignore_ascii_case(name);
        self.names.iter().position(is).map(|at| at + 1)
    }

    /// Those whose answers count now, as indexes of `senders`.
    fn counting(&self, senders: &[Sender]) -> Vec<usize> {
        let rank = |at: usize| self.priority(&senders[at].name);
        let mut counting: Vec<usize> =
            (0..senders.len()).filter(|at| senders[*at].streaming && rank(*at).is_some()).collect();
        if !self.quorum {
            counting.sort_by_key(|at| rank(*at));
            counting.truncate(self.count);
        }
        counting
    }
}

/// `sync_state` of each sender: by the setting of the session that asks, among the
/// senders that the setting in action lists.
pub fn ranks(asked: &Wanted, acting: &Wanted, senders: &[Sender]) -> Vec<Rank> {
    let (Some(names), Some(acting)) = (asked, acting) else {
        return vec![Rank::Async; senders.len()];
    };
    let counting = names.counting(senders);
    let is_placed = |sender: &Sender| acting.priority(&sender.name).is_some();
    let rank = |(at, sender): (usize, &Sender)| match names.priority(&sender.name) {
        Some(_) if !is_placed(sender) => Rank::Async,
        None => Rank::Async,
        Some(_) if !counting.contains(&at) => Rank::Potential,
        Some(_) if names.quorum => Rank::Quorum,
        Some(_) => Rank::Sync,
    };
    senders.iter().enumerate().map(rank).collect()
}

/// Up to where commits are acknowledged.
pub fn released(wanted: &Wanted, senders: &[Sender]) -> u64 {
    let Some(names) = wanted else { return u64::MAX };
    let mut flushed: Vec<u64> =
        names.counting(senders).into_iter().map(|at| senders[at].flush).collect();
    flushed.sort_unstable_by(|a, b| b.cmp(a));
    flushed.get(names.count - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(name: &str, flush: u64) -> Sender {
        Sender { standby: 0, name: name.into(), streaming: true, flush, heard: 0 }
    }

    fn three() -> Vec<Sender> {
        vec![sender("c", 300), sender("a", 100), sender("b", 200)]
    }

    #[test]
    fn all_forms_are_read() {
        let names = |quorum, count, names: &[&str]| {
            let names = names.iter().map(|n| n.to_string()).collect();
            Ok(Some(Names { quorum, count, names }))
        };
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("a"), names(false, 1, &["a"]));
        assert_eq!(parse("a, b"), names(false, 1, &["a", "b"]));
        assert_eq!(parse("2 (a,b)"), names(false, 2, &["a", "b"]));
        assert_eq!(parse("first 2 (b , a)"), names(false, 2, &["b", "a"]));
        assert_eq!(parse("ANY 1 (a,\"n-1\")"), names(true, 1, &["a", "n-1"]));
        assert_eq!(parse("\"a\"\"b\""), names(false, 1, &["a\"b"]));
        assert_eq!(parse("*"), names(false, 1, &["*"]));
        assert_eq!(parse("ANY 1 (*)"), names(true, 1, &["*"]));
        assert_eq!(parse("\"any\""), names(false, 1, &["any"]));
    }

    #[test]
    fn what_postgresql_refuses_is_refused() {
        for text in ["a b", "2 (a", "ANY (a)", "n-1", "\"a", "a,,b", "0 (a)", "2 ()", "any", ")"] {
            assert!(parse(text).is_err(), "{text} was read as {:?}", parse(text));
        }
    }

    #[test]
    fn the_first_in_the_list_are_sync_whatever_they_have() {
        let wanted = parse("2 (a,b,c)").expect("a list");
        assert_eq!(ranks(&wanted, &wanted, &three()), [Rank::Potential, Rank::Sync, Rank::Sync]);
        assert_eq!(released(&wanted, &three()), 100);
        let wanted = parse("c").expect("a name");
        assert_eq!(ranks(&wanted, &wanted, &three()), [Rank::Sync, Rank::Async, Rank::Async]);
        assert_eq!(released(&wanted, &three()), 300);
    }

    #[test]
    fn a_quorum_counts_the_fastest() {
        let wanted = parse("ANY 2 (A,B,C)").expect("a list");
        assert_eq!(ranks(&wanted, &wanted, &three()), [Rank::Quorum; 3]);
        assert_eq!(released(&wanted, &three()), 200);
        let wanted = parse("ANY 1 (a,b)").expect("a list");
        assert_eq!(ranks(&wanted, &wanted, &three()), [Rank::Async, Rank::Quorum, Rank::Quorum]);
        assert_eq!(released(&wanted, &three()), 200);
    }

    #[test]
    fn too_few_release_nothing_and_no_wanted_standby_releases_all() {
        for text in ["nobody", "4 (a,b,c,d)", "ANY 4 (a,b,c,d)"] {
            assert_eq!(released(&parse(text).expect("a list"), &three()), 0, "{text}");
        }
        assert_eq!(released(&None, &[]), u64::MAX);
        assert_eq!(ranks(&None, &None, &three()), [Rank::Async; 3]);
    }

    #[test]
    fn who_has_not_caught_up_does_not_count() {
        let mut senders = three();
        senders[1].streaming = false;
        let wanted = parse("2 (a,b,c)").expect("a list");
        assert_eq!(ranks(&wanted, &wanted, &senders), [Rank::Sync, Rank::Potential, Rank::Sync]);
        assert_eq!(released(&wanted, &senders), 200);
        let wanted = parse("ANY 1 (a)").expect("a list");
        assert_eq!(ranks(&wanted, &wanted, &senders)[1], Rank::Potential);
        assert_eq!(released(&wanted, &senders), 0);
    }
}
