//! The tasks that wait for the one doorbell of a connection, one to read and one to write. They share
//! a place in the poller, so whoever is called there wakes both.

use std::{
    sync::{Arc, Mutex},
    task::Waker,
};

use crate::socket::{Direction, lock};

/// See the file's first line.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    reader: Mutex<Option<Waker>>,
    writer: Mutex<Option<Waker>>,
}

impl Tasks {
    fn slot(&self, direction: Direction) -> &Mutex<Option<Waker>> {
        match direction {
            Direction::Read => &self.reader,
            Direction::Write => &self.writer,
        }
    }

    pub(super) fn remember(&self, direction: Direction, waker: &Waker) {
        let mut slot = lock(self.slot(direction));
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    pub(super) fn wake_one(&self, direction: Direction) {
        let waker = lock(self.slot(direction)).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl std::task::Wake for Tasks {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_one(Direction::Read);
        self.wake_one(Direction::Write);
    }
}
