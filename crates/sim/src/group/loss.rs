//! Losing chosen packets: what a scenario takes away, and what kind of frames a packet has.

use tidings_wire::group::{Frame, Packet};

use super::cluster::Cluster;

/// Kinds of frames that somebody may want to lose, or to die at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Order,
    Ack,
    Heartbeat,
    Promised,
    Accept,
    Accepted,
    Decided,
    Piece,
    Other,
}

/// Packets between two slots (or all, where it does not say) are lost so many times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    pub from: Option<usize>,
    pub to: Option<usize>,
    /// Only packets that have such a frame.
    pub kind: Option<Kind>,
    pub times: u32,
}

fn kind_of(frame: &Frame<'_>) -> Kind {
    match frame {
        Frame::Data { .. } | Frame::Loose { .. } => Kind::Data,
        Frame::Order { .. } => Kind::Order,
        Frame::Ack { .. } => Kind::Ack,
        Frame::Heartbeat { .. } => Kind::Heartbeat,
        Frame::Promised { .. } => Kind::Promised,
        Frame::Accept { .. } => Kind::Accept,
        Frame::Accepted { .. } => Kind::Accepted,
        Frame::Decided { .. } => Kind::Decided,
        Frame::Piece { .. } => Kind::Piece,
        Frame::Ask(_)
        | Frame::Prepare { .. }
        | Frame::Nack { .. }
        | Frame::Join(_)
        | Frame::Refuse { .. }
        | Frame::Excluded { .. }
        | Frame::Seek { .. }
        | Frame::Seen { .. }
        | Frame::Fetch { .. } => Kind::Other,
    }
}

/// Whether a packet has a frame of the kind.
pub(crate) fn has(bytes: &[u8], kind: Kind) -> bool {
    Packet::parse(bytes).is_ok_and(|packet| packet.frames().any(|frame| kind_of(&frame) == kind))
}

impl Cluster {
    /// Whether a scenario takes this packet away.
    pub fn is_lost(&mut self, from: usize, to: usize, bytes: &[u8]) -> bool {
        let found = self.losses.iter_mut().find(|loss| {
            loss.times > 0
                && loss.from.is_none_or(|slot| slot == from)
                && loss.to.is_none_or(|slot| slot == to)
                && loss.kind.is_none_or(|kind| has(bytes, kind))
        });
        match found {
            Some(loss) => {
                loss.times -= 1;
                true
            }
            None => false,
        }
    }

    /// The messages of which a packet has the whole body, where somebody watches.
    pub fn brought(&self, bytes: &[u8]) -> Vec<u64> {
        let Ok(packet) = Packet::parse(bytes) else { return Vec::new() };
        let mut brought = Vec::new();
        for frame in packet.frames() {
            if let Frame::Data { records, .. } | Frame::Loose { records, .. } = frame {
                brought.extend(records.filter_map(|record| self.by_body.get(record.body).copied()));
            }
        }
        brought
    }
}
