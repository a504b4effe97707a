//! Memory that the receiver can read too, as the link sees it: whoever owns it is outside. What is in
//! it is an ordinary record; on a path without that memory it is sent like any other.

/// Memory for one record, lent by the connection. Dropping it gives it back; the connection waits
/// with using it again until the receiver has let go of it as well.
pub trait Shared: Send + Sync {
    /// What is in it.
    fn bytes(&self) -> &[u8];

    /// The same, to be written. Not called after `hand_over`.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// The memory that it is a part of; a number that no other connection of this process has.
    fn arena(&self) -> u64;

    /// The receiver is about to be told of what begins at byte `start`: where it finds that. Called
    /// once.
    fn hand_over(&mut self, start: usize) -> u64;
}

/// Gives shared memory of so many bytes, if there is any.
pub type Lender<'a> = &'a mut dyn FnMut(usize) -> Option<Box<dyn Shared>>;
