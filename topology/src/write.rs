//! What a store is asked to write, and the marks that it puts on what it holds.
//!
//! A `Version` says which write a value comes from, a `Session` on which lease it
//! hangs. Both are opaque: rules keep them, compare them and hand them back. Only
//! the store module makes them of a store's own numbers and reads those numbers;
//! `tests/tidy.rs` checks that.

/// The write that a value comes from. A later write has a greater version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(i64);

/// A lease: what is written on it ends with it. No store gives out the default one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(i64);

impl Version {
    /// For the store module, and for values that tests make up.
    pub const fn of_store(number: i64) -> Version {
        Version(number)
    }

    /// For the store module.
    pub const fn number(self) -> i64 {
        self.0
    }
}

impl Session {
    /// For the store module, and for values that tests make up.
    pub const fn of_store(number: i64) -> Session {
        Session(number)
    }

    /// For the store module.
    pub const fn number(self) -> i64 {
        self.0
    }
}
