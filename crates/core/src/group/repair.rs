//! Repair: when to ask for what is missing, and whom. The first to be asked is whoever sent it, then
//! any other that has it. It asks nothing itself.

use tidings_wire::group::{ORDER_RANK, Span};

use super::detector::bit;
use crate::Time;

#[derive(Clone, Copy, Debug, Default)]
struct Quest {
    /// When to ask (again); none while nothing is missing.
    at: Option<Time>,
    asked: u32,
    /// The first that is missing.
    first: u64,
}

/// See the file's first line. One quest a sender, and one for the order.
#[derive(Debug)]
pub(super) struct Repair {
    quests: Vec<Quest>,
    order: Quest,
}

impl Repair {
    pub(super) fn new(members: usize) -> Self {
        Self { quests: vec![Quest::default(); members], order: Quest::default() }
    }

    /// From what is missing now, what is to be asked of whom: (rank, range). `holders` says who is
    /// known to have a sender's message (or a place), bits by rank.
    pub(super) fn due(
        &mut self,
        now: Time,
        pause: std::time::Duration,
        missing: &[Span],
        holders: impl Fn(&Span) -> u64,
        out: &mut Vec<(usize, Span)>,
    ) {
        let members = self.quests.len();
        for sender in (0..members).chain([usize::from(ORDER_RANK)]) {
            let mut spans =
                missing.iter().filter(|span| usize::from(span.rank) == sender).peekable();
            let quest = match self.quests.get_mut(sender) {
                Some(quest) => quest,
                None => &mut self.order,
            };
            let Some(first) = spans.peek() else {
                *quest = Quest::default();
                continue;
            };
            if quest.first != first.first {
                // What was missing has come; the rest may be on its way.
                *quest = Quest { first: first.first, ..Quest::default() };
            }
            let at = *quest.at.get_or_insert(now.after(pause / 2));
            if now < at {
                continue;
            }
            // The sequencer has rank 0.
            let source = if usize::from(first.rank) < members { sender } else { 0 };
            let target = target(source, holders(first), quest.asked as usize, members);
            quest.asked += 1;
            quest.at = Some(now.after(pause * quest.asked.min(8)));
            if let Some(target) = target {
                out.extend(spans.map(|span| (target, *span)));
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.quests.iter().chain([&self.order]).filter_map(|quest| quest.at).min()
    }
}

/// Whom to ask the `asked`-th time: the source first, then each holder in turn.
fn target(source: usize, holders: u64, asked: usize, members: usize) -> Option<usize> {
    if asked == 0 && holders & bit(source) != 0 {
        return Some(source);
    }
    let ranks: Vec<usize> = (0..members).filter(|rank| holders & bit(*rank) != 0).collect();
    if ranks.is_empty() { None } else { ranks.get((asked + source) % ranks.len()).copied() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_source_is_asked_first_then_the_other_holders() {
        let mut repair = Repair::new(3);
        let missing = [Span { rank: 1, first: 4, last: 9 }];
        let pause = Duration::from_millis(10);
        let mut asked = Vec::new();
        let mut now = Time(0);
        for _ in 0..4 {
            let mut out = Vec::new();
            repair.due(now, pause, &missing, |_| 0b110, &mut out);
            asked.extend(out.iter().map(|(rank, _)| *rank));
            now = repair.deadline().expect("something is missing");
        }
        assert_eq!(asked.first(), Some(&1));
        assert!(asked.contains(&2), "{asked:?}");
        repair.due(now, pause, &[], |_| 0b110, &mut Vec::new());
        assert_eq!(repair.deadline(), None);
    }
}
