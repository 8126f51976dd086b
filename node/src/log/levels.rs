//! Which lines are wanted: one level for our own words, one for libraries, and
//! levels for single modules (`log.loggers`).
//!
//! Names in `log.loggers` are those of Rust modules (`node::dcs`), or of the
//! Python modules that users' files name: the ones with a counterpart here are
//! translated. The longest matching name decides.

use crate::config::Log;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Crates whose words are the daemon's own.
const OWN: [&str; 6] = ["node", "matriarch", "standby", "citus", "topology", "ctl"];

/// Modules of the field and what does their work here.
const COUNTERPARTS: [(&str, &str); 10] = [
    ("patroni.postgresql", "node::postgres"),
    ("patroni.dcs", "node::dcs"),
    ("patroni.api", "node::api"),
    ("patroni.config", "node::config"),
    ("patroni.watchdog", "node::watchdog"),
    ("patroni.ha", "node::daemon"),
    ("patroni.log", "node::log"),
    ("patroni.request", "node::peers"),
    ("patroni", "node"),
    ("urllib3", "hyper"),
];

#[derive(Clone, Debug)]
pub(super) struct Levels {
    own: LevelFilter,
    libraries: LevelFilter,
    /// Longest name first.
    modules: Vec<(String, LevelFilter)>,
}

impl Levels {
    /// As long as no configuration is known.
    pub(super) fn everything() -> Levels {
        Levels { own: LevelFilter::DEBUG, libraries: LevelFilter::WARN, modules: Vec::new() }
    }

    pub(super) fn of(log: &Log) -> Levels {
        let own = level(&log.level);
        let mut modules: Vec<(String, LevelFilter)> =
            log.loggers.iter().map(|(name, text)| (module(name), level(text))).collect();
        modules.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Levels { own, libraries: own.min(LevelFilter::WARN), modules }
    }

    fn of_target(&self, target: &str) -> LevelFilter {
        let named = self.modules.iter().find(|(name, _)| is_within(target, name));
        let is_own = OWN.iter().any(|name| is_within(target, name));
        match named {
            Some((_, level)) => *level,
            None if is_own => self.own,
            None => self.libraries,
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.of_target(metadata.target())
    }
}

impl<S: Subscriber> Layer<S> for Levels {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let named = self.modules.iter().map(|(_, level)| *level);
        named.chain([self.own, self.libraries]).max()
    }
}

fn is_within(target: &str, module: &str) -> bool {
    let rest = target.strip_prefix(module);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// There is nothing above ERROR here: what ends the daemon is an ERROR too.
fn level(text: &str) -> LevelFilter {
    match text.to_ascii_lowercase().as_str() {
        "debug" | "notset" => LevelFilter::DEBUG,
        "warning" | "warn" => LevelFilter::WARN,
        "error" | "critical" | "fatal" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

fn module(name: &str) -> String {
    let within = |known: &str| name == known || name.starts_with(&format!("{known}."));
    match COUNTERPARTS.iter().find(|(known, _)| within(known)) {
        Some((known, ours)) if *known != "patroni" || name == *known => ours.to_string(),
        _ => name.replace('.', "::"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(level: &str, loggers: &[(&str, &str)]) -> Levels {
        let loggers = loggers.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        Levels::of(&Log { level: level.into(), loggers, ..Log::default() })
    }

    #[test]
    fn the_longest_name_decides_and_names_end_at_a_module() {
        let levels = levels("INFO", &[("patroni.dcs", "DEBUG"), ("node.dcs.etcd", "ERROR")]);
        assert_eq!(levels.of_target("node::dcs::mirror"), LevelFilter::DEBUG);
        assert_eq!(levels.of_target("node::dcs::etcd::watch"), LevelFilter::ERROR);
        assert_eq!(levels.of_target("node::daemon::run"), LevelFilter::INFO);
        assert_eq!(levels.of_target("node::dcsx"), LevelFilter::INFO);
        assert_eq!(levels.of_target("reqwest::connect"), LevelFilter::WARN);
    }

    #[test]
    fn modules_of_the_field_have_counterparts() {
        assert_eq!(module("patroni.postgresql.rewind"), "node::postgres");
        assert_eq!(module("patroni"), "node");
        assert_eq!(module("urllib3.connectionpool"), "hyper");
        assert_eq!(module("h2.client"), "h2::client");
    }

    #[test]
    fn a_library_is_never_louder_than_asked() {
        assert_eq!(levels("ERROR", &[]).of_target("h2"), LevelFilter::ERROR);
        assert_eq!(levels("DEBUG", &[]).of_target("h2"), LevelFilter::WARN);
        assert_eq!(levels("INFO", &[("h2", "DEBUG")]).of_target("h2::x"), LevelFilter::DEBUG);
    }
}
