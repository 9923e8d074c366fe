//! A machine: namespaces of its own for mounts, the network and processes, and a shell in them that
//! does what it is told.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use host::namespace;

/// Ended, with everything in it, when dropped.
pub struct Machine {
    shell: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    network: OwnedFd,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Files that programs here write to are in memory, and nobody else's.
const SETUP: &str = r#"
set -e
export LC_ALL=C
mount -t tmpfs none /run
mkdir -p /run/wireguard /run/bin /run/etc /run/work /run/lib /run/empty
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work none /etc
mount --bind /run/lib /var/lib
mkdir -p -m 700 /etc/wireguard
rm -rf /etc/wireguard/* /etc/resolvconf /etc/resolv.conf
printf '127.0.0.1 localhost\n' > /etc/hosts
printf 'nameserver 192.168.77.1\noptions timeout:1 attempts:1\n' > /etc/resolv.conf
sysctl -q net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0
sysctl -q net.ipv4.ping_group_range='0 0'
ip link set lo up
export PATH=/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export WG_ENDPOINT_RESOLUTION_RETRIES=0
umask 077
cd /run/empty
set +e
echo ready
while IFS= read -r -d '' order; do
    # What it leaves running may go on to write there.
    rm -f /run/out /run/err
    timeout -k 1 100 bash -c "$order" > /run/out 2> /run/err < /dev/null
    code=$? out=$(stat -c %s /run/out) err=$(stat -c %s /run/err)
    echo "$code $out $err"
    head -c $out /run/out
    head -c $err /run/err
done
"#;

impl Machine {
    /// None where that is not allowed.
    pub fn start() -> Option<Self> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        unshare.args(["bash", "-c", SETUP]);
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = unshare.spawn().unwrap();
        let orders = shell.stdin.take().unwrap();
        let mut answers = BufReader::new(shell.stdout.take().unwrap());
        let mut ready = String::new();
        answers.read_line(&mut ready).unwrap();
        if ready != "ready\n" {
            let _ = shell.wait();
            return None;
        }
        let network = File::open(format!("/proc/{}/ns/net", shell.id())).unwrap().into();
        Some(Self { shell, orders, answers, network })
    }

    /// What comes of a command line.
    pub fn attempt(&mut self, order: &str) -> Said {
        self.orders.write_all(order.as_bytes()).unwrap();
        self.orders.write_all(&[0]).unwrap();
        let mut head = String::new();
        self.answers.read_line(&mut head).unwrap();
        let numbers: Vec<i32> =
            head.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let &[code, out, err] = &*numbers else { panic!("{order}: {head:?}") };
        let mut text = |length: i32| {
            let mut bytes = vec![0; length.try_into().unwrap()];
            self.answers.read_exact(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Said { code, out: text(out), err: text(err) }
    }

    /// What a command line prints that must succeed.
    #[track_caller]
    pub fn run(&mut self, order: &str) -> String {
        let said = self.attempt(order);
        assert_eq!(said.code, 0, "{order}: {}{}", said.out, said.err);
        said.out
    }

    /// Writes a file.
    pub fn write(&mut self, path: &str, content: &str) {
        assert!(!content.contains('\''));
        self.run(&format!("printf %s '{content}' > {path}"));
    }

    /// Its network namespace.
    pub fn network(&self) -> BorrowedFd<'_> {
        self.network.as_fd()
    }

    /// Does something on a thread in its network.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        namespace::within(self.network(), work).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
