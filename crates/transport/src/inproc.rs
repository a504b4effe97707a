//! Connections between the parts of one process, by name. Each is a pair of rings in memory that
//! both ends have from the start; a pair of sockets is their doorbell, as it is between processes.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Waker},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::{
    address::Address,
    connection::{Connection, Listener, closed_here},
    error::{BindError, ConnectError},
    options::Options,
    shm::RingConnection,
    socket::lock,
    sys::{Mapping, Side},
};

/// Who listens in this process. A listener takes its name out when it closes.
static LISTENERS: Mutex<BTreeMap<String, Weak<Door>>> = Mutex::new(BTreeMap::new());

/// Gives the listener one end of a pair; refused if there is none or its queue is full.
pub(crate) fn connect(address: &Address, name: &str) -> Result<Arc<dyn Connection>, ConnectError> {
    let failed =
        |cause: io::Error| ConnectError::from_io(address, cause, std::time::Duration::ZERO);
    let refused = || ConnectError::Refused { address: address.clone() };
    let door = lock(&LISTENERS).get(name).and_then(Weak::upgrade).ok_or_else(refused)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| failed(error.into()))?;
    let memory = RingConnection::memory_within().map_err(failed)?;
    let near = RingConnection::within(near, address.endpoint(), &memory, Side::Maker);
    let near = near.map_err(failed)?;
    if !door.offer((far, memory)) {
        return Err(refused());
    }
    Ok(Arc::new(near))
}

/// Takes the name.
pub(crate) fn bind(
    address: &Address,
    name: &str,
    options: &Options,
) -> Result<Arc<dyn Listener>, BindError> {
    let mut listeners = lock(&LISTENERS);
    if listeners.get(name).is_some_and(|door| door.strong_count() > 0) {
        return Err(BindError::NameInUse { name: name.to_owned() });
    }
    let door = Arc::new(Door {
        queue: Mutex::new(Queue { waiting: VecDeque::new(), acceptor: None, is_open: true }),
        waiting_max: options.unauthenticated_max.max(1),
    });
    listeners.insert(name.to_owned(), Arc::downgrade(&door));
    Ok(Arc::new(InprocListener { name: name.to_owned(), door, local: address.clone() }))
}

/// A name in this process.
#[derive(Debug)]
struct InprocListener {
    name: String,
    door: Arc<Door>,
    local: Address,
}

/// What connecting and accepting share.
#[derive(Debug)]
struct Door {
    queue: Mutex<Queue>,
    waiting_max: usize,
}

#[derive(Debug)]
struct Queue {
    /// Far ends, each with what it shares with its near end.
    waiting: VecDeque<(OwnedFd, Arc<Mapping>)>,
    acceptor: Option<Waker>,
    is_open: bool,
}

impl Door {
    /// Whether there was room.
    fn offer(&self, end: (OwnedFd, Arc<Mapping>)) -> bool {
        let mut queue = lock(&self.queue);
        if !queue.is_open || queue.waiting.len() >= self.waiting_max {
            return false;
        }
        queue.waiting.push_back(end);
        let acceptor = queue.acceptor.take();
        drop(queue);
        if let Some(acceptor) = acceptor {
            acceptor.wake();
        }
        true
    }
}

impl Listener for InprocListener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Connection>>> {
        let mut queue = lock(&self.door.queue);
        if !queue.is_open {
            return Poll::Ready(Err(closed_here()));
        }
        let Some((socket, memory)) = queue.waiting.pop_front() else {
            queue.acceptor = Some(cx.waker().clone());
            return Poll::Pending;
        };
        drop(queue);
        let endpoint = self.local.endpoint();
        let far = RingConnection::within(socket, endpoint, &memory, Side::Guest)?;
        Poll::Ready(Ok(Arc::new(far)))
    }

    fn local(&self) -> Address {
        self.local.clone()
    }

    fn close(&self) {
        {
            let mut listeners = lock(&LISTENERS);
            let is_ours = |door: &Weak<Door>| Weak::ptr_eq(door, &Arc::downgrade(&self.door));
            if listeners.get(&self.name).is_some_and(is_ours) {
                listeners.remove(&self.name);
            }
        }
        let mut queue = lock(&self.door.queue);
        queue.is_open = false;
        queue.waiting.clear();
        let acceptor = queue.acceptor.take();
        drop(queue);
        if let Some(acceptor) = acceptor {
            acceptor.wake();
        }
    }
}

impl Drop for InprocListener {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> Address {
        format!("inproc://{name}/x").parse().unwrap()
    }

    #[test]
    fn a_name_has_one_listener_until_it_closes() {
        let (name, options) = ("inproc-once", Options::default());
        let first = bind(&address(name), name, &options).unwrap();
        let error = bind(&address(name), name, &options).unwrap_err();
        assert!(matches!(error, BindError::NameInUse { .. }), "{error}");
        first.close();
        let second = bind(&address(name), name, &options).unwrap();
        drop(first);
        connect(&address(name), name).unwrap();
        drop(second);
        let error = connect(&address(name), name).unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        assert!(!lock(&LISTENERS).contains_key(name), "nothing is left behind");
    }

    #[tokio::test]
    async fn both_ends_are_memory_before_the_first_byte() {
        let (name, options) = ("inproc-memory", Options::default());
        let listener = bind(&address(name), name, &options).unwrap();
        let near = connect(&address(name), name).unwrap();
        let far = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        assert!(near.is_memory() && far.is_memory());
        assert!(!near.may_recv() && !far.may_recv());
        near.try_send(&[[io::IoSlice::new(b"a"), io::IoSlice::new(b"b")]]).unwrap();
        assert!(far.may_recv() && !near.may_recv());
    }

    #[tokio::test]
    async fn a_full_door_refuses_and_a_waiting_acceptor_wakes() {
        let (name, options) =
            ("inproc-full", Options { unauthenticated_max: 2, ..Options::default() });
        let listener = bind(&address(name), name, &options).unwrap();
        let _waiting = [(); 2].map(|()| connect(&address(name), name).unwrap());
        assert!(connect(&address(name), name).is_err());
        let accept = || std::future::poll_fn(|cx| listener.poll_accept(cx));
        for _ in 0..2 {
            accept().await.unwrap();
        }
        let (accepted, near) = tokio::join!(accept(), async { connect(&address(name), name) });
        assert!(accepted.is_ok() && near.is_ok());
        let (ended, ()) = tokio::join!(accept(), async { listener.close() });
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::NotConnected);
    }
}
