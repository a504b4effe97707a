//! Publish and subscribe: one node carries the topics, everyone else connects to it. Levels are
//! separated by dots; `*` is any one level, a last `>` any number of them.

use std::time::Duration;

use tidings::prelude::*;

const HUB: &str = "inproc://hub";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let hub = Node::bind(HUB).await?;
    let kitchen = Node::builder().name("kitchen").start().await?;
    let guest = Node::builder().name("guest").start().await?;
    let mut dishes = guest.subscribe(HUB, &["menu.*", "menu.soup.>"]).await?;

    // A subscription is made in the background: it is there once something comes through it.
    loop {
        kitchen.publish(HUB, "menu.open", b"").await?;
        if dishes.recv().timeout(Duration::from_millis(50)).await.is_ok() {
            break;
        }
    }

    kitchen.publish(HUB, "menu.soup.leek", b"with potatoes").await?;
    kitchen.publish(HUB, "menu.bread", b"rye").await?;
    kitchen.publish(HUB, "bar.tea", b"mint").await?; // nobody asked for it
    kitchen.publish(HUB, "menu.closed", b"").await?;

    loop {
        let (topic, dish) = dishes.next().await?;
        match topic.as_str() {
            "menu.open" => {}
            "menu.closed" => break,
            _ => println!("{topic}: {}", String::from_utf8_lossy(&dish)),
        }
    }

    kitchen.close().await;
    guest.close().await;
    hub.close().await;
    Ok(())
}
