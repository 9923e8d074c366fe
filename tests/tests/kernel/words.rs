//! Each `wg` and `adit wg` on interfaces of the kernel: the same command lines, the same end, the same
//! words.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Once, RwLock};
use std::thread;

use adit_tests::lab::{Implementation, await_that};
use adit_tests::tools::{Tools, Version};
use config::key::to_base64;
use sys::namespaces::{UnshareFlags, leave};

const A: &str = "ujjT8wLnSVrVJ8mM0qGq0hGcWnV4H6o5DyyJmXMa/Q0=";
const B: &str = "JVQbqPTWMxBbk9I0o5ypOy6OUvZX4JN0fQq0mZ9A9ko=";
const C: &str = "2mKmmNlkRfLcI8kzR6AMvwtAJTdaX+sLqGOhtIKzwVQ=";

/// Who says `wg`.
#[derive(Clone, Copy)]
enum Wg<'a> {
    Theirs(&'a Tools),
    Ours,
}

use Wg::{Ours, Theirs};

impl Wg<'_> {
    /// All that it does with these words, `~` being a space inside of one: code and both streams.
    fn say(self, words: &str) -> String {
        self.say_as(0, words)
    }

    fn say_as(self, user: u32, words: &str) -> String {
        let mut command = match self {
            Theirs(tools) => Command::new(tools.wg()),
            Ours => Command::new(Implementation::Adit.program().expect("it is there")),
        };
        command.arg0("wg").uid(user).current_dir("/tmp");
        command.args(words.split(' ').map(|word| word.replace('~', " ")));
        let output = command.output().expect("it runs");
        let code = output.status.code();
        let [stdout, stderr] = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        format!("$ wg {words}\n{code:?}\n{stdout}{stderr}")
    }
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().expect("a program")).args(words).status();
    assert!(status.expect("it runs").success(), "{line}");
}

/// Every way to look at wg0.
const LOOKS: [&str; 16] = [
    "show wg0",
    "show all",
    "show all dump",
    "show wg0 public-key",
    "show wg0 private-key",
    "show wg0 listen-port",
    "show wg0 fwmark",
    "show wg0 peers",
    "show wg0 preshared-keys",
    "show wg0 endpoints",
    "show wg0 allowed-ips",
    "show wg0 latest-handshakes",
    "show wg0 transfer",
    "show wg0 persistent-keepalive",
    "show wg0 nonsense",
    "show interfaces",
];

/// Ways that show everything.
const GLANCES: [&str; 3] = ["show", "show wg0 dump", "showconf wg0"];

/// What one sees of a new wg0 by `looks`, after each of the lines by which another changes it, and
/// what that one says itself.
fn play(writer: Wg<'_>, reader: Wg<'_>, lines: &[&str], looks: &[&str]) -> String {
    let _nobody_else = SOCKETS.read();
    apart(|| {
        run("ip link add wg0 type wireguard");
        let mut seen = String::new();
        for line in lines {
            seen += &writer.say(line);
            let looks = if line.starts_with("show") { &[] } else { looks };
            looks.iter().for_each(|look| seen += &reader.say(look));
        }
        seen
    })
}

/// Expects that it makes no difference who says these lines, and who looks.
#[track_caller]
fn alike(lines: &[&str], looks: &[&str]) {
    let ours = play(Ours, Ours, lines, looks);
    for tools in &Tools::all() {
        let theirs = play(Theirs(tools), Theirs(tools), lines, looks);
        for seen in [&ours, &play(Ours, Theirs(tools), lines, looks)] {
            let differs = theirs.lines().zip(seen.lines()).position(|(a, b)| a != b);
            let at = differs.unwrap_or(theirs.lines().count().min(seen.lines().count()));
            let part = |text: &str| {
                text.lines().skip(at.saturating_sub(5)).take(20).collect::<Vec<_>>().join("\n")
            };
            assert!(theirs == *seen, "{tools:?}:\n{}\n\nours:\n{}", part(&theirs), part(seen));
        }
    }
}

fn file(name: &str, content: &str) {
    fs::write(format!("/tmp/{name}"), content).expect("a file");
}

/// Files with keys, for all tests.
fn keys() {
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(|| {
        file("private", "4GgaQCy68nzNsUE5aJ9fuLzHhB65tAlwbmA72MWnOm8=\n");
        file("other", "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=");
        file("preshared", "fM2Z3PPxZKyF6HLQMGjp8E31ifYJOl1c1vQ3jlQ9u6U=\n");
    });
}

/// Interfaces in user space are seen from every network namespace.
static SOCKETS: RwLock<()> = RwLock::new(());

