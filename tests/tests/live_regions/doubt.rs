//! Not written yet.
use super::formation::Formation;
pub async fn nothing_opens_in_doubt(_f: &mut Formation) -> anyhow::Result<()> { Ok(()) }
