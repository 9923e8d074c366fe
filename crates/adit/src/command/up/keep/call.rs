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
use serde_json::Value;

use crate::command::quick::up::ourselves;
use crate::command::up::failure::{Failure, Kind, Outcome};
use crate::command::up::tunnel::{self, Lock};

/// What a keeper says when it keeps.
const READY: &str = "ready";
/// What it is told when something has changed: it looks, or ends with its tunnel.
pub const LOOK: &str = "look";
/// What it is told, and of which peer, when that one does not answer.
pub const SILENT: &str = "silent ";
/// What it is asked what it knows by.
const TELL: &str = "tell";
/// It may be restoring something, which takes a while.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a keeper unless there is one, which is told to look.
pub fn ensure(name: &str) -> Outcome {
    let _lock = Lock::of_keeper(name)?;
    if call(name, LOOK).is_some_and(|answer| answer.is_none_or(|answer| !answer.is_empty())) {
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
    // Another that is starting meanwhile has a file, too. Without the lock it can lose that.
    let _lock = Lock::of_keeper(name).ok();
    let has_ended = match call(name, LOOK) {
        // If it takes too long, it will end when it looks the next time.
        Some(None) => false,
        Some(Some(answer)) => answer.is_empty(),
        None => true,
    };
    if has_ended {
        // It was killed, perhaps just now, and left its file behind.
        let _ = fs::remove_file(tunnel::keeper_socket(name));
    }
}

/// Tells the keepers of all other tunnels to look, and waits for none of them: what this one has
/// changed may concern them, and they may say so at the same time.
pub fn tell_others(name: &str) {
    for other in tunnel::names().iter().filter(|other| *other != name) {
        // Where there is no keeper, nobody has to know.
        let _ = UnixStream::connect(tunnel::keeper_socket(other))
            .and_then(|mut stream| writeln!(stream, "{LOOK}"));
    }
}

/// Tells the keeper of a tunnel, if there is one, that a peer does not answer. Never waits, since
/// packets do.
pub fn tell_of_silence(name: &str, peer: &PublicKey) {
    let told = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(tunnel::keeper_socket(name))?)?;
        let word = format!("{SILENT}{}\n", *to_base64(&peer.0));
        send(&socket, word.as_bytes(), SendFlags::NOSIGNAL)
    };
    // One that has no time is told again with the next call.
    let _ = told();
}

/// What the keeper knows.
pub fn ask(name: &str) -> Option<Value> {
    serde_json::from_str(&call(name, TELL)??).ok()
}

/// Its answer, which is empty if it ends, and none if it takes too long; none at all if there is no
/// keeper.
fn call(name: &str, word: &str) -> Option<Option<String>> {
    let mut stream = UnixStream::connect(tunnel::keeper_socket(name)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut answer = String::new();
    let asked = writeln!(stream, "{word}").and_then(|()| stream.read_to_string(&mut answer));
    match asked {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(None),
        _ => Some(Some(answer)),
    }
}
