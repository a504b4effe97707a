//! What is particular to queues: dead doors, dead peers, what is left of them and who removes it.

use super::*;
use crate::{Wake, Want};
use std::{future::poll_fn, io::IoSlice};

/// A name of its own for each test, whose queues are removed at its end; `None` without queues.
struct Name(String);

impl Name {
    fn new(test: &str) -> Option<(Self, Address)> {
        let name = Self(format!("tidings-test-{test}-{}", std::process::id()));
        let tried = queue_name(&name.0);
        match sys::make_queue(&tried, QueueSize { messages: 2, message_len: 64 }) {
            Ok(_) => sys::unlink_queue(&tried).unwrap(),
            Err(error) => {
                println!("NOT RUN: {test}: {error}");
                return None;
            }
        }
        let address = format!("mq:///{}/x", name.0).parse().unwrap();
        Some((name, address))
    }

    /// What is there of it, without what others have.
    fn queues(&self) -> Option<Vec<Queue>> {
        let all = match queues() {
            Ok(all) => all,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                return None;
            }
        };
        let is_ours = |queue: &Queue| queue.name[1..].starts_with(&self.0);
        Some(all.into_iter().filter(is_ours).collect())
    }

    fn door(&self) -> CString {
        queue_name(&format!("{}{DOOR}", self.0))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = sys::unlink_queue(&self.door());
    }
}

async fn accept(listener: &dyn Listener) -> Arc<dyn Connection> {
    poll_fn(|cx| listener.poll_accept(cx)).await.unwrap()
}

fn say(to: &dyn Connection, text: &[u8]) -> io::Result<usize> {
    to.try_send(&[[IoSlice::new(text), IoSlice::new(b"")]])
}

/// As if the process had been killed: the lock goes, the name stays.
fn make_stale(door: &CString) {
    let size = QueueSize { messages: 4, message_len: NUMBER_MAX };
    drop(sys::make_queue(door, size).unwrap());
}

