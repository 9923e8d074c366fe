//! Noticing that a socket's file is no longer what its path leads to.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::watch::Watch;
use sys::poll::Epoll;

/// A directory of one test's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("adit-host-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_readable(watch: &Watch) -> bool {
    let epoll = Epoll::new().unwrap();
    epoll.add(watch, 0).unwrap();
    epoll.wait(Some(Duration::ZERO)).unwrap().count() == 1
}

#[test]
fn a_lost_socket_is_noticed() {
    type Loss = fn(&Path);
    let losses: [(&str, Loss); 4] = [
        ("unlinked", |socket| fs::remove_file(socket).unwrap()),
        ("renamed", |socket| {
            fs::rename(socket, socket.with_extension("old")).unwrap();
        }),
        ("replaced", |socket| {
            let other = socket.with_extension("new");
            File::create(&other).unwrap();
            fs::rename(other, socket).unwrap();
        }),
        ("moved", |socket| {
            let directory = socket.parent().unwrap();
            fs::rename(directory, directory.with_extension("moved")).unwrap();
        }),
    ];
    for (loss, lose) in losses {
        let directory = Directory::new(loss);
        let place = directory.0.join("place");
        fs::create_dir(&place).unwrap();
        let socket = place.join("wg0.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let watch = Watch::new(&socket).unwrap();
        assert!(!watch.drain());
        lose(&socket);
        assert!(is_readable(&watch), "{loss}");
        assert!(watch.drain());
        assert!(!is_readable(&watch));
    }
}

#[test]
fn a_file_that_is_written_over_is_noticed_and_one_that_is_read_is_not() {
    let directory = Directory::new("written");
    let file = directory.0.join("resolv.conf");
    fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
    let watch = Watch::new(&file).unwrap();
    fs::read(&file).unwrap();
    fs::write(directory.0.join("hosts"), "").unwrap();
    assert!(!is_readable(&watch));
    fs::write(&file, "nameserver 192.0.2.2\n").unwrap();
    assert!(is_readable(&watch) && watch.drain());
    assert!(!is_readable(&watch));
}

#[test]
fn the_neighbours_of_a_socket_wake_nobody() {
    let directory = Directory::new("neighbours");
    let socket = directory.0.join("wg0.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let watch = Watch::new(&socket).unwrap();
    let neighbour = directory.0.join("wg1.sock");
    drop(UnixListener::bind(&neighbour).unwrap());
    fs::remove_file(neighbour).unwrap();
    // Nor do those who talk to it.
    drop(UnixStream::connect(&socket).unwrap());
    drop(listener.accept().unwrap());
    assert!(!watch.drain());
}

#[test]
fn what_does_not_exist_cannot_be_watched() {
    let error = Watch::new("/nowhere/wg0.sock").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}
