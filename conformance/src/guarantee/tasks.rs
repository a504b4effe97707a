//! The main points once more for tasks of a runtime: they await what threads wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tidings::prelude::*;
use tidings::{Order, TypedSender};

use super::{CHANNEL, number};
use crate::{Place, SOON, Sitter, WHILE};

async fn pair(sitter: Sitter) -> (Node, Node, Place) {
    let place = sitter.place();
    let server = crate::place::builder().name("server").start().await.unwrap();
    server.listen(place.address()).await.unwrap();
    let client = crate::place::builder().name("client").start().await.unwrap();
    (server, client, place)
}

/// Everything arrives once and in order; the sender hears of it.
//= GUARANTEES.md#DELIVERY-2
//= GUARANTEES.md#ORDER-1
pub async fn messages_arrive_in_order(sitter: Sitter) {
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        let (server, client, place) = pair(sitter).await;
        let mut rx = server.raw_receiver(CHANNEL).open().await.unwrap();
        let tx = client.raw_sender(&place.channel(CHANNEL)).delivery(delivery).capacity(64);
        let tx = tx.open().await.unwrap();
        let sender = tokio::spawn(async move {
            for number in 0..3000u32 {
                tx.send(&number.to_le_bytes()).timeout(SOON).await.unwrap();
            }
            tx.drained().timeout(SOON).await.unwrap();
            tx.send(b"last").until(Stage::Processed).timeout(SOON).await.unwrap().stage()
        });
        for expected in 0..3000 {
            let message = rx.recv().timeout(SOON).await.unwrap();
            assert_eq!(number(&message), expected);
        }
        assert_eq!(&*rx.recv().timeout(SOON).await.unwrap(), b"last");
        assert_eq!(sender.await.unwrap(), Stage::Processed);
    }
}

