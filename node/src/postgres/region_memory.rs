//! What a member's host has seen of its region's store: the votes, as they stood.
//!
//! A store that was restored from an earlier copy, or that lost its data, does not know that it
//! did. What lies on the hosts' disks tells it apart from one that is right. The file stands
//! beside the data directory, or beside the password file: a new copy of the data does not take
//! it away, and a base backup does not bring that of another member.
//!
//! Invariant: a file that cannot be read is unknown, never absent.

use super::error::{Error, read_if_there};
use super::mark;
use crate::config::Postgresql;
use serde::{Deserialize, Serialize};
use topology::MemberName;
use topology::acceptor::Acceptor;

const ENDING: &str = "region";

#[derive(Serialize, Deserialize)]
struct Kept<A> {
    by: MemberName,
    acceptor: A,
}

/// What an earlier process of this member has written. An error: it is not known.
pub(crate) fn read(settings: &Postgresql, me: &MemberName) -> Result<Option<Acceptor>, String> {
    let path = mark::find(settings, ENDING).map_err(|why| why.to_string())?;
    let Some(path) = path else { return Ok(None) };
    let text = read_if_there(&path).map_err(|why| why.to_string())?.unwrap_or_default();
    let kept: Kept<Acceptor> = serde_json::from_str(&text).map_err(|why| {
        format!(
            "`{}` cannot be read ({why}), so it is not known which epoch this host has seen; if \
             the stores of all regions are right, remove the file and start the daemon again",
            path.display()
        )
    })?;
    Ok((kept.by == *me).then_some(kept.acceptor))
}

/// Writes it, safe on disk; a crash leaves the old one or the new.
pub(crate) fn write(
    settings: &Postgresql,
    me: &MemberName,
    acceptor: &Acceptor,
) -> Result<(), Error> {
    let kept = Kept { by: me.clone(), acceptor };
    let text = serde_json::to_string(&kept).expect("plain values always serialise");
    mark::keep(settings, ENDING, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn settings(dir: &Path) -> Postgresql {
        let (data_dir, pgpass) = (dir.join("data"), dir.join("pgpass"));
        Postgresql { data_dir, pgpass, ..Postgresql::default() }
    }

    fn acceptor(life: u64) -> Acceptor {
        Acceptor { life, ..Acceptor::first("f", None) }
    }

    #[test]
    fn what_was_seen_outlives_the_process_and_the_data() {
        let dir = tempfile::tempdir().unwrap();
        let (settings, me) = (settings(dir.path()), "me".into());
        assert_eq!(read(&settings, &me), Ok(None));
        for life in [1, 2] {
            write(&settings, &me, &acceptor(life)).unwrap();
            assert_eq!(read(&settings, &me), Ok(Some(acceptor(life))));
        }
        assert!(!mark::find(&settings, ENDING).unwrap().unwrap().starts_with(&settings.data_dir));
    }

    #[test]
    fn what_another_member_has_seen_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        write(&settings, &"other".into(), &acceptor(3)).unwrap();
        assert_eq!(read(&settings, &"me".into()), Ok(None));
    }

    #[test]
    fn a_torn_file_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let (settings, me) = (settings(dir.path()), MemberName::new("me"));
        write(&settings, &me, &acceptor(1)).unwrap();
        let path = mark::find(&settings, ENDING).unwrap().unwrap();
        for text in ["", "{\"by\":\"me\""] {
            std::fs::write(&path, text).unwrap();
            let why = read(&settings, &me).unwrap_err();
            assert!(why.contains("remove the file"), "{why}");
        }
    }
}
