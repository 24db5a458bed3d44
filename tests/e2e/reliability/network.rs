//! A network that is cut, and one that loses packets: the service node lives in a network namespace of its own, behind a pair of
//! virtual interfaces, and nftables drop what goes to and fro. The test itself runs in a network of its own, so that nothing of it
//! touches the machine's.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::reliability::{endure, jobs, lasting, unharmed, until_noticed, works};
use crate::support::books::Books;
use crate::support::robot::Robot;
use crate::support::stage::Stage;
use crate::support::wait::{eventually, so};

/// Set in the test's own network.
const INSIDE: &str = "SWITCHBOARD_TEST_OWN_NETWORK";

/// The ends of the wire.
const NEAR: &str = "10.77.0.1";
const FAR: &str = "10.77.0.2";

/// Whether this is the test in a network of its own; otherwise that was run, and was good.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--"]).arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", test]).env(INSIDE, "1");
    let done = command.output().expect("unshare (util-linux) is there");
    // it is counted once: here
    let said = String::from_utf8_lossy(&done.stdout);
    for line in said.lines().filter(|line| !line.starts_with("test ") && !line.starts_with("running ")) {
        println!("{line}");
    }
    let (status, wrong) = (done.status, String::from_utf8_lossy(&done.stderr));
    assert!(
        status.success(),
        "in a network of its own (unshare --net, as root or in a user namespace): {status}\n{wrong}"
    );
    false
}

/// A program that must do what it is told.
fn tell(program: &str, arguments: &str) {
    let words = arguments.split_whitespace();
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    let done = command.args(words).env("PATH", format!("{path}:/usr/sbin:/sbin")).status();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs iproute2 and nftables"));
    assert!(done.success(), "{program} {arguments}: {done}");
}

/// A network behind a wire. Dropped: gone, and the wire with it.
struct Network {
    holder: Child,
}

impl Network {
    async fn new() -> Self {
        let mut command = Command::new("unshare");
        let holder = command.args(["--net", "--", "sleep", "infinity"]).stdin(Stdio::null()).spawn().unwrap();
        let network = Self { holder };
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let pid = network.pid().to_string();
        eventually("a network of its own", async || so(of(&pid)? != of("self")?)).await;
        tell("ip", "link set lo up");
        tell("ip", "link add wire type veth peer name eriw");
        tell("ip", &format!("link set eriw netns {pid}"));
        tell("ip", &format!("addr add {NEAR}/24 dev wire"));
        tell("ip", "link set wire up");
        network.within("ip link set lo up");
        network.within(&format!("ip addr add {FAR}/24 dev eriw"));
        network.within("ip link set eriw up");
        network
    }

    fn pid(&self) -> u32 {
        self.holder.id()
    }

    fn within(&self, line: &str) {
        tell("nsenter", &format!("--target {} --net -- {line}", self.pid()));
    }

    /// Drops what fits this rule of nftables, in both directions.
    fn drop_what(&self, rule: &str) {
        self.within("nft add table inet fault");
        for (chain, hook) in [("in", "input"), ("out", "output")] {
            self.within(&format!("nft add chain inet fault {chain} {{ type filter hook {hook} priority 0 ; }}"));
            self.within(&format!("nft add rule inet fault {chain} {rule} drop"));
        }
    }

    fn mend(&self) {
        self.within("nft delete table inet fault");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Service and web on two machines, as far as the network is concerned; `fault` does the rest.
async fn over_a_wire(fault: &'static str, strike: impl AsyncFnOnce(&Network, &Robot, &mut Books)) {
    let stage = Stage::alone().await;
    let network = Network::new().await;
    let endpoint = format!("tcp://{FAR}:33237");
    let node = |role| stage.node().role(role).setting("Service.MessengerEndpoint", &endpoint);
    let service = node("service").config(jobs(&stage).save(&stage)).network_of(network.pid()).ready().await;
    let web = node("web").ready().await;
    let robot = stage.robot(&web.url()).await;
    works(&robot).await;
    let mut books = Books::open(fault, &stage, std::slice::from_ref(&robot)).await;
    strike(&network, &robot, &mut books).await;
    endure(&mut books, &[&service, &web], Duration::from_secs(1)).await;
    let closed = books.close(&robot).await;
    assert_eq!((closed.commands.unanswered, closed.commands.refused), (0, 0), "the store needs no messenger");
    assert_eq!(closed.lines.lost_with_a_node, 0);
    unharmed(&[&service, &web]);
}

#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn cut() {
    if !is_inside("reliability::network::cut") {
        return;
    }
    over_a_wire("network cut between web and service", async |network, robot, books| {
        let struck = Instant::now();
        network.drop_what("meta l4proto tcp");
        let noticed = until_noticed(robot).await;
        assert!(noticed <= Duration::from_secs(10), "noticed after {noticed:?}");
        println!("the page shows a lost link after {noticed:?}");
        // a run that is asked for meanwhile is found in the database
        robot.until_ended(robot.run("probe").await).await;
        endure(books, &[], lasting(12).saturating_sub(struck.elapsed())).await;
        network.mend();
        let back = Instant::now();
        works(robot).await;
        books.until_new_lines().await;
        books.recovered(back.elapsed());
    })
    .await;
}

#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn loss() {
    if !is_inside("reliability::network::loss") {
        return;
    }
    over_a_wire("5 % of packets lost, each way", async |network, robot, books| {
        network.drop_what("numgen random mod 100 < 5");
        let end = Instant::now() + lasting(10);
        let mut lost = 0_u32;
        while Instant::now() < end {
            books.until_new_lines().await;
            lost += u32::from(robot.link().await.as_deref() != Some("live"));
            endure(books, &[], Duration::from_millis(500)).await;
        }
        assert_eq!(lost, 0, "the link bears that");
        network.mend();
        books.recovered(works(robot).await);
    })
    .await;
}
