//! Randomness from a seed: the same seed gives the same world.
//!
//! A calm world draws no delays and no mishaps: every delay is the middle of its
//! range, and what is less likely than not does not happen. So its story does not
//! depend on how many draws came before.

/// A range as wide as this is drawn in a calm world, too: it is an identity.
const IDENTITY: u64 = 1_000_000;

/// xorshift64*; good enough to choose faults, small enough to read.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    calm: bool,
}

impl Rng {
    pub fn new(seed: u64) -> Rng {
        // Neighbouring seeds must not give neighbouring worlds.
        let mut rng = Rng { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, calm: false };
        for _ in 0..8 {
            rng.word();
        }
        rng
    }

    pub fn calm() -> Rng {
        Rng { calm: true, ..Rng::new(1) }
    }

    pub fn word(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    /// From `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        match self.calm && high - low < IDENTITY {
            true => low + (high - low) / 2,
            false => low + self.word() % (high - low + 1),
        }
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        match self.calm {
            true => chance >= 50,
            false => self.word() % 100 < chance,
        }
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let index = self.word() % from.len() as u64;
        from[index as usize].clone()
    }
}
