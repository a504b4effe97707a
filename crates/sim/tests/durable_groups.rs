//! Durable groups through losses of power, at the simulated disk.

//= GUARANTEES.md#GROUP-DURABLE-1
#[test]
fn what_was_certain_in_a_durable_group_survives_every_loss_of_power() {
    for seed in 0..60 {
        if let Some(violation) = tidings_sim::run_durable_groups(seed, 0) {
            panic!("seed {seed}: {violation:?}");
        }
    }
}