#[tokio::test]
async fn a_dead_door_refuses_and_is_replaced() {
    let Some((name, address)) = Name::new("dead") else { return };
    make_stale(&name.door());
    let error = connect(&address, &name.0, &Options::default()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    let live = bind(&address, &name.0).unwrap();
    let error = bind(&address, &name.0).unwrap_err();
    assert!(matches!(error, BindError::QueueInUse { .. }), "{error}");
    let near = connect(&address, &name.0, &Options::default()).await.unwrap();
    let far = accept(&*live).await;
    assert_eq!(say(&*near, b"hello").unwrap(), 5);
    assert_eq!(far.try_recv(&mut BytesMut::new(), 100).unwrap().len, 5);
    drop(live);
    assert_eq!(sys::open_queue(&name.door()).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(say(&*far, b"still").unwrap(), 5, "what was accepted lives on");
}

#[tokio::test]
async fn an_accepted_connection_has_no_name_and_a_refused_one_loses_it() {
    let Some((name, address)) = Name::new("names") else { return };
    let listener = bind(&address, &name.0).unwrap();
    let near = connect(&address, &name.0, &Options::default()).await.unwrap();
    if let Some(found) = name.queues() {
        let kinds: Vec<_> = found.iter().map(|queue| (queue.kind, queue.is_in_use)).collect();
        let in_use = |kind| (kind, Some(true));
        use QueueKind::{Connection, Door};
        assert_eq!(kinds, [in_use(Door), in_use(Connection), in_use(Connection)]);
        for queue in &found {
            let refused = remove_queue(&queue.name).unwrap_err();
            assert!(matches!(refused, RemoveError::InUse { .. }), "{refused}");
        }
    }
    let far = accept(&*listener).await;
    assert!(name.queues().is_none_or(|found| found.len() == 1));
    let second = connect(&address, &name.0, &Options::default()).await.unwrap();
    drop(listener);
    assert!(name.queues().is_none_or(|found| found.len() == 2), "the second's");
    let late = second.wait(READ, &Wake::new().unwrap(), None).unwrap();
    assert!(late.read, "nobody is behind the door any more");
    assert!(say(&*second, b"x").is_err());
    drop(second);
    assert!(name.queues().is_none_or(|found| found.is_empty()));
    drop((near, far));
}

const READ: Want = Want { read: true, write: false };

/// A process that is killed says nothing, but its locks go.
#[tokio::test]
async fn a_peer_without_a_reader_is_gone_after_its_last_word() {
    let Some((name, address)) = Name::new("gone") else { return };
    let listener = bind(&address, &name.0).unwrap();
    for is_dialler in [true, false] {
        let near = connect(&address, &name.0, &Options::default()).await.unwrap();
        let far = accept(&*listener).await;
        let (dies, lives) = if is_dialler { (near, far) } else { (far, near) };
        assert_eq!(say(&*dies, b"last words").unwrap(), 10);
        // Full, so that the empty message of an end does not fit: as if it had been killed.
        while say(&*dies, &[7; 512]).is_ok() {}
        drop(dies);
        let wake = Wake::new().unwrap();
        let mut into = BytesMut::new();
        loop {
            assert!(lives.wait(READ, &wake, None).unwrap().read);
            match lives.try_recv(&mut into, 100) {
                Ok(received) if received.len == 0 => break,
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert_eq!(&into[..10], b"last words");
        assert!(into[10..].iter().all(|byte| *byte == 7));
        assert!(say(&*lives, b"x").is_err());
    }
}

#[tokio::test]
async fn nonsense_at_the_door_brings_nobody() {
    let Some((name, address)) = Name::new("nonsense") else { return };
    let listener = bind(&address, &name.0).unwrap();
    let door = sys::open_queue(&name.door()).unwrap();
    for text in [&b"../../etc/passwd"[..], b"", b"\xff\xfe", b"1-2-3", &[b'a'; NUMBER_MAX]] {
        sys::send_message(door.as_fd(), text, 0).unwrap();
    }
    let near = connect(&address, &name.0, &Options::default()).await.unwrap();
    let far = accept(&*listener).await;
    say(&*near, b"me").unwrap();
    assert_eq!(far.try_recv(&mut BytesMut::new(), 100).unwrap().len, 2);
}

#[test]
fn leftovers_are_listed_and_removed() {
    let Some((name, _)) = Name::new("left") else { return };
    make_stale(&name.door());
    let stem = format!("{}{DOOR}.1-2-3", name.0);
    drop(Pair::make(&stem).unwrap());
    let plain = queue_name(&name.0);
    drop(sys::make_queue(&plain, QueueSize { messages: 2, message_len: 64 }).unwrap());
    if let Some(found) = name.queues() {
        let states: Vec<_> = found.iter().map(|queue| (queue.kind, queue.is_in_use)).collect();
        use QueueKind::{Connection, Door, Plain};
        let unused = |kind| (kind, Some(false));
        let expected = [(Plain, None), unused(Door), unused(Connection), unused(Connection)];
        assert_eq!(states, expected);
    }
    for end in ["", DOOR, ".tidings.1-2-3.up", ".tidings.1-2-3.down"] {
        remove_queue(&format!("/{}{end}", name.0)).unwrap();
        let error = remove_queue(&format!("{}{end}", name.0)).unwrap_err();
        assert!(matches!(error, RemoveError::NotFound { .. }), "{error}");
    }
    assert!(remove_queue("/").is_err() && remove_queue("a/b").is_err());
}

#[test]
fn the_size_of_queues_keeps_to_the_limits() {
    let limits = queue_limits();
    assert!(limits.messages_max > 0 && limits.message_len_max > 0);
    let Some((name, _)) = Name::new("size") else { return };
    let pair = Pair::make(&format!("{}{DOOR}.1", name.0)).unwrap();
    let (size, count) = sys::measure_queue(pair.up.as_fd()).unwrap();
    assert!(size.messages <= limits.messages_max && size.message_len <= limits.message_len_max);
    assert_eq!((size.message_len % 8, count), (0, 0));
    unlink_pair(&pair.stem);
}
