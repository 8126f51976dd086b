//! How long a watchdog may sleep. Pure.

/// What follows from ttl, loop_wait and the margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub timeout_s: u32,
    pub loop_wait_ms: u64,
}

impl Timing {
    /// The margin in seconds counts back from ttl; -1 means half of ttl. What
    /// is left must hold a whole loop, for it is fed once in each.
    pub(crate) fn of(margin_s: i64, ttl_ms: u64, loop_wait_ms: u64) -> Result<Timing, String> {
        let ttl_s = i64::try_from(ttl_ms / 1_000).unwrap_or(i64::MAX);
        let timeout = if margin_s == -1 { ttl_s / 2 } else { ttl_s.saturating_sub(margin_s) };
        let loop_s = i64::try_from(loop_wait_ms.div_ceil(1_000)).unwrap_or(i64::MAX);
        match u32::try_from(timeout) {
            Ok(timeout_s) if timeout_s > 0 && timeout >= loop_s => {
                Ok(Timing { timeout_s, loop_wait_ms })
            }
            _ => Err(format!(
                "a safety_margin of {margin_s} s leaves {timeout} s of ttl {ttl_s} s, less than \
                 loop_wait ({loop_s} s): lower it or raise ttl"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_counts_back_from_ttl_and_minus_one_halves_it() {
        let timeout = |margin, ttl| Timing::of(margin, ttl, 10_000).map(|timing| timing.timeout_s);
        assert_eq!(timeout(5, 30_000), Ok(25));
        assert_eq!(timeout(-1, 30_000), Ok(15));
        assert_eq!(timeout(-1, 25_000), Ok(12));
        assert_eq!(timeout(20, 30_000), Ok(10));
        assert!(timeout(21, 30_000).unwrap_err().contains("less than loop_wait (10 s)"));
        assert!(timeout(i64::MAX, 30_000).is_err());
        assert!(timeout(-1, 18_000).is_err());
    }
}
