//! Signals of this process. All in one test, since a process has them only once.
#![allow(clippy::unwrap_used)]

use std::process::{Command, id};
use std::time::Duration;

use host::signals::{Signal, Signals};
use sys::poll::Epoll;

#[test]
fn signals_are_read_instead_of_ending_the_program() {
    let signals = Signals::new().unwrap();
    let epoll = Epoll::new().unwrap();
    epoll.add(&signals, 0).unwrap();
    let is_readable = |time| epoll.wait(Some(time)).unwrap().count() == 1;
    assert!(!is_readable(Duration::ZERO));
    assert_eq!(signals.read(), None);
    let kill = |name: &str, process: u32| {
        let status = Command::new("kill").args([name, &process.to_string()]).status();
        assert!(status.unwrap().success());
    };
    for (name, signal) in
        [("-TERM", Signal::Terminate), ("-INT", Signal::Interrupt), ("-HUP", Signal::Hangup)]
    {
        kill(name, id());
        assert!(is_readable(Duration::from_secs(10)));
        assert_eq!([signals.read(), signals.read()], [Some(signal), None]);
        assert!(!is_readable(Duration::ZERO));
    }
    // Whoever reads one of two is called again.
    kill("-HUP", id());
    kill("-TERM", id());
    for signal in [Signal::Hangup, Signal::Terminate] {
        assert!(is_readable(Duration::from_secs(10)));
        assert_eq!(signals.read(), Some(signal));
    }
    assert_eq!(signals.read(), None);
    assert!(!is_readable(Duration::ZERO));
    // A child is ended by them as ever.
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    kill("-TERM", child.id());
    assert!(!child.wait().unwrap().success());
}
