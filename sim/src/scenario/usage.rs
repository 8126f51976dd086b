//! The answer to a command whose words do not fit.

/// A command's words do not fit: it says how they would.
pub(super) fn usage<T>() -> Result<T, String> {
    Err(String::new())
}
