//! Helpers that a command leaves behind, with its environment, are neither a
//! filling nor a rewind; only a mark says that one did not come to its end.

use super::data_dir::DataDirState;
use super::permission::Permission;
use super::{Error, Instance, fill_mark, rewind, rewind_mark, tools};
use crate::config::Postgresql;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;

fn instance(root: &Path) -> Instance {
    let settings = Postgresql {
        data_dir: root.join("data"),
        pgpass: root.join("pgpass"),
        bin_dir: Some("/nonexistent".into()),
        ..Postgresql::default()
    };
    let global = settings.data_dir.join("global");
    std::fs::create_dir_all(global).unwrap();
    std::fs::write(settings.data_dir.join("PG_VERSION"), "15\n").unwrap();
    std::fs::write(settings.data_dir.join("global/pg_control"), "x").unwrap();
    Instance::new(Arc::new(settings), "s", &"n".into(), None)
}

/// Killed when the test is over.
struct Helper(Child);

impl Helper {
    fn with(variable: &str, instance: &Instance) -> Helper {
        let mut command = Command::new("sleep");
        command.arg("60").env(variable, &instance.settings.data_dir);
        Helper(command.spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn n2_a_helper_of_a_finished_copy_is_left_alone_and_the_data_too() {
    let root = tempfile::tempdir().unwrap();
    let instance = instance(root.path());
    let mut helper = Helper::with(tools::FILLS, &instance);
    assert!(!instance.end_leftover_fillers().await.unwrap());
    assert!(helper.lives(), "it belongs to nobody's copy any more");
    assert!(instance.settings.data_dir.join("global/pg_control").exists());
    assert!(!matches!(instance.data_state().await, DataDirState::Half(_)));
}

#[tokio::test]
async fn n2_a_mark_decides_what_is_half_and_the_variable_finds_who_fills() {
    let root = tempfile::tempdir().unwrap();
    let instance = instance(root.path());
    let data_dir = &instance.settings.data_dir;
    // What is there may not be replaced without a permission.
    assert!(matches!(instance.begin_fill("a copy", None), Err(Error::NotEmpty(_))));
    assert_eq!(fill_mark::find(&instance.settings).unwrap(), None);
    instance.begin_fill("a copy", Some(&Permission::given_up())).unwrap();
    let mut filler = Helper::with(tools::FILLS, &instance);
    assert!(instance.end_leftover_fillers().await.unwrap());
    assert!(!filler.lives());
    assert!(matches!(instance.data_state().await, DataDirState::Half(what)
        if what.contains("a copy") && what.contains("given up")));
    assert!(data_dir.join("global/pg_control").exists(), "nothing is renamed");
    instance.end_fill().unwrap();
    assert!(!matches!(instance.data_state().await, DataDirState::Half(_)));
}

#[tokio::test]
async fn n3_what_another_program_put_under_a_forgotten_mark_is_not_removed() {
    let root = tempfile::tempdir().unwrap();
    let instance = instance(root.path());
    instance.begin_fill("a copy", Some(&Permission::given_up())).unwrap();
    // A person empties the directory and restores a backup by hand.
    std::fs::remove_dir_all(&instance.settings.data_dir).unwrap();
    let instance = self::instance(root.path());
    let state = instance.data_state().await;
    let DataDirState::Unreadable(why) = &state else { panic!("{state:?}") };
    assert!(why.contains("data.filling") && why.contains("remove that mark"), "{why}");
}

#[test]
fn n21_a_helper_of_a_restore_command_is_no_rewind() {
    let root = tempfile::tempdir().unwrap();
    let instance = instance(root.path());
    let mut helper = Helper::with(rewind::REWINDS, &instance);
    assert_eq!(instance.rewinder().unwrap(), None, "nothing was begun");
    rewind_mark::set(&instance.settings, "x").unwrap();
    assert_eq!(instance.rewinder().unwrap(), None, "`sleep` rewinds nothing");
    rewind_mark::name_process(&instance.settings, helper.0.id().cast_signed()).unwrap();
    assert_eq!(instance.rewinder().unwrap(), Some(helper.0.id().cast_signed()));
    helper.0.kill().unwrap();
    helper.0.wait().unwrap();
    let other = Helper::with(rewind::REWINDS, &instance);
    assert_eq!(instance.rewinder().unwrap(), None, "{} is a helper of the dead one", other.0.id());
}
