//! What the demo says while it runs, and the table at its end.

use crate::field::writer::Count;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// A line for each step, with the time since the beginning; on a terminal the
/// running step is shown with a spinner.
pub(super) struct Progress {
    begin: Instant,
    is_terminal: bool,
    turn: usize,
}

const SPINNER: [char; 4] = ['|', '/', '-', '\\'];

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { begin: Instant::now(), is_terminal: std::io::stdout().is_terminal(), turn: 0 }
    }

    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        println!("{:>6.1}s  {text}", self.begin.elapsed().as_secs_f64());
    }

    /// What is being waited for; only shown where it can be wiped out again.
    pub(super) fn spin(&mut self, text: &str) {
        if !self.is_terminal {
            return;
        }
        self.turn += 1;
        let wheel = SPINNER[self.turn % SPINNER.len()];
        print!("\r\x1b[2K{:>6.1}s  {wheel} {text}", self.begin.elapsed().as_secs_f64());
        let _ = std::io::stdout().flush();
    }

    pub(super) fn clear(&self) {
        if self.is_terminal {
            print!("\r\x1b[2K");
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }
}

/// One event and what the clients felt of it.
pub(super) struct EventLine {
    pub event: String,
    pub pauses: Vec<Duration>,
}

/// One client and its rows.
pub(super) struct CountLine {
    pub client: String,
    pub count: Count,
}

pub(super) fn print_table(events: &[EventLine], counts: &[CountLine]) {
    println!("\nlongest write pause            {}", header(counts));
    for line in events {
        let pauses: Vec<String> =
            line.pauses.iter().map(|p| format!("{:>9.2} s", p.as_secs_f64())).collect();
        println!("{:<30} {}", line.event, pauses.join(" "));
    }
    println!("\n{:<48} {:>12} {:>10} {:>6}", "rows", "acknowledged", "found", "lost");
    for line in counts {
        let c = line.count;
        println!("{:<48} {:>12} {:>10} {:>6}", line.client, c.acknowledged, c.found, c.lost);
    }
}

fn header(counts: &[CountLine]) -> String {
    let titles = ["coordinator", "worker"];
    titles.iter().take(counts.len()).map(|t| format!("{t:>11}")).collect::<Vec<_>>().join(" ")
}