/// In a network namespace of its own.
fn apart<T: Send>(play: impl FnOnce() -> T + Send) -> T {
    let play = || {
        leave(UnshareFlags::NEWNET).expect("a namespace");
        play()
    };
    thread::scope(|scope| scope.spawn(play).join().expect("it was played"))
}

#[test]
#[ignore = "in a guest"]
fn settings_arrive_and_are_shown_alike() {
    keys();
    let peer = |key: &str, words: &str| format!("set wg0 peer {key} {words}");
    let lines = [
        "set wg0 private-key private".into(),
        "set wg0 listen-port 51820 fwmark 0xca6c".into(),
        peer(A, "allowed-ips 10.0.0.1/32,fd00::1/128,192.0.2.77/24"),
        peer(A, "preshared-key preshared persistent-keepalive 25 endpoint 192.0.2.1:51820"),
        peer(B, "endpoint [2001:db8::1]:1 allowed-ips 0.0.0.0/0,::/0"),
        peer(C, "endpoint [fe80::1%lo]:65535"),
        peer(C, "endpoint [fe80::1%1]:65534"),
        // Taken from another.
        peer(B, "allowed-ips 10.0.0.1/32,::/0"),
        peer(A, "allowed-ips ~"),
        peer(A, "preshared-key /dev/null persistent-keepalive off"),
        peer(B, "remove"),
        // Nobody by this key.
        peer(B, "remove"),
        format!("set wg0 peer {A} allowed-ips ::/1 peer {B} allowed-ips 8000::/1 peer {C} remove"),
        "set wg0 fwmark off".into(),
        "set wg0 private-key other".into(),
        // Its own key.
        "set wg0 peer 0pYr1Ei4XPJ4mIObB6cX7UqAYqsm+7kPNGd7vAiixmM= allowed-ips 10.9.0.0/16".into(),
        "set wg0 private-key /dev/null listen-port 0".into(),
    ];
    let lines = lines.iter().map(String::as_str);
    let (some, more) = (lines.clone().take(7), lines.skip(7));
    alike(&LOOKS.into_iter().chain(some).chain(LOOKS).chain(more).collect::<Vec<_>>(), &GLANCES);
}

#[test]
#[ignore = "in a guest"]
fn files_are_applied_alike() {
    keys();
    let head = "[Interface]\nPrivateKey = 4GgaQCy68nzNsUE5aJ9fuLzHhB65tAlwbmA72MWnOm8=\n";
    let peer = |key: &str, more: &str| format!("[Peer]\nPublicKey = {key}\n{more}\n");
    let allowed = "AllowedIPs = 10.1.0.0/16, fd01::/64\n";
    let preshared = "PresharedKey = fM2Z3PPxZKyF6HLQMGjp8E31ifYJOl1c1vQ3jlQ9u6U=\n";
    let full = [peer(A, allowed), peer(B, preshared)].concat();
    let full = format!("{head}ListenPort = 7\nFwMark = 1\n{full}");
    file("full", &full);
    file("less", &format!("{head}{}", peer(B, &format!("{preshared}AllowedIPs = 10.2.0.0/16"))));
    file("more", &peer(C, "AllowedIPs = 10.3.0.0/16\nEndpoint = 192.0.2.1:1"));
    file("none", "[Interface]\n");
    file("wrong", "[Peer]\nAllowedIPs = 10.3.0.0/16");
    let lines = [
        "setconf wg0 full",
        "addconf wg0 more",
        "syncconf wg0 less",
        "addconf wg0 full",
        "setconf wg0 less",
        "syncconf wg0 full",
        "setconf wg0 wrong",
        "setconf wg0 missing",
        "syncconf wg0 none",
        "setconf wg0 none",
    ];
    alike(&lines, &GLANCES);
}

#[test]
#[ignore = "in a guest"]
fn what_the_kernel_refuses_is_told_alike() {
    keys();
    let lines = [
        "show lo",
        "show nothing",
        "show wg0/",
        "showconf lo",
        "showconf nothing",
        "set lo listen-port 1",
        "set nothing listen-port 1",
        "set nothing-but-a-long-name listen-port 1",
        "setconf nothing private",
        "syncconf nothing /dev/null",
        "show all peers",
    ];
    alike(&lines, &[]);
    let nobody = |wg: Wg<'_>| {
        let words = ["show", "show wg0", "show interfaces", "show all dump", "set wg0 fwmark 1"];
        words.map(|words| wg.say_as(65534, words)).concat()
    };
    apart(|| {
        run("ip link add wg0 type wireguard");
        for tools in &Tools::all() {
            assert_eq!(nobody(Ours), nobody(Theirs(tools)), "{tools:?}");
        }
    });
    // The older one lets the kernel say what it thinks of such a name.
    let long = "show a~name~that~is~longer~than~the~kernel~takes";
    let newest = Tools::all().into_iter().find(|tools| tools.version == Version::Of2026);
    if let Some(tools) = newest {
        assert_eq!(Ours.say(long), Theirs(&tools).say(long));
    }
}

