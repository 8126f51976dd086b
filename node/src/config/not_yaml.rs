//! Why a text is no YAML: where, what is wrong, and what to write instead.
//!
//! Invariant *no secrets*: no message repeats a value. A tag is named, for most
//! unknown ones are commands of other programs (`!vault`, `!secret`), but not
//! below a key that holds a secret: a password may begin with `!`.

use std::fmt;

/// No configuration nests deeper.
pub(super) const DEPTH_MAX: usize = 64;
/// Values of one text, aliases unfolded.
pub(super) const VALUES_MAX: usize = 100_000;

/// A place in the text; both count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotYaml {
    pub place: Place,
    pub(super) fault: Fault,
    /// Its line looks like a template that was not filled in.
    pub(super) is_template: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Syntax(String),
    /// `None`: it stands below a secret's key and is not repeated.
    Tag(Option<String>),
    Key,
    Merge,
    Documents,
    Alias,
    TooLarge,
}

impl std::error::Error for NotYaml {}

impl fmt::Display for NotYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.wrong(), self.remedy())
    }
}

impl NotYaml {
    /// What is wrong, and where.
    pub fn wrong(&self) -> String {
        let Place { line, column } = self.place;
        format!("{} in line {line}, column {column}", self.what())
    }

    fn what(&self) -> String {
        match &self.fault {
            Fault::Syntax(info) => info.clone(),
            Fault::Tag(Some(tag)) => format!("the tag `{tag}` is not known"),
            Fault::Tag(None) => "a tag that is not known (a value that begins with `!`)".into(),
            Fault::Key => "a map or a list stands where a key belongs".into(),
            Fault::Merge => "`<<` wants a map or a list of maps".into(),
            Fault::Documents => "a second document begins".into(),
            Fault::Alias => {
                "an alias (a value that begins with `*`) names nothing that stands before it".into()
            }
            Fault::TooLarge => {
                format!("it nests deeper than {DEPTH_MAX} levels, or has over {VALUES_MAX} values")
            }
        }
    }

    pub fn remedy(&self) -> &'static str {
        match &self.fault {
            _ if self.is_template => {
                "fill the template in (`{{ }}` and `{% %}` are none of YAML), or quote the value"
            }
            Fault::Syntax(_) => {
                "correct it; quote a text that holds `: ` or ` #`, or begins with one of \
                 `{[*&!|>%@` or a backtick"
            }
            Fault::Tag(_) => "write the value itself, and quote it if it begins with `!`",
            Fault::Key => "quote a text that begins with `{` or `[`",
            Fault::Merge => "write `<<: *NAME` of a map, or quote the key",
            Fault::Documents => {
                "keep one document: remove the line `---`, or name a directory with a file for each"
            }
            Fault::Alias => "write the anchor `&NAME` before it, or quote the value",
            Fault::TooLarge => "write a smaller configuration",
        }
    }
}

/// Says whether a key holds what must not appear in a log.
pub(super) fn is_secret(key: &str) -> bool {
    const PARTS: [&str; 5] = ["password", "passwd", "secret", "token", "pwd"];
    let key = key.to_lowercase();
    PARTS.iter().any(|part| key.contains(part))
}
