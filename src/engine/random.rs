//! Random numbers for jitter and nonces; nothing here needs to withstand an enemy who sees them.

/// SplitMix64 (Steele, Lea and Flood, 2014): one addition and three multiplications a number.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A factor between 0.75 and 1.25.
    pub(crate) fn jitter(&mut self) -> f64 {
        0.75 + self.fraction() / 2.0
    }

    /// From 0 to below 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        // The upper 53 bits.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_bounds() {
        let mut random = Random::new(1);
        for _ in 0..10_000 {
            let jitter = random.jitter();
            assert!((0.75..1.25).contains(&jitter), "{jitter}");
        }
    }
}
