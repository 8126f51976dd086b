//! What has not changed is not said again.
//!
//! A state that lasts makes the daemon decide the same, or meet the same failure,
//! several times a second. Such a line comes once a minute; what comes in between
//! is there at level DEBUG. When the situation is another one (who leads, what the
//! server does), the same words are news again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines that say the same about a state that lasts.
const AGAIN: Duration = Duration::from_secs(60);
/// Lines that are remembered; with one more, all are forgotten.
const LINES_MAX: usize = 256;

#[derive(Default)]
struct Seldom {
    said: Option<HashMap<String, Instant>>,
    situation: String,
}

static SELDOM: Mutex<Seldom> = Mutex::new(Seldom { said: None, situation: String::new() });

impl Seldom {
    fn is_news(&mut self, line: &str, now: Instant) -> bool {
        let said = self.said.get_or_insert_default();
        if said.get(line).is_some_and(|at| now.duration_since(*at) < AGAIN) {
            return false;
        }
        if said.len() >= LINES_MAX {
            said.clear();
        }
        said.insert(line.to_string(), now);
        true
    }

    fn situation(&mut self, now: String) {
        if self.situation != now {
            self.situation = now;
            self.said = None;
        }
    }
}

fn with<T>(use_it: impl FnOnce(&mut Seldom) -> T) -> T {
    use_it(&mut SELDOM.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Was this line not said within the last minute of this situation?
pub fn is_news(line: &str) -> bool {
    with(|seldom| seldom.is_news(line, Instant::now()))
}

/// In another situation everything is said anew.
pub fn situation(now: String) {
    with(|seldom| seldom.situation(now));
}

/// A failure that may last: once a minute as a warning.
pub fn warn(line: &str) {
    match is_news(line) {
        true => tracing::warn!("{line}"),
        false => tracing::debug!("{line}"),
    }
}

/// The same for what a person should look at.
pub fn error(line: &str) {
    match is_news(line) {
        true => tracing::error!("{line}"),
        false => tracing::debug!("{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n20_what_lasts_is_said_once_a_minute_and_anew_in_another_situation() {
        let (mut seldom, begin) = (Seldom::default(), Instant::now());
        let mut said = 0;
        for half_second in 0..360 {
            let now = begin + Duration::from_millis(500 * half_second);
            // Two lines by turns are no news either.
            let line = if half_second % 2 == 0 { "waiting" } else { "still waiting" };
            seldom.situation("starting".into());
            said += usize::from(seldom.is_news(line, now));
        }
        assert_eq!(said, 6, "two lines in three minutes");
        let now = begin + Duration::from_secs(180);
        assert!(!seldom.is_news("waiting", now - Duration::from_secs(30)));
        seldom.situation("running".into());
        assert!(seldom.is_news("waiting", now));
    }

    #[test]
    fn not_everything_is_remembered() {
        let (mut seldom, now) = (Seldom::default(), Instant::now());
        for number in 0..10 * LINES_MAX {
            assert!(seldom.is_news(&number.to_string(), now));
        }
        assert!(seldom.said.is_some_and(|said| said.len() <= LINES_MAX));
    }
}
