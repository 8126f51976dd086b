//! The watchdog against a FIFO.

use super::*;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use topology::dynamic::Dynamic;

const NOW: Millis = Millis(100_000);

struct Stage {
    _dir: tempfile::TempDir,
    reader: Option<File>,
    dog: Watchdog,
    dynamic: Dynamic,
}

fn stage(mode: Mode) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("fifo");
    nix::unistd::mkfifo(&device, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let reader = File::options().read(true).custom_flags(flags).open(&device).unwrap();
    let settings = WatchdogSettings { mode, device, driver: Driver::Testing, ..Default::default() };
    let dynamic = Dynamic::default();
    Stage { _dir: dir, reader: Some(reader), dog: Watchdog::new(settings), dynamic }
}

impl Stage {
    fn told(&mut self) -> String {
        let mut bytes = [0; 200];
        let read = self.reader.as_mut().unwrap().read(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    fn state(&self) -> Guarding {
        self.dog.state(&self.dynamic, NOW)
    }
}

#[test]
fn it_is_armed_fed_and_put_to_rest() {
    let mut s = stage(Mode::Required);
    assert_eq!(s.state(), Guarding::Ready);
    s.dog.arm(&s.dynamic, NOW).unwrap();
    assert_eq!((s.state(), s.told()), (Guarding::Armed, "Ctimeout=25\n1".into()));
    s.dog.feed(&s.dynamic);
    assert_eq!(s.told(), "1");
    s.dynamic.ttl_ms = 40_000;
    s.dog.feed(&s.dynamic);
    assert_eq!(s.told(), "Ctimeout=35\n1", "another ttl is another timeout");
    s.dog.rest();
    assert_eq!((s.state(), s.told()), (Guarding::Ready, "V".into()));
}

#[test]
fn a_daemon_that_dies_leaves_it_armed() {
    let mut s = stage(Mode::Automatic);
    s.dog.arm(&s.dynamic, NOW).unwrap();
    s.dog = Watchdog::default();
    assert_eq!(s.told(), "Ctimeout=25\n1", "no V");
}

#[test]
fn a_broken_one_matters_only_where_it_is_required() {
    for (mode, broken) in [(Mode::Required, true), (Mode::Automatic, false)] {
        let mut s = stage(mode);
        s.reader = None;
        assert_eq!(s.state(), Guarding::Ready, "it is not opened to look at it");
        s.dog.arm(&s.dynamic, NOW).unwrap_err();
        assert_eq!(matches!(s.state(), Guarding::Broken(_)), broken);
        assert_eq!(s.dog.state(&s.dynamic, NOW + RETRY_MS), Guarding::Ready, "tried again");
    }
}

#[test]
fn a_reader_that_leaves_is_noticed_at_the_next_meal() {
    let mut s = stage(Mode::Required);
    s.dog.arm(&s.dynamic, NOW).unwrap();
    s.reader = None;
    s.dog.feed(&s.dynamic);
    assert_eq!(s.state(), Guarding::Ready);
    assert!(s.dog.arm(&s.dynamic, NOW).is_err());
}

#[test]
fn switching_it_off_puts_it_to_rest_at_once() {
    let mut s = stage(Mode::Required);
    s.dog.arm(&s.dynamic, NOW).unwrap();
    let off = WatchdogSettings { mode: Mode::Off, ..s.dog.settings.clone() };
    s.dog.take_settings(off);
    assert_eq!((s.state(), s.told()), (Guarding::Unwanted, "Ctimeout=25\n1V".into()));
}

#[test]
fn a_margin_that_leaves_no_loop_is_broken_and_says_why() {
    let mut s = stage(Mode::Required);
    s.dog.settings.safety_margin = 25;
    let Guarding::Broken(why) = s.state() else { panic!("{:?}", s.state()) };
    assert!(why.contains("safety_margin"), "{why}");
}
