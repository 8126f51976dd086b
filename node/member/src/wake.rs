//! Which changes of the store wake a member before its longest sleep is over.

/// A change that another process made wakes a member. A leader's report wakes its
/// followers, whose slots depend on it; a leader learns nothing from such a report.
pub fn wakes<'a>(keys: impl IntoIterator<Item = &'a str>, own: bool, leads: bool) -> bool {
    let is_report = |key: &str| key.ends_with("/status") || key.ends_with("/optime/leader");
    !own && keys.into_iter().any(|key| !(leads && is_report(key)))
}
