//! Timeline histories, from our own disk or from a peer.
//!
//! A peer is asked over the replication protocol (`replication.rs`). Here is the
//! way in SQL, with the one file function that pg_rewind's user is granted.

use super::error::{Error, read_if_there};
use super::session::Session;
use std::path::Path;
use std::time::SystemTime;
use topology::{History, Timeline};

const READ: &str = "SELECT pg_catalog.convert_from(\
    pg_catalog.pg_read_binary_file($1::text, 0, 1048576, true), 'UTF8')";
const TIMELINE: &str = "\
    SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN greatest(\
    (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()), \
    (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver), \
    (SELECT pg_catalog.max(('x' || pg_catalog.left(name, 8))::bit(32)::int) \
    FROM pg_catalog.pg_ls_dir('pg_wal', true, false) name \
    WHERE name ~ '^[0-9A-F]{8}\\.history$'))::bigint \
    ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(\
    pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int::bigint END";

fn file_name(timeline: Timeline) -> String {
    format!("{:08X}.history", timeline.0)
}

fn no_forks(current: Timeline) -> History {
    History { current, forks: Vec::new() }
}

/// The history of `timeline` on our own disk. Timeline 1 has an empty one.
pub fn local(data_dir: &Path, timeline: Timeline) -> Result<History, Error> {
    if timeline.0 <= 1 {
        return Ok(no_forks(timeline));
    }
    let path = data_dir.join("pg_wal").join(file_name(timeline));
    let text = read_if_there(&path)?.ok_or(Error::NoHistory(timeline))?;
    Ok(History::parse(timeline, &text)?)
}

/// When `timeline` began, by its file: the time of the promotion.
pub fn local_time(data_dir: &Path, timeline: Timeline) -> Result<SystemTime, Error> {
    let path = data_dir.join("pg_wal").join(file_name(timeline));
    let time = std::fs::metadata(&path).and_then(|file| file.modified());
    time.map_err(Error::file("read", &path))
}

/// The same from a peer.
pub async fn remote(session: &Session, timeline: Timeline) -> Result<History, Error> {
    if timeline.0 <= 1 {
        return Ok(no_forks(timeline));
    }
    const WHAT: &str = "timeline history";
    let path = format!("pg_wal/{}", file_name(timeline));
    let row = session.row(WHAT, READ, &[&path]).await?;
    let text: Option<String> =
        row.try_get(0).map_err(|_| Error::Answer { what: WHAT, field: "history" })?;
    Ok(History::parse(timeline, &text.ok_or(Error::NoHistory(timeline))?)?)
}

/// The timeline a primary writes, or the newest a standby knows.
pub async fn remote_timeline(session: &Session) -> Result<Timeline, Error> {
    const WHAT: &str = "timeline";
    let unclear = Error::Answer { what: WHAT, field: "timeline" };
    let row = session.row(WHAT, TIMELINE, &[]).await?;
    let number = row.try_get::<_, i64>(0).ok().and_then(|number| u32::try_from(number).ok());
    number.map(Timeline).ok_or(unclear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::Lsn;

    #[test]
    fn a_missing_history_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(local(dir.path(), Timeline(1)).unwrap().forks.is_empty());
        assert!(matches!(local(dir.path(), Timeline(2)), Err(Error::NoHistory(Timeline(2)))));
    }

    #[test]
    fn file_names_are_hexadecimal() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pg_wal")).unwrap();
        let path = dir.path().join("pg_wal/0000001A.history");
        std::fs::write(path, "25\t0/3000000\tno recovery target specified\n").unwrap();
        let history = local(dir.path(), Timeline(26)).unwrap();
        assert_eq!(history.left_at(Timeline(25)), Some(Lsn(0x3000000)));
    }
}
