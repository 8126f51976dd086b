//! Randomness from a seed: the same seed gives the same world.

/// xorshift64*; good enough to choose faults, small enough to read.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        // Neighbouring seeds must not give neighbouring worlds.
        let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            rng.word();
        }
        rng
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    /// From `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.word() % (high - low + 1)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.word() % 100 < chance
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let index = self.word() % from.len() as u64;
        from[index as usize].clone()
    }
}
