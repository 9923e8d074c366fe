//! Everybody who may ask something of a running tunnel: signals, clients of the UAPI socket, and
//! whoever takes its file away.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use config::uapi::{Errno, Request, Requests, write_result, write_told};
use engine::Handle;
use host::Network;
use host::signals::{Signal, Signals};
use host::watch::Watch;
use sys::poll::{Epoll, Event};

use super::ledger::Ledger;
use super::log::{Level, Log};
use super::socket::Socket;
use crate::command::words;

/// Each has a thread, so that one that stalls stalls nobody else.
const MAX_CLIENTS: usize = 64;

/// How long to wait for a descriptor when there is none left.
const PAUSE: Duration = Duration::from_secs(1);

/// What an event of epoll is about.
mod token {
    pub const SIGNALS: u64 = 0;
    pub const WATCH: u64 = 1;
    pub const CLIENT: u64 = 2;
    pub const CLOSED: u64 = 3;
}

/// Listens on behalf of one tunnel.
pub struct Door<'a> {
    socket: &'a Socket,
    signals: Signals,
    watch: Watch,
    closed: Event,
    epoll: Epoll,
    handle: Handle,
    log: Arc<Log>,
    ledger: Arc<Ledger>,
    /// Told when the port or the mark may be others now, by which packet filters go.
    moved: fn(),
    /// Every thread with a client holds one more of it.
    clients: Arc<()>,
}

impl<'a> Door<'a> {
    /// Begins to listen. Nobody is answered before [`Door::keep`].
    ///
    /// # Errors
    ///
    /// Those of epoll and inotify.
    pub fn new(
        socket: &'a Socket,
        signals: Signals,
        handle: Handle,
        log: Arc<Log>,
        ledger: Arc<Ledger>,
        moved: fn(),
    ) -> io::Result<Self> {
        let (epoll, closed) = (Epoll::new()?, Event::new()?);
        let watch = Watch::new(socket.path())?;
        epoll.add(&signals, token::SIGNALS)?;
        epoll.add(&watch, token::WATCH)?;
        epoll.add(&socket.listener, token::CLIENT)?;
        epoll.add(&closed, token::CLOSED)?;
        Ok(Self {
            socket,
            signals,
            watch,
            closed,
            epoll,
            handle,
            log,
            ledger,
            moved,
            clients: Arc::default(),
        })
    }

    /// Answers until [`Door::close`]; stops the tunnel when that is asked for.
    pub fn keep(&self) {
        // The file may have gone before it was watched.
        self.check_file();
        while !self.closed.drain() {
            let events = match self.epoll.wait(None) {
                Ok(events) => events,
                Err(error) => {
                    let why = format!("Cannot wait for clients: {}", words(&error));
                    self.log.say(Level::Error, &why);
                    return self.handle.stop();
                }
            };
            for event in events {
                match event.token {
                    token::SIGNALS => self.obey(),
                    token::WATCH if self.watch.drain() => self.check_file(),
                    token::CLIENT => self.admit(),
                    _ => {}
                }
            }
        }
    }

    /// Lets [`Door::keep`] return, from another thread.
    pub fn close(&self) {
        self.closed.signal();
    }

    fn obey(&self) {
        while let Some(signal) = self.signals.read() {
            match signal {
                Signal::Interrupt | Signal::Terminate => self.stop("a signal asks for it"),
                // The terminal that started us in the background may go.
                Signal::Hangup => {}
            }
        }
    }

    /// Taking the socket away is how `wg-quick` and others end a tunnel in user space. Who owns the
    /// file and who may use it are the administrator's business.
    fn check_file(&self) {
        if !self.socket.is_ours() {
            self.stop("its socket was taken away");
        }
    }

    fn stop(&self, why: &str) {
        self.log.say(Level::Debug, &format!("The tunnel ends: {why}"));
        self.handle.stop();
    }

    fn admit(&self) {
        let stream = match self.socket.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return, // it has gone again
            Err(error) => {
                self.log.say(Level::Error, &format!("Cannot admit a client: {}", words(&error)));
                // It waits in front of the door, and so must we, or this would be said for ever.
                return thread::sleep(PAUSE);
            }
        };
        if Arc::strong_count(&self.clients) > MAX_CLIENTS {
            let text = format!("{MAX_CLIENTS} clients are connected; one more was turned away");
            return self.log.say(Level::Error, &text);
        }
        let (handle, place) = (self.handle.clone(), Arc::clone(&self.clients));
        let (ledger, moved) = (Arc::clone(&self.ledger), self.moved);
        let thread = thread::Builder::new().name("client".into());
        let started = thread.spawn(move || {
            // A client that has gone needs no answer.
            let _ = serve(&stream, &handle, &ledger, moved);
            drop(place);
        });
        if let Err(error) = started {
            self.log.say(Level::Error, &format!("Cannot serve a client: {}", words(&error)));
        }
    }
}

/// Answers one client until it goes, or says something that nobody understands.
fn serve(mut stream: &UnixStream, handle: &Handle, ledger: &Ledger, moved: fn()) -> io::Result<()> {
    for request in Requests::new(stream, zone) {
        match request {
            Ok(Request::Get) => {
                let state = handle.state();
                let troubles = ledger.told(&state);
                write_told(&mut stream, &state, &troubles)?;
            }
            Ok(Request::Set(change)) => {
                let moves = change.listen_port.is_some() || change.fwmark.is_some();
                let result = handle.configure(change);
                write_result(&mut stream, result.map_err(|error| Errno::from(&error)))?;
                if moves {
                    moved();
                }
            }
            Err(errno) => write_result(&mut stream, Err(errno))?,
        }
    }
    Ok(())
}

/// The number of an interface of our own network namespace.
fn zone(name: &str) -> Option<u32> {
    let link = Network::open().and_then(|mut network| network.link(name));
    link.ok().map(|link| link.index)
}
