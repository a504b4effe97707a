//! The ledger: how many messages of each member were delivered since the founding, and a hash over
//! them. It is the same at all members at the same point, and goes to newcomers with the state.

use tidings_wire::group::{Entry, Ledger as Sum, MemberId, View};

fn mix(hash: u64, value: u64) -> u64 {
    let mixed = (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// See the file's first line. The members are those of the view, by rank.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(pub(super) Sum);

impl Ledger {
    /// A message was delivered, with CRC32C `crc`: its number, and its place in the order since the
    /// founding, 0 unless `is_total`.
    pub(super) fn enter(&mut self, rank: usize, crc: u32, is_total: bool) -> (u64, u64) {
        let Some(entry) = self.0.entries.get_mut(rank) else { return (0, 0) };
        entry.number += 1;
        entry.chain = mix(mix(entry.chain, entry.number), u64::from(crc));
        if is_total {
            self.0.position += 1;
            let sender = entry.id.node as u64 ^ entry.id.incarnation;
            self.0.order = mix(mix(self.0.order, sender), entry.number);
            return (entry.number, self.0.position);
        }
        (entry.number, 0)
    }

    /// Goes on with the members of the next view.
    pub(super) fn follow(&mut self, view: &View) {
        let old = std::mem::take(&mut self.0.entries);
        let entry = |id: MemberId| {
            let known = old.iter().find(|entry| entry.id == id);
            known.copied().unwrap_or(Entry { id, number: 0, chain: 0 })
        };
        self.0.entries = view.members.iter().map(|member| entry(member.id)).collect();
        for entry in old.iter().filter(|entry| !view.contains(entry.id)) {
            self.0.past ^= closed(entry);
        }
    }

    /// How many messages of a member were delivered.
    pub(super) fn number_of(&self, id: MemberId) -> u64 {
        self.0.entries.iter().find(|entry| entry.id == id).map_or(0, |entry| entry.number)
    }

    /// Hash over all that was delivered.
    pub(super) fn history(&self) -> u64 {
        let members = self.0.entries.iter().fold(0, |sum, entry| sum ^ closed(entry));
        mix(mix(self.0.past ^ members, self.0.order), self.0.position)
    }
}

/// A member without messages counts for nothing, so joining changes no hash.
fn closed(entry: &Entry) -> u64 {
    if entry.number == 0 {
        return 0;
    }
    let who = mix(entry.id.node as u64, entry.id.incarnation);
    mix(mix(who, entry.number), entry.chain)
}

#[cfg(test)]
mod tests {
    use tidings_wire::group::Member;

    use super::*;

    fn view(nodes: &[u128]) -> View {
        let id = |node| MemberId { node, incarnation: 1 };
        let members = nodes.iter().map(|node| Member { id: id(*node), ..Member::default() });
        View { members: members.collect(), ..View::default() }
    }

    #[test]
    fn the_history_depends_on_what_not_on_when() {
        let (mut one, mut other) = (Ledger::default(), Ledger::default());
        one.follow(&view(&[1, 2]));
        other.follow(&view(&[1, 2]));
        for (first, second) in [(0, 1), (1, 0)] {
            one.enter(first, 7, false);
            other.enter(second, 7, false);
        }
        assert_eq!(one.history(), other.history());
        one.follow(&view(&[2, 3]));
        assert_ne!(one.history(), Ledger::default().history());
        other.follow(&view(&[2]));
        assert_eq!(one.history(), other.history(), "a silent member changes nothing");
        other.enter(0, 8, false);
        assert_ne!(one.history(), other.history());
    }

    #[test]
    fn a_total_order_is_part_of_it() {
        let (mut one, mut other) = (Ledger::default(), Ledger::default());
        one.follow(&view(&[1, 2]));
        other.follow(&view(&[1, 2]));
        for (first, second) in [(0, 1), (1, 0)] {
            one.enter(first, 7, true);
            other.enter(second, 7, true);
        }
        assert_ne!(one.history(), other.history());
    }
}