#[test]
#[ignore = "in a guest"]
fn both_kinds_of_interfaces_are_listed_alike() {
    let _everybody = SOCKETS.write();
    let look = |wg: Wg<'_>| {
        let words = ["show interfaces", "show", "show all dump", "show tunnel0", "show wg7"];
        words.map(|words| wg.say(words)).concat()
    };
    apart(|| {
        let adit = Implementation::Adit.program().expect("it is there");
        let status = Command::new(adit).args(["daemon", "tunnel0"]).status();
        assert!(status.expect("it runs").success());
        for name in ["wg1", "wg0", "wg2"] {
            run(&format!("ip link add {name} type wireguard"));
        }
        fs::write("/run/wireguard/wg7.sock", "no socket").expect("a file");
        for tools in &Tools::all() {
            assert_eq!(look(Ours), look(Theirs(tools)), "{tools:?}");
        }
        assert!(look(Ours).contains("\nwg1 wg0 wg2 tunnel0\n"));
        fs::remove_file("/run/wireguard/wg7.sock").expect("the file");
        run("ip link delete tunnel0");
        await_that("the daemon ends", || !Path::new("/run/wireguard/tunnel0.sock").exists());
    });
}

/// A key that nobody has the private half of.
fn key(number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    let mut key = [7; 32];
    (key[0], key[1]) = (high, low);
    to_base64(&key).to_string()
}

/// So many peers of several addresses each, and every hundredth of so many that it does not fit
/// into one message.
fn crowd(numbers: impl Iterator<Item = u16>) -> String {
    let mut text = String::from("[Interface]\nListenPort = 9\n");
    for number in numbers {
        let [high, low] = number.to_be_bytes();
        let _ =
            writeln!(text, "[Peer]\nPublicKey = {}\nEndpoint = 192.0.2.1:{number}", key(number));
        let _ = writeln!(text, "AllowedIPs = 10.{high}.{low}.0/24, 172.16.{high}.{low}/32");
        let _ = writeln!(text, "AllowedIPs = fd00:{number:x}::/32, fd00:0:{number:x}::1/128");
        if number % 400 == 399 {
            for more in 0..2000 {
                let _ = writeln!(text, "AllowedIPs = fd01:{number:x}:{more:x}::/48");
            }
        }
    }
    text
}

#[test]
#[ignore = "in a guest"]
fn two_thousand_peers_are_applied_and_shown_alike() {
    file("crowd", &crowd(1..2001));
    file("half", &crowd((1..2001).filter(|number| number % 2 == 1)));
    let lines = ["setconf wg0 crowd", "syncconf wg0 half", "addconf wg0 crowd"];
    alike(&lines, &["show wg0 dump", "show wg0 allowed-ips", "showconf wg0"]);
}

/// Linux before 6.16 cannot do that in one step.
#[test]
#[ignore = "in a guest"]
fn single_addresses_are_taken_away_by_their_owner_only() {
    let set = |words: String| assert_eq!(Ours.say(&words), format!("$ wg {words}\nSome(0)\n"));
    let shown = apart(|| {
        run("ip link add wg0 type wireguard");
        set(format!("set wg0 peer {A} allowed-ips 10.0.0.0/8,10.0.0.1/32,fd00::/64"));
        set(format!("set wg0 peer {B} allowed-ips 10.7.0.0/16,10.8.0.0/16"));
        // Its own, that of another, that of nobody, and one that comes back.
        let away = "-10.0.0.1/32,-10.7.0.0/16,-10.9.0.0/16,-fd00::/64,+fd00::/64,+fd01::/64";
        set(format!("set wg0 peer {A} allowed-ips {away},-fd01::/64"));
        set(format!("set wg0 peer {B} allowed-ips 10.8.0.0/16 peer {B} allowed-ips -10.8.0.0/16"));
        Ours.say("show wg0 allowed-ips")
    });
    let expected = format!("{A}\t10.0.0.0/8 fd00::/64\n{B}\t(none)\n");
    assert_eq!(shown, format!("$ wg show wg0 allowed-ips\nSome(0)\n{expected}"));
}
