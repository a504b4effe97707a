//! The task of a membership: packets and answers in, time, and news of connections.

use std::sync::Arc;
use std::time::Duration;

use super::membership::Membership;
use crate::receiver::RawReceiver;

/// Packets of one turn.
const PACKETS: usize = 64;

/// Runs until the membership or the node is over.
pub(super) async fn run(member: Arc<Membership>, mut rx: RawReceiver, mut answers: RawReceiver) {
    let mut links = member.hub.links.subscribe();
    loop {
        if member.settle() {
            drop(member.lock().journal.take()); // the next membership may have it
            return;
        }
        let far = || tokio::time::Instant::now() + Duration::from_secs(3600);
        let deadline = member.deadline().map_or_else(far, Into::into);
        tokio::select! {
            packet = rx.recv() => {
                let Ok(packet) = packet else { return };
                let more = std::iter::from_fn(|| rx.try_recv().ok().flatten());
                member.receive(std::iter::once(packet).chain(more).take(PACKETS));
            }
            answer = answers.recv() => {
                let Ok(answer) = answer else { return };
                let more = std::iter::from_fn(|| answers.try_recv().ok().flatten());
                member.take_answers(std::iter::once(answer).chain(more).take(PACKETS));
            }
            () = member.bell.rearm.notified() => {}
            _ = links.changed() => member.look_at_links(),
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}
