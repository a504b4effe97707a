//! Every checker can fail: a history made by hand for each, and one that none may object to.

use super::*;

const ONE: ViewKey = ViewKey { epoch: 7, number: 1 };
const TWO: ViewKey = ViewKey { epoch: 7, number: 2 };
const THREE: ViewKey = ViewKey { epoch: 7, number: 3 };

const AGREED: Promise = Promise { order: Ordered::Total, is_reliable: true, is_uniform: false };
const ATOMIC: Promise = Promise { order: Ordered::Total, is_reliable: true, is_uniform: true };
const CAUSAL: Promise = Promise { order: Ordered::Causal, is_reliable: true, is_uniform: false };
const FIFO: Promise = Promise { order: Ordered::Fifo, is_reliable: true, is_uniform: false };

/// L0 founds, the others join: all are in view two.
fn group(promise: Promise, lives: usize) -> Oracle {
    let mut oracle = Oracle::new(promise, 1);
    let all: Vec<Life> = (0..lives).map(|_| oracle.begins()).collect();
    oracle.installed(0, ONE, &[0], 1);
    for life in &all {
        oracle.installed(*life, TWO, &all, lives);
    }
    assert_eq!(oracle.violation, None);
    oracle
}

fn deliver(oracle: &mut Oracle, life: Life, ids: &[u64]) {
    for id in ids {
        let by = oracle.sent.get(*id as usize).map(|sent| sent.by);
        oracle.delivered(life, by, *id, None);
    }
}

fn found(oracle: &Oracle) -> &'static str {
    oracle.violation.as_ref().map_or("nothing", |violation| violation.invariant)
}

#[test]
fn a_good_history_is_good() {
    let mut oracle = group(ATOMIC, 3);
    let (a, b) = (oracle.sent(0, false), oracle.sent(1, false));
    for life in 0..3 {
        deliver(&mut oracle, life, &[b, a]);
    }
    oracle.claimed_uniform(0, a);
    oracle.crashed(2);
    for life in 0..2 {
        oracle.installed(life, THREE, &[0, 1], 2);
        oracle.state(life, THREE, 42);
    }
    oracle.finish(&[0, 1]);
    assert_eq!(oracle.violation, None);
    assert_eq!(oracle.lost(), None);
}

#[test]
fn i1_creation_and_forgery() {
    let mut oracle = group(FIFO, 2);
    deliver(&mut oracle, 0, &[0]);
    assert_eq!(found(&oracle), "I1");
    let mut oracle = group(FIFO, 2);
    let id = oracle.sent(0, false);
    oracle.delivered(1, Some(1), id, None);
    assert_eq!(found(&oracle), "I1");
    let mut oracle = group(FIFO, 2);
    oracle.delivered_garbage(1, "bytes");
    assert_eq!(found(&oracle), "I1");
}

#[test]
fn i2_duplicates() {
    let mut oracle = group(FIFO, 2);
    let id = oracle.sent(0, false);
    deliver(&mut oracle, 1, &[id, id]);
    assert_eq!(found(&oracle), "I2");
}

#[test]
fn i3_what_its_own_sender_loses() {
    let mut oracle = group(FIFO, 2);
    oracle.sent(0, false);
    oracle.installed(0, THREE, &[0, 1], 2);
    assert_eq!(found(&oracle), "I3");
    let mut oracle = group(FIFO, 2);
    oracle.sent(0, false);
    oracle.finish(&[0, 1]);
    assert_eq!(found(&oracle), "I3");
}

#[test]
fn i4_survivors_that_differ() {
    let mut oracle = group(FIFO, 3);
    let id = oracle.sent(2, false);
    deliver(&mut oracle, 0, &[id]);
    oracle.crashed(2);
    oracle.installed(0, THREE, &[0, 1], 2);
    oracle.installed(1, THREE, &[0, 1], 2);
    assert_eq!(found(&oracle), "I4");
}

