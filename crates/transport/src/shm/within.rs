//! Two ends in one process: they have their memory from the start, and nothing to agree on.

use std::{io, os::fd::OwnedFd, sync::Arc};

use super::{Doubt, LANE_LEN, RingConnection, ends::Ends};
use crate::sys::{self, Mapping, Side};

impl RingConnection {
    /// The memory for both ends.
    pub(crate) fn memory_within() -> io::Result<Arc<Mapping>> {
        let (_, mapping) = sys::make_memory(LANE_LEN)?;
        Ok(mapping)
    }

    /// One of the ends; the other has the other socket of a pair and is on the other side.
    pub(crate) fn within(
        socket: OwnedFd,
        peer: String,
        memory: &Arc<Mapping>,
        side: Side,
    ) -> io::Result<Self> {
        let connection = Self::new(socket, peer, Doubt::None)?;
        let _ = connection.ends.set(Ends::new(memory, side));
        Ok(connection)
    }
}
