//! This process's ends of the two rings of a connection, each for one caller at a time.

use std::sync::{Arc, Mutex};

use super::arena::Arena;
use crate::{
    connection::{Ready, Want},
    ring::{Consumer, Producer},
    socket::lock,
    sys::{Lane, Mapping, Side, atomic::Ordering},
};

/// See the file's first line.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) producer: Mutex<Producer>,
    pub(super) consumer: Mutex<Consumer>,
    /// The consumer's lane once more, for looks without its lock.
    inlet: Lane,
    /// Where this process lays bodies for the peer.
    pub(super) arena: Arc<Arena>,
    pub(super) mapping: Arc<Mapping>,
    /// Who writes what this process reads.
    pub(super) peer: Side,
}

impl Ends {
    pub(super) fn new(mapping: &Arc<Mapping>, side: Side) -> Self {
        let other = if side == Side::Maker { Side::Guest } else { Side::Maker };
        Self {
            producer: Mutex::new(Producer::new(Lane::written_by(side, mapping))),
            consumer: Mutex::new(Consumer::new(Lane::written_by(other, mapping))),
            inlet: Lane::written_by(other, mapping),
            arena: Arena::new(mapping, side),
            mapping: mapping.clone(),
            peer: other,
        }
    }

    /// Whether there may be something to read. What the marks say is not checked here.
    pub(super) fn has_bytes(&self) -> bool {
        let marks = self.inlet.marks();
        marks.tail.load(Ordering::Relaxed) != marks.head.load(Ordering::Relaxed)
    }

    /// Asks the peer to ring when it has made progress.
    pub(super) fn ask(&self, want: Want) {
        if want.read {
            lock(&self.consumer).ask_for_bytes();
        }
        if want.write {
            lock(&self.producer).ask_for_room();
        }
    }

    pub(super) fn is_awake(&self, want: Want) {
        if want.read {
            lock(&self.consumer).is_awake();
        }
        if want.write {
            lock(&self.producer).is_awake();
        }
    }

    /// What a call would get on with. Marks that make no sense are for the call to find.
    pub(super) fn ready(&self, want: Want) -> Ready {
        Ready {
            read: want.read && lock(&self.consumer).ready(1) != Ok(0),
            write: want.write && lock(&self.producer).room(1) != Ok(0),
            woken: false,
        }
    }
}
