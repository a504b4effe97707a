//! The memory that the two ends of a simulated connection share: bodies that are lent, found by their
//! place and taken once. It remembers who breaks the rules of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::Shared;

/// See the file's first line. Its clones are the same memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lent(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    next: u64,
    /// By connection and place.
    bodies: BTreeMap<(u64, u64), Vec<u8>>,
    is_written_late: bool,
}

impl Lent {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory of a connection.
    pub fn lend(&self, conn: u64, len: usize) -> Box<dyn Shared> {
        Box::new(Parcel { lent: self.clone(), conn, bytes: vec![0; len], is_handed_over: false })
    }

    /// What lies at a place of a connection; it lies there no more.
    pub fn claim(&self, conn: u64, place: u64, len: usize) -> Option<Vec<u8>> {
        let mut books = self.books();
        let body = books.bodies.get(&(conn, place))?.get(..len)?.to_vec();
        books.bodies.remove(&(conn, place));
        Some(body)
    }

    /// Whether anyone wrote what was handed over.
    pub fn is_written_late(&self) -> bool {
        self.books().is_written_late
    }
}

#[derive(Debug)]
struct Parcel {
    lent: Lent,
    conn: u64,
    bytes: Vec<u8>,
    is_handed_over: bool,
}

impl Shared for Parcel {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        if self.is_handed_over {
            self.lent.books().is_written_late = true;
        }
        &mut self.bytes
    }

    fn arena(&self) -> u64 {
        self.conn
    }

    fn hand_over(&mut self, start: usize) -> u64 {
        self.is_handed_over = true;
        let mut books = self.lent.books();
        books.next += 1;
        let (place, body) = (books.next, self.bytes[start..].to_vec());
        books.bodies.insert((self.conn, place), body);
        place
    }
}
