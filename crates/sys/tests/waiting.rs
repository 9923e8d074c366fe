//! Epoll and what it waits for: events and deadlines.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use sys::clock::boottime;
use sys::poll::{Epoll, Event, Timer};

const LONG: Duration = Duration::from_secs(10);

fn wait(epoll: &Epoll, timeout: Duration) -> Vec<u64> {
    epoll.wait(Some(timeout)).unwrap().collect()
}

fn is_readable(source: impl AsFd) -> bool {
    let epoll = Epoll::new().unwrap();
    epoll.add(source, 0).unwrap();
    !wait(&epoll, Duration::ZERO).is_empty()
}

#[test]
fn a_signalled_event_wakes_a_waiting_thread() {
    let (epoll, event) = (Epoll::new().unwrap(), Event::new().unwrap());
    epoll.add(&event, 7).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| event.signal());
        assert_eq!(wait(&epoll, LONG), [7]);
    });
}

#[test]
fn signals_that_meet_are_one() {
    let event = Event::new().unwrap();
    assert!(!event.drain());
    event.signal();
    event.signal();
    assert!(is_readable(&event));
    assert!(event.drain());
    assert!(!event.drain());
    assert!(!is_readable(&event));
}

#[test]
fn what_is_not_drained_is_reported_again() {
    let (epoll, event) = (Epoll::new().unwrap(), Event::new().unwrap());
    epoll.add(&event, u64::MAX).unwrap();
    event.signal();
    for _ in 0..2 {
        assert_eq!(wait(&epoll, Duration::ZERO), [u64::MAX]);
    }
}

#[test]
fn more_than_fits_is_reported_in_turn() {
    let epoll = Epoll::new().unwrap();
    let events: Vec<_> = (0..20).map(|_| Event::new().unwrap()).collect();
    for (token, event) in events.iter().enumerate() {
        epoll.add(event, token as u64).unwrap();
        event.signal();
    }
    let mut seen = [false; 20];
    for _ in 0..5 {
        let ready = wait(&epoll, Duration::ZERO);
        assert_eq!(ready.len(), 8);
        ready.iter().for_each(|token| seen[*token as usize] = true);
    }
    assert_eq!(seen, [true; 20]);
}

#[test]
fn what_is_in_two_sets_is_reported_by_both_until_it_is_drained() {
    let (first, second, event) =
        (Epoll::new().unwrap(), Epoll::new().unwrap(), Event::new().unwrap());
    first.add(&event, 1).unwrap();
    second.add(&event, 2).unwrap();
    event.signal();
    // To ask here takes nothing away there.
    for _ in 0..2 {
        assert_eq!(wait(&first, Duration::ZERO), [1]);
        assert_eq!(wait(&second, Duration::ZERO), [2]);
    }
    event.drain();
    assert_eq!(wait(&second, Duration::ZERO), []);
    event.signal();
    drop(first);
    assert_eq!(wait(&second, Duration::ZERO), [2]);
}

#[test]
fn input_is_awaited_or_only_the_end() {
    let (near, far) = UnixStream::pair().unwrap();
    let (both, end) = (Epoll::new().unwrap(), Epoll::new().unwrap());
    both.add(&near, 1).unwrap();
    end.add_for_end(&near, 2).unwrap();
    assert_eq!(wait(&both, Duration::ZERO), []);
    (&far).write_all(b"word").unwrap();
    assert_eq!(wait(&both, Duration::ZERO), [1]);
    assert_eq!(wait(&end, Duration::ZERO), []);
    drop(far);
    assert_eq!(wait(&both, Duration::ZERO), [1]);
    assert_eq!(wait(&end, Duration::ZERO), [2]);
    let again = end.add_for_end(&near, 3).unwrap_err();
    assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
}

#[test]
fn a_deadline_is_due_when_it_says_until_another_is_set() {
    let (epoll, timer) = (Epoll::new().unwrap(), Timer::new().unwrap());
    epoll.add(&timer, 0).unwrap();
    assert_eq!(wait(&epoll, Duration::ZERO), []);
    let deadline = boottime() + Duration::from_millis(20);
    timer.set(Some(deadline)).unwrap();
    assert_eq!(wait(&epoll, LONG).len(), 1);
    assert!(boottime() >= deadline);
    timer.set(None).unwrap();
    assert_eq!(wait(&epoll, Duration::ZERO), []);
}

#[test]
fn a_deadline_that_has_passed_is_due_at_once() {
    let (epoll, timer) = (Epoll::new().unwrap(), Timer::new().unwrap());
    epoll.add(&timer, 0).unwrap();
    for deadline in [Duration::ZERO, Duration::from_nanos(1), boottime()] {
        timer.set(Some(deadline)).unwrap();
        assert_eq!(wait(&epoll, LONG).len(), 1, "{deadline:?}");
    }
}

#[test]
fn a_deadline_can_be_put_off_and_given_up() {
    let timer = Timer::new().unwrap();
    for later in [Some(boottime() + LONG), Some(Duration::MAX / 4), None] {
        timer.set(Some(Duration::ZERO)).unwrap();
        assert!(is_readable(&timer));
        match timer.set(later) {
            Ok(()) => assert!(!is_readable(&timer), "{later:?}"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{later:?}"),
        }
    }
}
