//! A panic of the daemon is told where everything else is told.
//!
//! The message is an error. The stack trace behind it is one too, or only a
//! debug line, as `log.traceback_level` says. Standard error has the message in
//! any case: the log may be what is broken.
//!
//! Absent on purpose: traces of errors that were foreseen. They carry their
//! causes in words.

use std::backtrace::Backtrace;
use std::fmt::Display;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};

static FOR_DEBUG: AtomicBool = AtomicBool::new(false);

/// `DEBUG` keeps traces out of a log of a higher level.
pub(super) fn trace_at(level: &str) {
    FOR_DEBUG.store(level.eq_ignore_ascii_case("DEBUG"), Ordering::Relaxed);
}

/// From now on, for all threads.
pub(super) fn tell() {
    let as_before = panic::take_hook();
    panic::set_hook(Box::new(move |panicked: &PanicHookInfo<'_>| {
        as_before(panicked);
        lines(panicked, &Backtrace::force_capture(), FOR_DEBUG.load(Ordering::Relaxed));
    }));
}

fn lines(message: &impl Display, trace: &impl Display, for_debug: bool) {
    tracing::error!("{message}");
    if for_debug {
        tracing::debug!("the stack of this panic:\n{trace}");
    } else {
        tracing::error!("the stack of this panic:\n{trace}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Text;
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing::{Event, Level, Subscriber};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<(Level, String)>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let mut text = Text::default();
            event.record(&mut text);
            self.0.lock().unwrap().push((*event.metadata().level(), text.finish()));
        }
    }

    #[test]
    fn the_trace_stands_behind_the_message_at_its_level() {
        for (for_debug, wanted) in [(false, Level::ERROR), (true, Level::DEBUG)] {
            let kept = Kept::default();
            let layers = tracing_subscriber::registry().with(kept.clone());
            tracing::subscriber::with_default(layers, || lines(&"it fell", &"1: main", for_debug));
            let told = kept.0.lock().unwrap();
            assert_eq!(told[0], (Level::ERROR, "it fell".to_string()));
            assert_eq!(told[1], (wanted, "the stack of this panic:\n1: main".to_string()));
        }
    }

    #[test]
    fn the_setting_is_a_word_in_any_case() {
        for (word, wanted) in [("debug", true), ("ERROR", false), ("DEBUG", true), ("", false)] {
            trace_at(word);
            assert_eq!(FOR_DEBUG.load(Ordering::Relaxed), wanted);
        }
    }
}
