//! Clusters of the group machine: the scenarios by their names, and the same seeds at every build; how
//! many more were played is in docs/proof.md.

use tidings_sim::{Options, World, group_scenarios, over_the_cap, run, scale};

const SEEDS: u64 = 300;

fn options() -> Options {
    Options { world: World::Group, ..Options::default() }
}

//= GUARANTEES.md#GROUP-VIEW-1
//= GUARANTEES.md#GROUP-SYNC-1
//= GUARANTEES.md#GROUP-RELIABLE-1
//= GUARANTEES.md#GROUP-CAUSAL-1
//= GUARANTEES.md#GROUP-TOTAL-1
//= GUARANTEES.md#GROUP-UNIFORM-1
//= GUARANTEES.md#GROUP-PRIMARY-1
//= GUARANTEES.md#GROUP-STATE-1
//= GUARANTEES.md#GROUP-BOUNDED-1
#[test]
fn every_promise_is_kept_under_every_seed() {
    let (mut excused, mut crashes) = (0, 0);
    for seed in 0..SEEDS {
        let report = run(seed, &options());
        assert_eq!(report.violation, None, "{} ({})", report.reproduce(), report.plan);
        excused += report.excused;
        crashes += report.crashes;
    }
    println!("{excused} of {SEEDS} seeds are excused from progress, {crashes} processes killed");
    assert!(excused * 20 < SEEDS, "{excused} of {SEEDS} seeds are excused");
    assert!(crashes > SEEDS, "the world does no harm");
}

#[test]
fn every_scenario_ends_well() {
    for (name, play) in group_scenarios() {
        assert_eq!(play(), Ok(()), "{name}");
    }
}

//= GUARANTEES.md#DETERMINISM-1
#[test]
fn equal_seeds_make_equal_clusters() {
    for seed in 0..40 {
        let (first, second) = (run(seed, &options()), run(seed, &options()));
        assert_eq!(first, second, "seed {seed}");
        let watched = run(seed, &Options { is_traced: true, ..options() });
        assert_eq!(first.trace_hash, watched.trace_hash, "to watch seed {seed} changes it");
    }
}

#[test]
fn seeds_that_once_broke_a_promise_stay_mended() {
    const MENDED: [(u64, &str); 20] = [
        (7, "one whose view had nobody left was never told that it was out"),
        (21, "best-effort messages were numbered anew in each view, but not at their sender"),
        (57, "all leave a group that may not shrink"),
        (98, "the end of a view was asked for at its dead holder alone"),
        (230, "as seed 98"),
        (265, "who was cut from one member kept all messages"),
        (317, "who casts and does not read filled its own lane"),
        (373, "a best-effort member was given its own message while it held back"),
        (394, "as seed 317"),
        (1096, "one who asked too often was never answered"),
        (4777, "one that had stood still knew none of those who were left"),
        (13471, "those who left took one who stayed out of the group with them"),
        (20695, "all left, and one that had stood still waited for them for ever"),
        (31043, "as seed 20695"),
        (32195, "a message of a dead sequencer was delivered before its causes"),
        (33734, "a word to the epoch that was left by force was called a refusal"),
        (37226, "who was forced to go on alone lost its own last messages"),
        (46126, "a late packet of a former life put out the present one"),
        (49676, "a slow member was to go, but could not be done without"),
        (73102, "a long message waited though there was room"),
    ];
    for (seed, bug) in MENDED {
        let report = run(seed, &options());
        assert_eq!(report.violation, None, "{}: {bug}", report.reproduce());
    }
}

#[test]
fn a_larger_group_costs_more_but_not_patience() {
    let (small, large) = (scale(3), scale(16));
    assert!(large.idle_packets > small.idle_packets);
    // To find a dead member takes no longer because there are more of them.
    assert!(large.hang_ms < 2.0 * small.hang_ms, "{small:?} {large:?}");
    assert!(large.join_views <= 6, "{large:?}");
}

#[test]
fn one_more_than_the_cap_is_refused_politely() {
    let refusal = over_the_cap(64);
    assert!(refusal.as_ref().is_some_and(|text| text.contains("64")), "{refusal:?}");
}