/// Many tasks with a sender each, many channels, one link.
//= GUARANTEES.md#ORDER-1
//= GUARANTEES.md#ISOLATION-1
pub async fn many_tasks_share_a_link(sitter: Sitter) {
    let (server, client, place) = pair(sitter).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..20 {
        let channel = format!("channel-{task}");
        let mut rx = server.raw_receiver(&channel).open().await.unwrap();
        let tx = client.raw_sender(&place.channel(&channel)).order(Order::Fifo);
        let tx = tx.open().await.unwrap();
        tasks.spawn(async move {
            for number in 0..100u32 {
                tx.send(&number.to_le_bytes()).until(Stage::Received).timeout(SOON).await.unwrap();
            }
        });
        tasks.spawn(async move {
            for expected in 0..100 {
                assert_eq!(number(&rx.recv().timeout(SOON).await.unwrap()), expected);
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
}

/// A rendezvous is awaited until its message is taken.
//= GUARANTEES.md#RENDEZVOUS-1
pub async fn a_rendezvous_waits_for_its_receiver(sitter: Sitter) {
    let (server, client, place) = pair(sitter).await;
    let tx = client.raw_sender(&place.channel(CHANNEL)).rendezvous().open().await.unwrap();
    let mut rx = server.raw_receiver(CHANNEL).rendezvous().open().await.unwrap();
    for round in 0..20u32 {
        let late = tx.send(b"late").timeout(WHILE / 20).await;
        assert!(matches!(late, Err(SendError::Expired { .. })), "{late:?}");
        let body = round.to_le_bytes();
        let (sent, taken) = tokio::join!(tx.send(&body).timeout(SOON), rx.recv().timeout(SOON));
        assert_eq!(number(&taken.unwrap()), round);
        assert!(sent.unwrap().stage() >= Stage::Taken);
    }
}

/// Requests run side by side, and a handler's failure is the asker's error.
//= GUARANTEES.md#REQUEST-1
pub async fn requests_are_answered(sitter: Sitter) {
    let (server, client, place) = pair(sitter).await;
    let serve = server.serve("square", |number: u64| async move {
        tokio::time::sleep(Duration::from_millis(number % 3)).await;
        number.checked_mul(number).ok_or("too large")
    });
    let _service = serve.await.unwrap();
    let target = place.channel("square");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100u64 {
        let (client, target) = (client.clone(), target.clone());
        tasks.spawn(async move {
            let square: u64 = client.request(&target, &number).timeout(SOON).await.unwrap();
            assert_eq!(square, number * number);
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let failed = client.request::<u64>(&target, &u64::MAX).timeout(SOON).await;
    assert!(
        matches!(&failed, Err(RequestError::Failed { text, .. }) if text == "too large"),
        "{failed:?}"
    );
}

/// Of many requests at once each waits for its own answer and its own time: those that are never
/// answered end when they said, and the others do not wait for them.
//= GUARANTEES.md#REQUEST-1
//= GUARANTEES.md#DEADLINE-1
pub async fn each_request_ends_in_its_own_time(sitter: Sitter) {
    let (server, client, place) = pair(sitter).await;
    let mut responder = server.raw_responder("even").await.unwrap();
    let answering = tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Ok(request) = responder.next().await {
            match number(&request) {
                odd if odd % 2 == 1 => unanswered.push(request),
                even => request.reply(&(even + 1).to_le_bytes()).unwrap(),
            }
        }
    });
    let requester = client.raw_requester(&place.channel("even")).unwrap();
    requester.request(&0u32.to_le_bytes()).timeout(SOON).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for asked in 0..64u32 {
        let requester = requester.clone();
        tasks.spawn(async move {
            let timeout = if asked % 2 == 1 { WHILE / (1 + asked % 4) } else { SOON };
            let begun = Instant::now();
            let answer = requester.request(&asked.to_le_bytes()).timeout(timeout).await;
            if asked % 2 == 0 {
                assert_eq!(number(&answer.unwrap()), asked + 1);
            } else {
                assert!(matches!(answer, Err(RequestError::Timeout { .. })), "{answer:?}");
                assert!(begun.elapsed() >= timeout, "{:?}", begun.elapsed());
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    answering.abort();
}

/// Requests that are dropped at any moment leave no answer behind that another one gets.
//= GUARANTEES.md#REQUEST-1
pub async fn scenario_18_cancelled_requests_take_nobodys_answer(sitter: Sitter) {
    let (server, client, place) = pair(sitter).await;
    let serve = server.raw_serve("echo", |body: Vec<u8>| async move {
        tokio::time::sleep(Duration::from_micros(u64::from(body[0]) * 7 % 300)).await;
        Ok::<_, String>(body)
    });
    let _service = serve.await.unwrap();
    let requester = client.raw_requester(&place.channel("echo")).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8u32 {
        let requester = requester.clone();
        tasks.spawn(async move {
            let mut answered = 0;
            for round in 0..200u32 {
                let asked = (round << 8 | task).to_le_bytes();
                let limit = Duration::from_micros(u64::from(round * 37 + task) % 900);
                let request = requester.request(&asked).timeout(SOON);
                if let Ok(answer) = tokio::time::timeout(limit, request).await {
                    assert_eq!(*answer.unwrap(), asked);
                    answered += 1;
                }
            }
            let asked = (1000 << 8 | task).to_le_bytes();
            assert_eq!(*requester.request(&asked).timeout(SOON).await.unwrap(), asked);
            answered
        });
    }
    let answered: u32 = tasks.join_all().await.iter().sum();
    println!("{answered} of 1600 requests were not cancelled");
}

/// Futures that are dropped in the middle of it lose and double nothing.
//= GUARANTEES.md#DELIVERY-3
//= GUARANTEES.md#OUTCOME-1
pub async fn scenario_18_cancelled_futures_lose_and_double_nothing(sitter: Sitter) {
    let (server, client, place) = pair(sitter).await;
    let mut rx = server.raw_receiver(CHANNEL).capacity(2).open().await.unwrap();
    let tx = client.raw_sender(&place.channel(CHANNEL)).capacity(4).open().await.unwrap();
    let sender = tokio::spawn(async move {
        let mut accepted = Vec::new();
        for number in 0..2000u32 {
            let limit = Duration::from_micros(u64::from(number * 17 % 300));
            let body = number.to_le_bytes();
            let sent = tokio::time::timeout(limit, tx.send(&body).timeout(SOON)).await;
            if let Ok(sent) = sent {
                sent.unwrap();
                accepted.push(number);
            }
        }
        tx.drained().timeout(SOON).await.unwrap();
        accepted
    });
    let mut taken = Vec::new();
    let (mut round, mut cancelled) = (0u64, 0);
    loop {
        round += 1;
        let limit = Duration::from_micros(round * 13 % 200);
        match tokio::time::timeout(limit, rx.recv()).await {
            Ok(message) => taken.push(number(&message.unwrap())),
            Err(_) if sender.is_finished() => break,
            Err(_) => cancelled += 1,
        }
    }
    while let Some(message) = rx.try_recv().unwrap() {
        taken.push(number(&message));
    }
    let accepted = sender.await.unwrap();
    println!("{} of 2000 accepted, {cancelled} receives cancelled", accepted.len());
    assert_eq!(taken, accepted);
}

/// `for_each` acknowledges by result: an error brings the message again.
//= GUARANTEES.md#DELIVERY-2
pub async fn for_each_acknowledges_by_result(sitter: Sitter) {
    let (server, client, place) = pair(sitter).await;
    let rx = server.raw_receiver(CHANNEL).open().await.unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let loops = tokio::spawn(rx.for_each(move |message| {
        let attempt = message.attempt();
        counted.fetch_add(1, Ordering::Relaxed);
        async move { if attempt < 2 { Err("not now") } else { Ok(()) } }
    }));
    let tx: TypedSender<u32> = client.sender(&place.channel(CHANNEL));
    let tx = tx.open().await.unwrap();
    for number in 0..10 {
        let sent = tx.send(&number).until(Stage::Processed).timeout(SOON).await.unwrap();
        assert_eq!(sent.stage(), Stage::Processed);
    }
    assert_eq!(calls.load(Ordering::Relaxed), 20);
    let _ = server.close().await;
    loops.await.unwrap().unwrap();
}

/// A task may not block its runtime: `.wait()` says so and sends nothing.
pub async fn waiting_inside_a_runtime_is_refused(sitter: Sitter) {
    let (server, client, place) = pair(sitter).await;
    let mut rx = server.raw_receiver(CHANNEL).open().await.unwrap();
    let tx = client.raw_sender(&place.channel(CHANNEL)).open().await.unwrap();
    let refused = tx.send(b"x").until(Stage::Received).wait();
    assert!(matches!(refused, Err(SendError::InsideRuntime)), "{refused:?}");
    assert!(matches!(rx.recv().timeout(WHILE).wait(), Err(RecvError::InsideRuntime)));
    assert!(matches!(tx.drained().wait(), Err(SendError::InsideRuntime)));
    let came = rx.recv().timeout(WHILE).await;
    assert!(matches!(came, Err(RecvError::Timeout)), "it was sent all the same: {came:?}");
}

/// Closing awaits what waits.
//= GUARANTEES.md#CLOSE-1
pub async fn closing_drains(sitter: Sitter) {
    let (server, client, place) = pair(sitter).await;
    let mut rx = server.raw_receiver(CHANNEL).open().await.unwrap();
    let tx = client.raw_sender(&place.channel(CHANNEL)).open().await.unwrap();
    for number in 0..500u32 {
        tx.send(&number.to_le_bytes()).await.unwrap();
    }
    let reader = tokio::spawn(async move {
        for expected in 0..500 {
            assert_eq!(number(&rx.recv().timeout(SOON).await.unwrap()), expected);
        }
        rx
    });
    assert_eq!(client.close().timeout(SOON).await.left(), 0);
    reader.await.unwrap();
}
