//! What the checkers look at in a process: the packets that leave it, what is lent to it, and that bad
//! packets change nothing.

use tidings_core::{LinkStats, Place, Refused, Time};
use tidings_wire::{Frame, Packet, Records};

use super::Peer;
use crate::plan::MS;
use crate::world::Shared;

impl Peer {
    /// Looks into a packet that leaves: it is well formed, and keeps to credit and deadlines.
    pub(super) fn inspect(&mut self, sh: &mut Shared, now: Time, bytes: &[u8]) {
        let len = bytes.len() as u64;
        sh.oracle.note(self.node, 13, len, u64::from(self.link.session_id()), || {
            format!("sends a packet of {len} bytes")
        });
        let packet = match Packet::parse_with(bytes, !sh.plan.is_shared) {
            Ok(packet) => packet,
            Err(malformed) => return sh.oracle.fail("I20", format!("it sends {malformed:?}")),
        };
        for frame in packet.frames() {
            match frame {
                Frame::Data(data) => {
                    let last = data.base + u64::from(data.count) - 1;
                    self.inspect_credit(sh, data.stream, last);
                    self.inspect_deadlines(sh, now, data.records);
                }
                Frame::Lent(lent) => self.inspect_credit(sh, lent.stream, lent.seq),
                Frame::Progress(progress) => {
                    sh.grant(self.node, self.other, progress.stream, progress.credit);
                }
                Frame::Ack { .. }
                | Frame::Open(_)
                | Frame::Accept { .. }
                | Frame::Refuse { .. }
                | Frame::Verdict { .. }
                | Frame::Skip { .. }
                | Frame::Cancel { .. }
                | Frame::Base { .. }
                | Frame::Finish { .. }
                | Frame::Finished { .. }
                | Frame::Ping { .. }
                | Frame::Pong { .. } => {}
            }
        }
    }

    /// I20: nothing goes without credit.
    fn inspect_credit(&self, sh: &mut Shared, stream: u32, last: u64) {
        let limit = sh.granted(self.other, self.node, stream);
        sh.oracle.check(last <= limit, "I20", || {
            format!("{last} is sent on stream {stream} with credit {limit}")
        });
    }

    /// I21: the time that travels is the time that is left.
    pub(super) fn inspect_deadlines(&self, sh: &mut Shared, now: Time, records: &[u8]) {
        for record in Records::new(records).filter(|record| record.meta.ttl_ms > 0) {
            let Some(id) = crate::app::identify(&record) else { continue };
            if record.meta.fragment.is_some_and(|(offset, _)| offset > 0) || id >= sh.oracle.total()
            {
                continue;
            }
            let left = sh.oracle.message(id).deadline.map_or(0, |at| at.saturating_sub(now.0));
            let told = u64::from(record.meta.ttl_ms) * MS;
            sh.oracle.check(told <= left.max(MS), "I21", || {
                format!("message {id} is sent with {told} ns left, but has {left}")
            });
        }
    }

    /// I26: bytes that were changed on the way change nothing here.
    pub(super) fn check_untouched(&self, sh: &mut Shared, stats: &LinkStats, text: &str) {
        let after = self.link.stats();
        let refused = |count: u64| format!("packets_refused: {count},");
        let now = format!("{:?}", self.link);
        let now = now.replace(&refused(after.packets_refused), &refused(stats.packets_refused));
        let is_same = now == text && after.packets_received == stats.packets_received;
        sh.oracle.check(is_same, "I26", || "a packet that was changed had an effect".to_owned());
    }

    pub(super) fn check_datagram(&self, sh: &mut Shared, result: Result<(), Refused>) {
        let is_fine = matches!(
            result,
            Ok(()) | Err(Refused::Malformed | Refused::StaleSession | Refused::Duplicate)
        );
        sh.oracle.check(is_fine, "I20", || format!("an honest packet was refused: {result:?}"));
    }

    /// The connection that carries the session.
    pub fn session_conn(&self) -> Option<u64> {
        self.wires.iter().find(|wire| wire.is_session).map(|wire| wire.conn)
    }

    /// What the peer has lent there.
    pub(super) fn claim(&self, sh: &mut Shared, place: Place) -> Vec<u8> {
        let (Place::Lent { at, len }, Some(conn)) = (place, self.session_conn()) else {
            return Vec::new();
        };
        let claimed = sh.lent.claim(conn, at, len as usize);
        sh.oracle.check(claimed.is_some(), "I31", || format!("nothing is lent at {at}"));
        claimed.unwrap_or_default()
    }
}
