//! One row of a table of settings. A segment such as `{a|b}` stands for each of its words.

use super::kind::Kind;

/// What a row does in this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read and used.
    Full,
    /// Accepted in silence: the thing it tunes does not exist here, or it is
    /// read only from the cluster-wide configuration.
    Idle,
    /// Gone from the field too: accepted with a warning that says what to do.
    Gone,
    /// Of a store that is not supported: understood, and refused as a whole.
    Foreign,
}

#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub path: &'static str,
    pub kind: Kind,
    /// As text; empty when there is none.
    pub default: &'static str,
    pub help: &'static str,
    pub effect: Effect,
    pub required: bool,
    /// Has a variable of its own.
    pub env: bool,
}

pub(crate) const fn row(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { path, kind, default, help, effect: Effect::Full, required: false, env: false }
}

impl Setting {
    pub(crate) const fn env(mut self) -> Setting {
        self.env = true;
        self
    }

    pub(crate) const fn required(mut self) -> Setting {
        self.required = true;
        self
    }

    pub(crate) const fn idle(mut self) -> Setting {
        self.effect = Effect::Idle;
        self
    }

    pub(crate) const fn foreign(mut self) -> Setting {
        self.effect = Effect::Foreign;
        self
    }

    pub(crate) const fn gone(mut self) -> Setting {
        self.effect = Effect::Gone;
        self
    }

    /// Every path this row stands for.
    pub fn paths(&self) -> Vec<String> {
        let mut segments = self.path.split('.');
        let mut paths = segments.next().map(words).unwrap_or_default();
        for segment in segments {
            let ends = words(segment);
            let longer = |path: &String| -> Vec<String> {
                ends.iter().map(|word| format!("{path}.{word}")).collect()
            };
            paths = paths.iter().flat_map(longer).collect();
        }
        paths
    }
}

/// The default of a path among these rows, as text.
pub(crate) fn default_among<'a>(
    mut rows: impl Iterator<Item = &'a Setting>,
    path: &str,
) -> Option<&'static str> {
    let setting = rows.find(|row| row.paths().iter().any(|known| known == path))?;
    Some(setting.default).filter(|default| !default.is_empty())
}

/// `{a|b}_c` stands for `a_c` and `b_c`.
fn words(segment: &'static str) -> Vec<String> {
    let (Some(open), Some(close)) = (segment.find('{'), segment.find('}')) else {
        return vec![segment.to_string()];
    };
    let (before, after) = (&segment[..open], &segment[close + 1..]);
    segment[open + 1..close].split('|').map(|word| format!("{before}{word}{after}")).collect()
}
