//! A bounded queue of lines and the thread that writes them.
//!
//! Invariants: a thread that logs never waits for a disk or a terminal; a line
//! that does not fit or cannot be written is counted.

use super::LogError;
use super::file::LogFile;
use crate::config::Log;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Until the configuration says otherwise.
const LINES_MAX: usize = 1_000;

/// For the status body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub waiting: usize,
    pub lost: u64,
}

pub(super) struct Queue {
    state: Mutex<State>,
    /// Something changed for the thread.
    work: Condvar,
    /// Something changed for those who wait for the end of the work.
    done: Condvar,
}

struct State {
    items: VecDeque<Item>,
    lines: usize,
    lines_max: usize,
    lost: u64,
    /// The thread holds a line that is not written yet.
    writing: bool,
}

enum Item {
    Line(String),
    /// Lines behind this one go there.
    Turn(Sink),
}

/// Where lines end.
pub(super) enum Sink {
    Terminal,
    File(LogFile),
}

impl Queue {
    pub(super) fn start() -> std::io::Result<Arc<Queue>> {
        let queue = Arc::new(Queue {
            state: Mutex::new(State {
                items: VecDeque::new(),
                lines: 0,
                lines_max: LINES_MAX,
                lost: 0,
                writing: false,
            }),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let worker = queue.clone();
        std::thread::Builder::new()
            .name("log".into())
            .stack_size(256 * 1024)
            .spawn(move || worker.keep_writing())?;
        Ok(queue)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines from now on go there; at most `lines_max` of them wait.
    pub(super) fn turn(&self, sink: Sink, lines_max: usize) {
        let mut state = self.lock();
        if let Some(Item::Turn(_)) = state.items.back() {
            // No line follows the last `Turn`: the new one replaces it.
            state.items.pop_back();
        }
        state.items.push_back(Item::Turn(sink));
        state.lines_max = lines_max.max(1);
        drop(state);
        self.work.notify_one();
    }

    pub(super) fn push(&self, line: String) {
        let mut state = self.lock();
        if state.lines >= state.lines_max {
            state.lost += 1;
            return;
        }
        state.lines += 1;
        state.items.push_back(Item::Line(line));
        drop(state);
        self.work.notify_one();
    }

    pub(super) fn counters(&self) -> Counters {
        let state = self.lock();
        Counters { waiting: state.lines, lost: state.lost }
    }

    /// `false`: not everything was written within `limit`.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let busy = |state: &mut State| !state.items.is_empty() || state.writing;
        let waited = self.done.wait_timeout_while(self.lock(), limit, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn keep_writing(&self) {
        let mut sink = Sink::Terminal;
        loop {
            let waited = self.work.wait_while(self.lock(), |state| state.items.is_empty());
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            let line = match state.items.pop_front() {
                Some(Item::Line(line)) => line,
                Some(Item::Turn(next)) => {
                    sink = next;
                    drop(state);
                    self.done.notify_all();
                    continue;
                }
                None => continue,
            };
            state.lines -= 1;
            state.writing = true;
            drop(state);
            let written = sink.write(&line);
            let mut state = self.lock();
            state.writing = false;
            state.lost += u64::from(!written);
            drop(state);
            self.done.notify_all();
        }
    }
}

impl Sink {
    /// Opens what the configuration names.
    pub(super) fn open(log: &Log) -> Result<Sink, LogError> {
        match &log.dir {
            Some(dir) => Ok(Sink::File(LogFile::open(dir, log)?)),
            None => Ok(Sink::Terminal),
        }
    }

    /// A file that cannot be written must not be silent.
    fn write(&mut self, line: &str) -> bool {
        let terminal = |line: &str| std::io::stderr().write_all(line.as_bytes()).is_ok();
        match self {
            Sink::Terminal => terminal(line),
            Sink::File(file) => {
                file.write(line).is_ok() || {
                    terminal(line);
                    false
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn lines_arrive_in_order_and_the_end_waits_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::start().unwrap();
        let log = Log { dir: Some(dir.path().into()), file_size: 1 << 20, ..Log::default() };
        queue.turn(Sink::open(&log).unwrap(), 1_000);
        for number in 0..500 {
            queue.push(format!("{number}\n"));
        }
        assert!(queue.flush(LIMIT));
        let text = std::fs::read_to_string(dir.path().join("patroni.log")).unwrap();
        let wanted: String = (0..500).map(|number| format!("{number}\n")).collect();
        assert_eq!(text, wanted);
        assert_eq!(queue.counters(), Counters::default());
    }

    #[test]
    fn lines_go_where_they_were_meant_to_go() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let queue = Queue::start().unwrap();
        for (number, dir) in dirs.iter().enumerate() {
            let dir = Some(dir.path().into());
            queue.turn(Sink::open(&Log { dir, ..Log::default() }).unwrap(), 1_000);
            (0..100).for_each(|_| queue.push(format!("{number}\n")));
        }
        assert!(queue.flush(LIMIT));
        for (number, dir) in dirs.iter().enumerate() {
            let text = std::fs::read_to_string(dir.path().join("patroni.log")).unwrap();
            assert_eq!(text, format!("{number}\n").repeat(100));
        }
    }

    /// A pipe that no program reads stands for a disk that hangs.
    #[test]
    fn a_full_queue_drops_counts_and_never_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("patroni.log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let queue = Queue::start().unwrap();
        let log = Log { dir: Some(dir.path().into()), ..Log::default() };
        queue.turn(Sink::open(&log).unwrap(), 5);
        let begin = Instant::now();
        let long = "x".repeat(60_000) + "\n";
        for _ in 0..50 {
            queue.push(long.clone());
        }
        assert!(begin.elapsed() < LIMIT);
        let counters = queue.counters();
        assert!(counters.waiting <= 5 && counters.lost >= 40, "{counters:?}");
        assert!(!queue.flush(Duration::from_millis(50)));
        // Lets the thread go on, so that the test ends.
        let mut reader = reader;
        let mut chunk = vec![0u8; 1 << 20];
        let end = Instant::now() + LIMIT;
        while !queue.flush(Duration::from_millis(1)) && Instant::now() < end {
            use std::io::Read;
            let read = reader.read(&mut chunk).unwrap();
            assert!(read > 0, "a pipe that is held open has no end");
        }
        assert_eq!(queue.counters().waiting, 0);
    }
}
