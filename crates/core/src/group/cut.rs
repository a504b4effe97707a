//! The cut: from the promises of a quorum, exactly which messages of the old view are delivered, and
//! in which order. A function; it knows neither ballots nor time.
//!
//! Every promise says up to where its member could deliver each sender's messages (in causal order:
//! with all that they depend on), so the highest of these numbers, sender by sender, is closed: a
//! message of one that promised is there because that member holds all its own, and what it depends
//! on it has delivered; a message of one that is gone is there only if a member that promised could
//! have delivered it.

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
        (cut.base, cut.runs) = merge(own.map(|(_, promise)| promise), &cut.upto);
    }
    cut
}

fn promised(promises: &Promises) -> impl Iterator<Item = (usize, &Promise)> {
    promises.iter().enumerate().filter_map(|(rank, promise)| Some((rank, promise.as_ref()?)))
}

/// One order from the windows that were reported; two never disagree about a place. What nobody
/// holds is left out, what has no place yet comes last, by rank.
fn merge<'a>(promises: impl Iterator<Item = &'a Promise>, upto: &[u64]) -> (u64, Vec<Kept>) {
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
    for run in merged {
        let rank = usize::from(run.rank);
        let Some(last) = upto.get(rank) else { continue };
        let count = u64::from(run.count).min((last + 1).saturating_sub(run.first));
        if count > 0 {
            runs.push(Kept { count: count as u32, ..run });
        }
    }
    for (rank, (last, placed)) in upto.iter().zip(placed).enumerate() {
        if placed < *last {
            let count = (last - placed) as u32;
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
