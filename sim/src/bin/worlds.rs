//! Runs the worlds of many seeds, one after another, and says which fail.
//!
//!     worlds KIND[,KIND..]|all FIRST COUNT [MISHAP,..]
//!
//! With names of mishaps (`world/mishap.rs`) only those happen, in any kind.
//! `MATRIARCH_TRACE=500` shows as much of the story of each failure.

use sim::seeds::{KINDS, Kind, failure};
use sim::world::mishap::Mishaps;
use std::ops::Range;
use std::process::ExitCode;

const USAGE: &str = "usage: worlds KIND[,KIND..]|all FIRST COUNT [MISHAP,..]";

struct Asked {
    kinds: Vec<Kind>,
    seeds: Range<u64>,
    mishaps: Option<Mishaps>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(asked) = asked(&words) else {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        eprintln!("{USAGE}\nkinds: {}", names.join(" "));
        return ExitCode::from(2);
    };
    let failed: u64 = asked.kinds.iter().map(|kind| run_kind(*kind, &asked)).sum();
    ExitCode::from(u8::from(failed > 0))
}

fn asked(words: &[String]) -> Option<Asked> {
    let (kinds, first, count, mishaps) = match words {
        [kinds, first, count] => (kinds, first, count, None),
        [kinds, first, count, names] => (kinds, first, count, Some(Mishaps::named(names)?)),
        _ => return None,
    };
    let named = |name: &str| KINDS.into_iter().find(|kind| kind.name == name);
    let kinds = match kinds.as_str() {
        "all" => Some(KINDS.to_vec()),
        kinds => kinds.split(',').map(named).collect(),
    };
    let (first, count): (u64, u64) = (first.parse().ok()?, count.parse().ok()?);
    Some(Asked { kinds: kinds?, seeds: first..first + count, mishaps })
}

fn run_kind(kind: Kind, asked: &Asked) -> u64 {
    let shown = std::env::var("MATRIARCH_TRACE").ok().and_then(|lines| lines.parse().ok());
    let (began, mut failed) = (cpu_seconds(), 0);
    for seed in asked.seeds.clone() {
        let mut shape = (kind.shape)(seed);
        shape.mishaps = asked.mishaps.unwrap_or(shape.mishaps);
        let Some(failure) = failure(seed, &shape, shown.unwrap_or(0)) else { continue };
        failed += 1;
        println!("{}{} {seed}: {}", failure.story, kind.name, failure.broken);
    }
    let minutes = (cpu_seconds() - began) / 60.0;
    let count = asked.seeds.end - asked.seeds.start;
    let rate = count as f64 / minutes;
    println!("{}: {count} worlds, {failed} failed, {rate:.0} a minute of CPU", kind.name);
    failed
}

/// What this process has used of a core, so that others on the machine do not count.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    nanoseconds.unwrap_or_default() / 1e9
}
