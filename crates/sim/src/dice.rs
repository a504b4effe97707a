//! Random choices, a generator per purpose: to take one fault away does not shift the others.

use tidings_core::Rng;

#[derive(Clone, Debug)]
pub(crate) struct Dice(Rng);

impl Dice {
    pub fn new(seed: u64, purpose: &str, index: u64) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for byte in purpose.bytes().chain(index.to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(Rng::new(hash))
    }

    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn chance(&mut self, permille: u32) -> bool {
        self.0.below(1000) < u64::from(permille)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.below(high.saturating_sub(low) + 1)
    }

    /// As [`Dice::between`], small numbers as likely as large ones.
    pub fn scaled(&mut self, low: u64, high: u64) -> u64 {
        let bits = (high / low.max(1)).max(1).ilog2();
        let shift = self.between(0, u64::from(bits));
        let top = high.min((low.max(1) << shift).saturating_mul(2));
        self.between(low, top.max(low))
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.0.below(list.len() as u64) as usize]
    }
}
