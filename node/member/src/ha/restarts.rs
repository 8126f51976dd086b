//! When a restart that an operator asks for applies.

use topology::MemberRole;

/// Conditions of a restart; empty ones always hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    pub role: Option<String>,
    pub below_version: Option<i32>,
    pub only_pending: bool,
}

impl Conditions {
    pub fn hold_for(&self, role: MemberRole, version: Option<i32>, is_pending: bool) -> bool {
        let as_wanted = self.role.as_ref().is_none_or(|wanted| wanted == role.text());
        let older = self.below_version.is_none_or(|below| version.is_some_and(|v| v < below));
        as_wanted && older && (!self.only_pending || is_pending)
    }
}
