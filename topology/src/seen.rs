//! What is known about one thing, this beat.
//!
//! Invariant *unknown is not absent*: a rule that adds write ability needs
//! `Known`; `Unknown` may only take ability away.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    Known(T),
    /// The source was asked and gave no answer. Never read this as "absent".
    Unknown,
}

impl<T> Seen<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Seen::Known(value) => Some(value),
            Seen::Unknown => None,
        }
    }

    pub fn is_known_and(&self, test: impl FnOnce(&T) -> bool) -> bool {
        self.known().is_some_and(test)
    }

    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Seen::Known(value) => Seen::Known(change(value)),
            Seen::Unknown => Seen::Unknown,
        }
    }
}

impl<T, E> From<Result<T, E>> for Seen<T> {
    fn from(result: Result<T, E>) -> Seen<T> {
        match result {
            Ok(value) => Seen::Known(value),
            Err(_) => Seen::Unknown,
        }
    }
}
