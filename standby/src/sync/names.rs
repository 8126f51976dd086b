//! `synchronous_standby_names`: the setting of PostgreSQL, read and written.
//!
//! Invariant: what is written is read back as the same, and no text makes the
//! reader fail; what PostgreSQL would refuse is read as "no standby".
//!
//! Two values name no standby and yet let every commit wait: the placeholder of
//! strict mode and `*`. Both are a count without names: they guarantee no commit
//! to any member of `/sync`.

use super::set::NameSet;
use topology::id::NAME_BYTES_MAX;
use topology::{MemberName, SyncMode, quote};

/// A name that no member may have: with it in force no commit is acknowledged.
pub const PLACEHOLDER: &str = "__patroni_strict_sync_replica_placeholder__";

const ANY_STANDBY: &str = "*";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    #[default]
    Off,
    /// The first `count` of the names that stream.
    Priority,
    /// Any `count` of the names.
    Quorum,
}

/// Who has to have a commit before it is acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Names {
    pub method: Method,
    /// How many of the names must have a commit.
    pub count: u64,
    /// Sorted, each once without regard to case.
    pub names: Vec<MemberName>,
}

impl Names {
    /// Commits wait for no standby.
    pub fn none() -> Names {
        Names::default()
    }

    /// Strict mode without a standby: every commit waits, and none is acknowledged.
    /// Each mode writes this in its own form, as it does every other value.
    pub fn placeholder(mode: SyncMode) -> Names {
        let is_quorum = mode == SyncMode::Quorum;
        let method = if is_quorum { Method::Quorum } else { Method::Priority };
        Names { method, count: 1, names: Vec::new() }
    }

    /// All of `names`, or no standby; the count is at least `least`, even without names.
    pub fn all(names: &NameSet, least: u64) -> Names {
        Names::of(Method::Priority, (names.len() as u64).max(least), names)
    }

    /// Any `count` of `names`.
    pub fn any(count: u64, names: &NameSet) -> Names {
        Names::of(Method::Quorum, count, names)
    }

    fn of(method: Method, count: u64, names: &NameSet) -> Names {
        match (count, names.is_empty()) {
            (0, _) => Names::none(),
            (_, true) => Names { method, count: 1, names: Vec::new() },
            _ => Names { method, count, names: names.sorted() },
        }
    }

    /// A text that is no such list means that commits wait for no standby.
    pub fn parse(text: &str) -> Names {
        tokens(text).and_then(|tokens| read(&tokens)).unwrap_or_default()
    }

    pub fn write(&self) -> String {
        let mut list: Vec<String> = self.names.iter().map(quoted).collect();
        list.sort_unstable();
        match (self.method, list.as_slice()) {
            (Method::Off, _) => String::new(),
            (_, []) if self.count == 0 => String::new(),
            (method, []) => written(method, self.count, &[PLACEHOLDER.to_string()]),
            (method, list) => written(method, self.count, list),
        }
    }

    pub fn set(&self) -> NameSet {
        self.names.iter().cloned().collect()
    }

    /// The standbys without which nothing is acknowledged.
    pub fn required(&self) -> NameSet {
        if self.count >= self.names.len() as u64 { self.set() } else { NameSet::default() }
    }

    /// Each acknowledged commit is on at least this number of the names.
    pub fn promised(&self) -> u64 {
        self.count.min(self.names.len() as u64)
    }

    /// The same for PostgreSQL, however it is spelled.
    pub fn is_same(&self, other: &Names) -> bool {
        (self.method, self.count) == (other.method, other.count) && self.set() == other.set()
    }
}

fn written(method: Method, count: u64, list: &[String]) -> String {
    match (method, list) {
        (Method::Priority, [one]) if count == 1 => one.clone(),
        (Method::Quorum, _) => format!("ANY {count} ({})", list.join(",")),
        _ => format!("{count} ({})", list.join(",")),
    }
}

/// Whether this can be the name of one standby: not of all standbys, nor of none.
pub(super) fn can_be_named(name: &MemberName) -> bool {
    never_synchronous(name).is_none()
}