#[test]
fn i5_holes() {
    let mut oracle = group(FIFO, 2);
    oracle.sent(0, false);
    let second = oracle.sent(0, false);
    deliver(&mut oracle, 1, &[second]);
    assert_eq!(found(&oracle), "I5");
}

#[test]
fn i6_an_effect_before_its_cause() {
    let mut oracle = group(CAUSAL, 3);
    let cause = oracle.sent(0, false);
    deliver(&mut oracle, 1, &[cause]);
    let effect = oracle.sent(1, false);
    deliver(&mut oracle, 2, &[effect]);
    assert_eq!(found(&oracle), "I6");
}

#[test]
fn i7_survivors_in_two_orders() {
    let mut oracle = group(AGREED, 3);
    let (a, b) = (oracle.sent(0, false), oracle.sent(1, false));
    deliver(&mut oracle, 0, &[a, b]);
    deliver(&mut oracle, 1, &[b, a]);
    oracle.installed(0, THREE, &[0, 1], 2);
    oracle.installed(1, THREE, &[0, 1], 2);
    assert_eq!(found(&oracle), "I7");
}

#[test]
fn i8_uniform_orders_that_fork_though_one_of_them_dies() {
    let mut oracle = group(ATOMIC, 3);
    let (a, b) = (oracle.sent(0, false), oracle.sent(1, false));
    deliver(&mut oracle, 0, &[a]);
    oracle.crashed(0);
    deliver(&mut oracle, 1, &[b]);
    assert_eq!(found(&oracle), "I8");
}

#[test]
fn i9_what_a_dead_member_delivered_uniformly_is_gone() {
    let mut oracle = group(ATOMIC, 3);
    let id = oracle.sent(0, false);
    deliver(&mut oracle, 0, &[id]);
    oracle.crashed(0);
    oracle.installed(1, THREE, &[1, 2], 2);
    assert_eq!(found(&oracle), "I9");
    // And the other way round: it is delivered where others have gone on without it.
    let mut oracle = group(ATOMIC, 3);
    let id = oracle.sent(0, false);
    oracle.installed(1, THREE, &[1, 2], 2);
    deliver(&mut oracle, 0, &[id]);
    assert_eq!(found(&oracle), "I9");
}

#[test]
fn i10_two_memberships_of_one_view() {
    let mut oracle = group(FIFO, 3);
    oracle.installed(0, THREE, &[0, 1], 2);
    oracle.installed(1, THREE, &[1, 2], 2);
    assert_eq!(found(&oracle), "I10");
}

#[test]
fn i11_two_successors_and_two_groups() {
    let mut oracle = group(FIFO, 3);
    oracle.installed(0, ViewKey { epoch: 7, number: 4 }, &[0, 1], 2);
    assert_eq!(found(&oracle), "I11");
    let mut oracle = group(FIFO, 3);
    oracle.installed(0, ViewKey { epoch: 8, number: 3 }, &[0, 1], 2);
    assert_eq!(found(&oracle), "I11");
    let mut oracle = group(FIFO, 3);
    let newcomer = oracle.begins();
    oracle.installed(newcomer, ViewKey { epoch: 9, number: 1 }, &[newcomer], 1);
    assert_eq!(found(&oracle), "I11");
}

#[test]
fn i12_backwards_and_without_oneself() {
    let mut oracle = group(FIFO, 2);
    oracle.installed(0, ONE, &[0], 1);
    assert_eq!(found(&oracle), "I12");
    let mut oracle = group(FIFO, 2);
    oracle.installed(0, THREE, &[1], 1);
    assert_eq!(found(&oracle), "I12");
}

#[test]
fn i13_a_message_of_another_view() {
    let mut oracle = group(FIFO, 2);
    let id = oracle.sent(0, false);
    deliver(&mut oracle, 0, &[id]);
    oracle.installed(0, THREE, &[0, 1], 2);
    deliver(&mut oracle, 0, &[id]);
    assert_eq!(found(&oracle), "I13");
    let mut oracle = group(FIFO, 2);
    let id = oracle.sent(0, false);
    oracle.excluded(1, &[]);
    deliver(&mut oracle, 1, &[id]);
    assert_eq!(found(&oracle), "I13");
}

