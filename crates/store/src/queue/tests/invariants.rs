//! What is true of a queue at every moment, whatever happened.

use super::super::entry::State;
use super::super::state::Queue;
use super::*;

/// I23 for one queue, and that every set agrees with the entries.
pub fn check(queues: &Queues) {
    for queue in queues.queues.values() {
        check_queue(queue);
    }
}

fn check_queue(queue: &Queue) {
    let mut bytes = 0;
    let mut counts = [0u64; 9];
    for (seq, entry) in queue.entries.iter() {
        counts[usize::from(entry.state.code())] += 1;
        let is = |state| entry.state == state;
        let ready = queue.ready.get(&(u8::MAX - entry.priority()));
        assert_eq!(ready.is_some_and(|bits| bits.contains(seq)), is(State::Ready));
        assert_eq!(queue.delayed.contains(&(entry.due_ms, seq)), is(State::Delayed));
        assert_eq!(queue.leased.contains_key(&seq), is(State::Leased));
        assert_eq!(queue.lapses.contains(&(entry.due_ms, seq)), is(State::Leased));
        assert_eq!(queue.held.contains_key(&seq), is(State::Held));
        assert_eq!(queue.dead.contains(seq), is(State::Dead));
        assert_eq!(queue.kept.contains(seq), is(State::Kept));
        assert_eq!(queue.live.contains(seq), entry.state.is_live());
        let is_expiring = matches!(entry.state, State::Ready | State::Waiting | State::Delayed);
        assert_eq!(
            queue.expiries.contains(&(entry.expires_ms, seq)),
            is_expiring && entry.expires_ms != 0
        );
        if entry.state.is_live() {
            bytes += u64::from(entry.len);
        }
        if entry.order == 0 || is(State::Gone) {
            assert_eq!(entry.is_linked(), is(State::Gone));
        }
    }
    assert_eq!(queue.bytes, bytes);
    let ready: u64 = queue.ready.values().map(bits::SeqBits::len).sum();
    assert_eq!(counts[1], ready);
    assert!(queue.ready.values().all(|bits| bits.len() > 0));
    let sets = [queue.delayed.len() as u64, queue.leased.len() as u64, queue.held.len() as u64];
    assert_eq!(&counts[3..6], &sets);
    assert_eq!(queue.lapses.len(), queue.leased.len());
    assert_eq!((counts[6], counts[7]), (queue.dead.len(), queue.kept.len()));
    assert_eq!(queue.live.len(), counts[1..6].iter().sum::<u64>());
    check_lines(queue);
    // Each accepted message is in exactly one place.
    let totals = queue.totals;
    assert_eq!(
        totals.pushed + totals.received + totals.replayed,
        queue.live.len()
            + queue.dead.len()
            + totals.acked
            + totals.purged
            + totals.discarded
            + totals.sent_on,
        "{totals:?}"
    );
    assert!(queue.histories.keys().all(|seq| queue.entries.get(*seq).is_some()));
    assert!(queue.dead.iter_from(0).all(|seq| queue.histories.contains_key(&seq)));
}

/// Every line is a chain from its head to its tail; all but the head wait or are settled.
fn check_lines(queue: &Queue) {
    let mut linked = 0;
    for (order, line) in &queue.lines {
        let mut at = line.head;
        loop {
            let entry = queue.entries.get(at).expect("a link");
            linked += 1;
            assert!(entry.is_linked() && entry.order == *order);
            let at_head = matches!(entry.state, State::Ready | State::Delayed | State::Leased);
            assert_eq!(at_head, at == line.head);
            if entry.next == 0 {
                break;
            }
            at = entry.next;
        }
        assert_eq!(at, line.tail);
    }
    assert_eq!(linked, queue.entries.iter().filter(|(_, entry)| entry.is_linked()).count());
}
