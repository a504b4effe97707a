//! The cut: from the promises of a quorum, exactly which messages of the old view are delivered, and
//! in which order. A function; it knows neither ballots nor time.
//!
//! Every promise says up to where its member could deliver each sender's messages (in causal order:
//! with all that they depend on), so the highest of these numbers, sender by sender, is closed: a
//! message of one that promised is there because that member holds all its own, and what it depends
//! on it has delivered; a message of one that is gone is there only if a member that promised could
//! have delivered it. In total order only its place says what a message may depend on: of one that is
//! gone, what has no place is left out, and what stands behind a place that nobody could deliver.

use tidings_wire::group::{Cut, Kept, Promise, Promises};

use crate::sabotage;

/// See the file's first line. `me` is the proposer.
pub(super) fn agree(promises: &Promises, me: usize, is_total: bool) -> Cut {
    let members = promises.len();
    let mut cut =
        Cut { upto: vec![0; members], holders: vec![me as u8; members], ..Cut::default() };
    let own_only = sabotage::is(105);
    for (rank, promise) in promised(promises).filter(|(rank, _)| !own_only || *rank == me) {
        for sender in 0..members {
            let held = promise.held.get(sender).copied().unwrap_or(0);
            if held > cut.upto[sender] {
                cut.upto[sender] = held;
                cut.holders[sender] = rank as u8;
            }
        }
    }
    if is_total {
        let own = promised(promises).filter(|(rank, _)| !own_only || *rank == me);
        let is_there: Vec<bool> = promises.iter().map(Option::is_some).collect();
        (cut.base, cut.runs) = merge(own.map(|(_, promise)| promise), &is_there, &mut cut.upto);
    }
    cut
}

fn promised(promises: &Promises) -> impl Iterator<Item = (usize, &Promise)> {
    promises.iter().enumerate().filter_map(|(rank, promise)| Some((rank, promise.as_ref()?)))
}

/// One order from the windows that were reported; two never disagree about a place. What nobody
/// holds is left out; what has no place yet comes last, by rank. `upto` falls to what is in it.
fn merge<'a>(
    promises: impl Iterator<Item = &'a Promise>,
    is_there: &[bool],
    upto: &mut [u64],
) -> (u64, Vec<Kept>) {
    let mut placed = vec![0; upto.len()];
    let mut windows: Vec<(u64, &[Kept])> = Vec::new();
    for promise in promises {
        windows.push((promise.base.max(1), promise.runs.as_slice()));
        for (placed, known) in placed.iter_mut().zip(&promise.placed) {
            *placed = (*placed).max(*known);
        }
    }
    let base = windows.iter().map(|(base, _)| *base).min().unwrap_or(1);
    let merged = if sabotage::is(109) { shortest(&windows) } else { longest(&windows, base) };
    let mut runs: Vec<Kept> = Vec::new();
    let mut has_hole = false;
    for run in merged {
        let rank = usize::from(run.rank);
        let Some(last) = upto.get_mut(rank) else { continue };
        if has_hole && !is_there[rank] {
            *last = (*last).min(run.first - 1);
        }
        let count = u64::from(run.count).min((*last + 1).saturating_sub(run.first));
        has_hole |= count < u64::from(run.count);
        if count > 0 {
            runs.push(Kept { count: count as u32, ..run });
        }
    }
    for (rank, (last, placed)) in upto.iter_mut().zip(placed).enumerate() {
        if !is_there[rank] {
            *last = (*last).min(placed);
        } else if placed < *last {
            let count = (*last - placed) as u32;
            runs.push(Kept { rank: rank as u8, count, first: placed + 1 });
        }
    }
    (base, runs)
}

fn len(runs: &[Kept]) -> u64 {
    runs.iter().map(|run| u64::from(run.count)).sum()
}

/// All places from `base` on that anyone knows.
fn longest(windows: &[(u64, &[Kept])], base: u64) -> Vec<Kept> {
    let mut sorted = windows.to_vec();
    sorted.sort_by_key(|(base, runs)| (*base, std::cmp::Reverse(len(runs))));
    let mut merged = Vec::new();
    let mut next = base;
    for (start, runs) in sorted {
        let mut place = start;
        for run in runs {
            let end = place + u64::from(run.count);
            if end > next && place <= next {
                let skipped = next - place;
                merged.push(Kept {
                    rank: run.rank,
                    count: run.count - skipped as u32,
                    first: run.first + skipped,
                });
                next = end;
            }
            place = end;
        }
    }
    merged
}

fn shortest(windows: &[(u64, &[Kept])]) -> Vec<Kept> {
    let shortest = windows.iter().min_by_key(|(base, runs)| base + len(runs));
    shortest.map(|(_, runs)| runs.to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rank: u8, count: u32, first: u64) -> Kept {
        Kept { rank, count, first }
    }

    fn promise(held: &[u64], placed: &[u64], runs: &[Kept]) -> Option<Promise> {
        let (held, placed, runs) = (held.to_vec(), placed.to_vec(), runs.to_vec());
        Some(Promise { held, placed, base: 1, runs, ..Promise::default() })
    }

    //= GUARANTEES.md#GROUP-TOTAL-1
    #[test]
    fn what_a_dead_sequencer_sent_after_an_order_that_is_lost_is_left_out() {
        // It had ordered and delivered 1/2, and then sent 0/1.
        let one = promise(&[1, 2, 0], &[0, 1, 0], &[run(1, 1, 1)]);
        let other = promise(&[1, 2, 1], &[0, 1, 0], &[run(1, 1, 1)]);
        let cut = agree(&vec![None, one, other], 1, true);
        assert_eq!(cut.upto, [0, 2, 1]);
        assert_eq!(cut.runs, [run(1, 1, 1), run(1, 1, 2), run(2, 1, 1)]);
    }

    //= GUARANTEES.md#GROUP-TOTAL-1
    #[test]
    fn what_stands_behind_a_lost_message_may_depend_on_it() {
        // Nobody has 3/1; 2/1 may depend on it, those of members that are there cannot.
        let order = [run(2, 1, 1), run(3, 1, 1), run(2, 1, 2), run(0, 1, 1)];
        let one = promise(&[1, 0, 2, 0], &[1, 0, 2, 1], &order);
        let other = promise(&[1, 0, 2, 0], &[1, 0, 2, 1], &order);
        let cut = agree(&vec![one, other, None, None], 0, true);
        assert_eq!(cut.upto, [1, 0, 1, 0]);
        assert_eq!(cut.runs, [run(2, 1, 1), run(0, 1, 1)]);
    }

    #[test]
    fn what_is_delivered_and_forgotten_stays_in() {
        let forgotten = Promise {
            held: vec![0, 5],
            placed: vec![0, 5],
            base: 6,
            runs: Vec::new(),
            ..Promise::default()
        };
        let cut = agree(&vec![Some(forgotten), None], 0, true);
        assert_eq!((cut.upto, cut.runs), (vec![0, 5], Vec::new()));
    }
}