#[test]
fn i14_states_that_differ() {
    let mut oracle = group(FIFO, 2);
    oracle.state(0, TWO, 1);
    oracle.state(1, TWO, 2);
    assert_eq!(found(&oracle), "I14");
}

#[test]
fn i15_two_primaries_and_a_fence_that_does_not_hold() {
    let mut oracle = group(FIFO, 3);
    oracle.is_forced = false;
    for life in [1, 2] {
        oracle.members[life].view = Some(THREE);
    }
    oracle.views.insert(THREE, View { members: vec![1, 2], voters: 2, ..View::default() });
    let late = oracle.begins();
    oracle.members[late].view = Some(TWO);
    oracle.views.get_mut(&TWO).unwrap().members = vec![0, late, 2];
    oracle.judge_primaries();
    assert_eq!(found(&oracle), "I15");
    let mut oracle = group(FIFO, 3);
    oracle.blocked(0, true);
    oracle.sent(0, false);
    assert_eq!(found(&oracle), "I15");
    let mut oracle = group(FIFO, 3);
    let id = oracle.sent(1, false);
    oracle.blocked(0, true);
    deliver(&mut oracle, 0, &[id]);
    assert_eq!(found(&oracle), "I15");
}

#[test]
fn i16_a_false_ack() {
    let mut oracle = group(FIFO, 3);
    let id = oracle.sent(0, false);
    oracle.claimed_uniform(0, id);
    oracle.crashed(0);
    oracle.installed(1, THREE, &[1, 2], 2);
    assert_eq!(found(&oracle), "I16");
    let mut oracle = group(FIFO, 3);
    let id = oracle.sent(0, false);
    oracle.claimed_uniform(0, id);
    oracle.claimed_uniform(0, id);
    assert_eq!(found(&oracle), "I16");
}

#[test]
fn i17_a_message_that_is_lost_and_not_named() {
    let mut oracle = group(FIFO, 3);
    oracle.sent(0, false);
    oracle.installed(1, THREE, &[1, 2], 2);
    oracle.excluded(0, &[]);
    assert_eq!(found(&oracle), "I17");
    let mut oracle = group(FIFO, 3);
    let id = oracle.sent(0, false);
    oracle.installed(1, THREE, &[1, 2], 2);
    oracle.excluded(0, &[id]);
    assert_eq!(found(&oracle), "nothing");
}

#[test]
fn i19_and_i20_limits() {
    let mut oracle = group(FIFO, 2);
    oracle.holds(0, "messages", 8, 8);
    oracle.ahead(0, 4, 4);
    assert_eq!(found(&oracle), "nothing");
    oracle.holds(0, "messages", 9, 8);
    assert_eq!(found(&oracle), "I19");
    let mut oracle = group(FIFO, 2);
    oracle.ahead(0, 6, 4);
    assert_eq!(found(&oracle), "I20");
}

#[test]
fn i25_is_demanded_while_a_quorum_lives_and_excused_after() {
    let mut oracle = group(FIFO, 3);
    oracle.installed(0, THREE, &[0, 1], 2);
    oracle.finish(&[0, 1]);
    assert_eq!(found(&oracle), "I25");
    // The decision dies with the only one who knew it: the old view has a quorum and must go on.
    let mut oracle = group(FIFO, 3);
    oracle.installed(2, THREE, &[2, 1], 2);
    oracle.crashed(2);
    assert!(oracle.lost().is_some(), "half of view three is left, without its senior");
    let mut oracle = group(FIFO, 3);
    oracle.installed(2, THREE, &[0, 1, 2], 3);
    oracle.crashed(2);
    assert_eq!(oracle.lost(), None);
    oracle.crashed(1);
    assert!(oracle.lost().is_some());
}
