//! Two queues on one node that send to one destination.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use daemon_kit::clock::SystemClock;
use mail_model::Clock;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::site::{PATIENCE, Site};

/// What one of the two has open at the next hop: messages that were sent whole and are not answered before they may be.
#[derive(Debug)]
struct Side {
    open: AtomicUsize,
    answers: Semaphore,
}

/// A next hop that tells the two apart by the sender's name.
async fn serve(stream: TcpStream, sides: Arc<[Side; 2]>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 hop\r\n").await.ok()?;
    let (mut line, mut side) = (String::new(), 0);
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let reply: &[u8] = match line.get(..4).unwrap_or_default() {
            "MAIL" => {
                side = usize::from(line.contains("<b@"));
                b"250 ok\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.ok()?;
                while line != ".\r\n" {
                    line.clear();
                    if stream.read_line(&mut line).await.ok()? == 0 {
                        return None;
                    }
                }
                let Side { open, answers } = sides.get(side)?;
                open.fetch_add(1, Ordering::SeqCst);
                answers.acquire().await.ok()?.forget();
                open.fetch_sub(1, Ordering::SeqCst);
                b"250 taken\r\n"
            }
            _ => b"250 ok\r\n",
        };
        stream.write_all(reply).await.ok()?;
    }
}

async fn site(hop: &str, from: &str, state_dir: &Path) -> Site {
    let mut site = Site::new(hop).await;
    site.settings.node.state_dir = state_dir.to_owned();
    site.settings.limits.concurrency.per_destination = 4;
    site.settings.limits.concurrency.initial = 4;
    for n in 0..60 {
        site.accept(&format!("{from}@example.test"), &[&format!("r{n}@example.test")]).await;
    }
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_queues_of_a_node_share_a_destination_and_what_one_had_is_free_when_it_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hop = listener.local_addr().unwrap().to_string();
    let side = || Side { open: AtomicUsize::new(0), answers: Semaphore::new(0) };
    let sides = Arc::new([side(), side()]);
    let served = Arc::clone(&sides);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&served)));
        }
    });
    let open = || [0, 1].map(|side| sides[side].open.load(Ordering::SeqCst));
    // Waits until so much is open; a queue that has more than its part gets an answer.
    let until = async |wanted: [usize; 2], part: usize| {
        let deadline = SystemClock.now() + PATIENCE;
        while open() != wanted {
            assert!(SystemClock.now() < deadline, "{:?}, not {wanted:?}", open());
            if open()[0] > part && sides[0].answers.available_permits() == 0 {
                sides[0].answers.add_permits(1);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let state_dir = tempfile::tempdir().unwrap();
    let (mut a, mut b) = (site(&hop, "a", state_dir.path()).await, site(&hop, "b", state_dir.path()).await);
    a.start();
    until([4, 0], 4).await;
    b.start();
    until([2, 2], 2).await;
    b.delivery().stop().await;
    // The next hop has not noticed yet that nobody waits for its answers.
    until([4, 2], 4).await;
}