/// Why a member with this name cannot be a synchronous standby, however it is set.
pub fn never_synchronous(name: &MemberName) -> Option<&'static str> {
    let text = name.as_str();
    let is_printable = |byte: u8| (b' '..=b'~').contains(&byte);
    Some(match text {
        "" => "a name is needed to wait for it",
        ANY_STANDBY => "`*` means every standby",
        _ if same(text, PLACEHOLDER) => "its name is a reserved word",
        _ if text.contains(',') => "`/sync` separates names by commas",
        _ if text.trim() != text => "blanks around a name do not count in `/sync`",
        _ if text.len() > NAME_BYTES_MAX => {
            "its name is longer than 63 bytes, and PostgreSQL cuts off what a standby says of itself"
        }
        _ if !text.bytes().all(is_printable) => {
            "its name has letters beyond ASCII, which PostgreSQL replaces in what a standby says of itself"
        }
        _ => return None,
    })
}

/// The same without marks: letters, digits, `_` and `$`, and no word of the list's.
fn quoted(name: &MemberName) -> String {
    let text = name.as_str();
    let is_word = ["first", "any"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if starts && goes_on && !is_word {
        return text.to_string();
    }
    quote::identifier(text)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A name, and whether it stood in quotes.
    Name(String, bool),
    Number(String),
    AnyStandby,
    Mark(char),
}

/// PostgreSQL's own division into words; `None` where it would refuse.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut rest = text.chars().peekable();
    let mut found = Vec::new();
    while let Some(c) = rest.next() {
        let token = match c {
            c if c.is_ascii_whitespace() || c == '\u{b}' => continue,
            '*' => Token::AnyStandby,
            '(' | ')' | ',' => Token::Mark(c),
            '"' => Token::Name(until_quote(&mut rest)?, true),
            c if c.is_ascii_digit() => Token::Number(run(c, &mut rest, |c| c.is_ascii_digit())),
            c if starts_name(c) => {
                let goes_on = |c: char| starts_name(c) || c.is_ascii_digit() || c == '$';
                Token::Name(run(c, &mut rest, goes_on), false)
            }
            _ => return None,
        };
        found.push(token);
    }
    Some(found)
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn run(first: char, rest: &mut Rest, goes_on: impl Fn(char) -> bool) -> String {
    let mut text = String::from(first);
    while let Some(c) = rest.next_if(|c| goes_on(*c)) {
        text.push(c);
    }
    text
}

/// Two quotes are one; `None` without the closing one.
fn until_quote(rest: &mut Rest) -> Option<String> {
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' if rest.next_if_eq(&'"').is_none() => return Some(text),
            c => text.push(c),
        }
    }
}

/// `a,b`, `N (a,b)`, `FIRST N (a,b)` and `ANY N (a,b)`.
fn read(tokens: &[Token]) -> Option<Names> {
    let word = |text: &str| match tokens.first() {
        Some(Token::Name(name, false)) => name.eq_ignore_ascii_case(text),
        _ => false,
    };
    let (method, tail) = match (word("any"), word("first")) {
        (true, _) => (Method::Quorum, &tokens[1..]),
        (_, true) => (Method::Priority, &tokens[1..]),
        _ => (Method::Priority, tokens),
    };
    let is_named = tail.len() < tokens.len();
    match tail {
        [Token::Number(count), Token::Mark('('), list @ .., Token::Mark(')')] => {
            let count = count.parse::<u32>().ok().filter(|n| (1..=COUNT_MAX).contains(n))?;
            members(method, count.into(), list)
        }
        list if !is_named => members(method, 1, list),
        _ => None,
    }
}

/// PostgreSQL counts in a signed integer.
const COUNT_MAX: u32 = i32::MAX as u32;

fn members(method: Method, count: u64, list: &[Token]) -> Option<Names> {
    let mut names = Vec::new();
    let mut is_any_standby = false;
    for item in list.split(|token| *token == Token::Mark(',')) {
        match item {
            [Token::AnyStandby] => is_any_standby = true,
            // In quotes, `*` means every standby as well.
            [Token::Name(name, true)] if name == ANY_STANDBY => is_any_standby = true,
            // Only in quotes are these words names.
            [Token::Name(name, false)] if ["any", "first"].iter().any(|w| same(w, name)) => {
                return None;
            }
            [Token::Name(name, _) | Token::Number(name)] => names.push(name.as_str()),
            _ => return None,
        }
    }
    names.retain(|name| !is_any_standby && !same(name, PLACEHOLDER));
    let names: NameSet = names.into_iter().map(MemberName::from).collect();
    Some(Names { method, count, names: names.sorted() })
}

fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
