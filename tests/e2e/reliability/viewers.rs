//! Half of fifty viewers stop reading, with their sockets open; a few read slowly.

use std::time::{Duration, Instant};

use crate::reliability::{endure, lasting, unharmed, works};
use crate::support::books::Books;
use crate::support::stage::Stage;
use crate::support::witness::Witness;
use crate::support::writer::Jobs;

/// Together with the one of the books: what one user may have.
const READING: usize = 19;
const SLOW: usize = 5;
const STALLED: usize = 25;

/// A slow one reads a message in so long: a fraction of what comes.
const PAUSE: Duration = Duration::from_millis(400);

const FAULT: &str = "25 of 50 viewers stall, 5 are slow";

/// What the web node may take more for those who read nothing.
const MOST_MORE: u64 = 200 << 20;

#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn viewers() {
    let stage = Stage::alone().await;
    // long lines, so that those that are held make room while somebody stalls
    let long = Jobs::default().shell("probe", "true").mark(&stage).endless_writer(&stage, 200, 3_000);
    let service = stage.node().role("service").config(long.save(&stage)).ready().await;
    let web = stage.node().role("web").ready().await;
    let robot = stage.robot(&web.url()).await;
    works(&robot).await;
    let mut books = Books::open(FAULT, &stage, std::slice::from_ref(&robot)).await;
    let start = |count| (0..count).map(|_| Witness::start(vec![robot.clone()])).collect::<Vec<_>>();
    let (reading, slow, stalled) = (start(READING), start(SLOW), start(STALLED));
    for witness in reading.iter().chain(&slow).chain(&stalled) {
        witness.until("a first line", |seen| seen.received() > 0).await;
    }
    let before = web.memory();
    for witness in &stalled {
        witness.stall(true);
    }
    for witness in &slow {
        witness.slow_down(PAUSE);
    }
    endure(&mut books, &[&web], lasting(20)).await;
    // whoever reads has everything soon, beside those who don't
    let newest = books.seen().received();
    for witness in &reading {
        witness.until("what another one saw", |seen| seen.received() + 400 >= newest).await;
    }
    let behind = stalled.iter().map(|witness| witness.seen().received()).max().unwrap();
    assert!(behind < newest, "nobody stalled");
    let slowly = slow.iter().map(|witness| witness.seen().received()).min().unwrap();
    assert!(behind < slowly && slowly < newest, "slow ones read on: {behind}, {slowly}, {newest}");
    for witness in stalled.iter().chain(&slow) {
        witness.stall(false);
    }
    let again = Instant::now();
    let newest = books.seen().received();
    for witness in stalled.iter().chain(&slow) {
        // as a line or in a gap
        witness.until("the newest lines", |seen| seen.received() + seen.in_gaps() + 400 >= newest).await;
    }
    books.recovered(again.elapsed());
    endure(&mut books, &[&web], Duration::from_secs(1)).await;
    let most = books.memory();
    assert!(most <= before + MOST_MORE, "from {} to {} MiB", before >> 20, most >> 20);
    let closed = books.close(&robot).await;
    for witness in reading {
        let seen = closed.check_also(witness).await;
        assert_eq!(seen.in_gaps(), 0, "whoever reads gets everything");
    }
    let mut late = Vec::new();
    for witness in stalled.into_iter().chain(slow) {
        late.push(closed.check_also(witness).await);
    }
    let worst = late.iter().max_by_key(|seen| seen.in_gaps()).unwrap();
    closed.write(&format!("{FAULT}: one that stalled"), worst);
    unharmed(&[&service, &web]);
}
