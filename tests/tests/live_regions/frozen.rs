//! Not written yet.
use super::formation::Formation;
pub async fn a_silent_store_stops_no_writes(_f: &mut Formation) -> anyhow::Result<()> { Ok(()) }
