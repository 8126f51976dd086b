//! Runs the worlds of many seeds, one after another, and says which fail.
//!
//!     worlds KIND[,KIND..]|all FIRST COUNT
//!
//! `MATRIARCH_TRACE=500` shows as much of the story of each failure.

use std::process::ExitCode;
use std::time::Instant;
use tests::seeds::{KINDS, Kind, failure};

const USAGE: &str = "usage: worlds KIND[,KIND..]|all FIRST COUNT";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((kinds, first, count)) = asked(&words) else {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        eprintln!("{USAGE}\nkinds: {}", names.join(" "));
        return ExitCode::from(2);
    };
    let failed: u64 = kinds.iter().map(|kind| run_kind(*kind, first, count)).sum();
    ExitCode::from(u8::from(failed > 0))
}

fn asked(words: &[String]) -> Option<(Vec<Kind>, u64, u64)> {
    let [kinds, first, count] = words else { return None };
    let named = |name: &str| KINDS.into_iter().find(|kind| kind.name == name);
    let kinds = match kinds.as_str() {
        "all" => Some(KINDS.to_vec()),
        kinds => kinds.split(',').map(named).collect(),
    };
    Some((kinds?, first.parse().ok()?, count.parse().ok()?))
}

fn run_kind(kind: Kind, first: u64, count: u64) -> u64 {
    let shown = std::env::var("MATRIARCH_TRACE").ok().and_then(|lines| lines.parse().ok());
    let (began, mut failed) = (Instant::now(), 0);
    for seed in first..first + count {
        let Some(failure) = failure(seed, kind, shown.unwrap_or(0)) else { continue };
        failed += 1;
        println!("{}{} {seed}: {}", failure.story, kind.name, failure.broken);
    }
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let rate = count as f64 / minutes;
    println!("{}: {count} worlds, {failed} failed, {rate:.0} a minute", kind.name);
    failed
}
