//! Values that tests make up: keys of a group with plain numbers for versions and leases.
//! The tests of other crates include this file.

use topology::{GroupView, Session, Version};

pub(crate) trait TakeSample {
    /// `take` with plain numbers; `session` 0: on none.
    fn take_sample(&mut self, key: &str, value: &str, version: i64, session: i64);
}

impl TakeSample for GroupView {
    fn take_sample(&mut self, key: &str, value: &str, version: i64, session: i64) {
        let session = (session != 0).then_some(Session::of_store(session));
        self.take(key, value, Version::of_store(version), session);
    }
}
