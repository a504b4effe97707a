//! Repair: when to ask for what is missing, and whom. The first to be asked is whoever sent it, then
//! any other that has it. It asks nothing itself.

use tidings_wire::group::{ORDER_RANK, Span};

use super::detector::bit;
use crate::Time;

/// The longest pause, in the shortest ones: before what may still be on its way is asked for, and
/// between two questions.
const PATIENCE: u32 = 8;

#[derive(Clone, Copy, Debug, Default)]
struct Quest {
    /// Since when it is missing, or was asked for last; none while nothing is missing.
    since: Option<Time>,
    /// When to ask (again).
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

    /// From what is missing now, what is to be asked of whom: (rank, range). `is_lost` says whether
    /// it was lost on its way; else it is probably still on it, and only others have it already.
    /// `holders` says who is known to have a sender's message (or a place), bits by rank.
    pub(super) fn due(
        &mut self,
        now: Time,
        pause: std::time::Duration,
        missing: &[Span],
        is_lost: impl Fn(&Span) -> bool,
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
            let pause_now = match quest.asked {
                0 if is_lost(first) => pause / 2,
                0 => pause * PATIENCE,
                asked => pause * asked.min(PATIENCE),
            };
            let at = quest.since.get_or_insert(now).after(pause_now);
            quest.at = Some(at);
            if now < at {
                continue;
            }
            // The sequencer has rank 0.
            let source = if usize::from(first.rank) < members { sender } else { 0 };
            let target = target(source, holders(first), quest.asked as usize, members);
            quest.asked += 1;
            quest.since = Some(now);
            quest.at = Some(now.after(pause * quest.asked.min(PATIENCE)));
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
            repair.due(now, pause, &missing, |_| true, |_| 0b110, &mut out);
            asked.extend(out.iter().map(|(rank, _)| *rank));
            now = repair.deadline().expect("something is missing");
        }
        assert_eq!(asked.first(), Some(&1));
        assert!(asked.contains(&2), "{asked:?}");
        repair.due(now, pause, &[], |_| true, |_| 0b110, &mut Vec::new());
        assert_eq!(repair.deadline(), None);
    }

    #[test]
    fn what_may_be_on_its_way_is_asked_for_later() {
        let missing = [Span { rank: 1, first: 4, last: 9 }];
        let pause = Duration::from_millis(10);
        let first_ask = |is_lost| {
            let mut repair = Repair::new(3);
            repair.due(Time(0), pause, &missing, |_| is_lost, |_| 0b110, &mut Vec::new());
            repair.deadline().expect("something is missing")
        };
        assert_eq!(first_ask(true), Time(0).after(pause / 2));
        assert_eq!(first_ask(false), Time(0).after(pause * PATIENCE));
    }
}
