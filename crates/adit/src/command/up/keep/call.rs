//! Calling the keeper of a tunnel, and starting one.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use config::key::to_base64;
use proto::PublicKey;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

use super::known::Known;
use crate::command::quick::up::ourselves;
use crate::command::up::failure::{Failure, Kind, Outcome};
use crate::command::up::lock::Lock;
use crate::command::up::tunnel;

/// What a keeper says to whoever started it when it keeps.
const READY: &str = "ready";
/// What it is told when something has changed: it looks, or ends with its tunnel.
pub const LOOK: &str = "look";
/// What it is told when another process keeps its tunnel from now on: it ends.
pub const LEAVE: &str = "leave";
/// What it is told, and of which peer, when that one does not answer.
pub const SILENT: &str = "silent ";
/// What it is asked what it knows by.
const TELL: &str = "tell";
/// It may be restoring something, which takes a while.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a keeper unless there is one, which is told to look.
pub fn ensure(name: &str) -> Outcome {
    let _lock = Lock::of_keeper(name)?;
    if let Answer::Late | Answer::Said(_) = call(name, LOOK) {
        return Ok(());
    }
    let fail = |text: String| {
        let text = format!("{name} is up, but nobody keeps it: {text}: try `adit up {name}' again");
        Failure::new(Kind::Failed, text)
    };
    let mut keeper = ourselves();
    keeper.args(["keep", name]).current_dir("/").process_group(0);
    // What it says at first comes back on its stdin: its stdout is that of hooks, which may talk
    // when nobody listens any more.
    let (ours, theirs) = UnixStream::pair().map_err(|error| fail(error.to_string()))?;
    keeper.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    keeper.spawn().map_err(|error| fail(error.to_string()))?;
    // The other end must be open there alone, so that this ends when it does.
    drop(keeper);
    let mut said = String::new();
    BufReader::new(ours).read_line(&mut said).map_err(|error| fail(error.to_string()))?;
    if said.trim_end() == READY { Ok(()) } else { Err(fail("its process ended".into())) }
}

/// In a keeper that was started so: it keeps.
pub fn tell_starter() {
    // If whoever started it has gone, nobody wants to know.
    let _ = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|starter| writeln!(UnixStream::from(starter), "{READY}"));
}

/// Tells the keeper of a tunnel that is down, and waits for its end.
pub fn end(name: &str) {
    dismiss(name, LOOK);
}

/// Ends the keeper of a tunnel that this process keeps from now on.
pub fn relieve(name: &str) {
    dismiss(name, LEAVE);
}

fn dismiss(name: &str, word: &str) {
    // Another that is starting meanwhile has a file, too. Without the lock it can lose that.
    let _lock = Lock::of_keeper(name).ok();
    match call(name, word) {
        // It will end when it hears that.
        Answer::Late | Answer::Said(_) => {}
        // Perhaps it was killed, and left its file behind.
        Answer::Nobody | Answer::Ends => drop(fs::remove_file(tunnel::keeper_socket(name))),
    }
}

/// Tells the keepers of all other tunnels to look: what this one has changed may concern them, and
/// they may say so at the same time. Which have none.
pub fn tell_others(name: &str) -> Vec<String> {
    tell(|other| other != name)
}

/// Tells the keepers of these tunnels to look. Which have none.
pub fn tell(is_meant: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names = tunnel::names();
    names.retain(|name| is_meant(name) && say(name, LOOK).is_err());
    names
}

/// Tells the keeper of a tunnel, if there is one, that a peer does not answer.
pub fn tell_of_silence(name: &str, peer: &PublicKey) {
    // One that has no time is told again with the next call.
    let _ = say(name, &format!("{SILENT}{}", *to_base64(&peer.0)));
}

/// Says a word, and never waits: packets do, or others who say something here.
fn say(name: &str, word: &str) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(tunnel::keeper_socket(name))?)?;
    send(&socket, format!("{word}\n").as_bytes(), SendFlags::NOSIGNAL)?;
    Ok(())
}

/// What the keeper knows; none if there is none, or it takes too long.
pub fn ask(name: &str) -> Option<Known> {
    match call(name, TELL) {
        Answer::Said(known) => serde_json::from_str(&known).ok(),
        Answer::Nobody | Answer::Late | Answer::Ends => None,
    }
}

/// What comes of a call.
enum Answer {
    /// There is no keeper.
    Nobody,
    /// It takes too long.
    Late,
    /// It ends without a word.
    Ends,
    Said(String),
}

fn call(name: &str, word: &str) -> Answer {
    let Ok(mut stream) = UnixStream::connect(tunnel::keeper_socket(name)) else {
        return Answer::Nobody;
    };
    let mut answer = String::new();
    let asked = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| writeln!(stream, "{word}"))
        .and_then(|()| stream.read_to_string(&mut answer));
    match asked {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Answer::Late,
        _ if answer.is_empty() => Answer::Ends,
        _ => Answer::Said(answer),
    }
}
