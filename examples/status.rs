//! What a node knows: how far each message got, what is not settled, who is connected.

use tidings::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let office = Node::builder().name("office").start().await?;
    let address = office.listen("tcp://127.0.0.1:0").await?;
    let mut rx = office.receiver::<String>("letters").ack(Ack::Explicit).open().await?;

    let writer = Node::builder().name("writer").start().await?;
    let tx = writer.sender::<String>(&format!("{address}/letters")).open().await?;

    // Nobody has taken it yet.
    let receipt = tx.send(&"a letter".to_owned()).until(Stage::Received).await?;
    println!("the letter is {}", receipt.stage().as_str());
    print(&office, &writer);

    // Taken; the receiver owes an answer. Dropping it now would have it delivered again.
    let letter = rx.recv().await?;
    println!("{} took '{}'", office.name(), *letter);
    print(&office, &writer);

    letter.ack();
    tx.drained().await?;
    println!("the letter is processed");
    print(&office, &writer);

    // Any other node may ask as well, where that is allowed.
    let _service = office.serve_status().await?;
    let told = writer.status_of(&address.to_string()).await?;
    println!("{} listens on {} address", told.name, told.listens.len());

    writer.close().await;
    office.close().await;
    Ok(())
}

fn print(office: &Node, writer: &Node) {
    for channel in office.status().channels {
        println!("  {}: {} wait to be taken", channel.channel, channel.depth);
    }
    for sender in writer.status().senders {
        println!("  {}: {} unsettled, {}", sender.channel, sender.unsettled, sender.delivery);
    }
    for link in office.status().links {
        println!("  {} is connected: {}", link.peer, link.is_connected);
    }
}
