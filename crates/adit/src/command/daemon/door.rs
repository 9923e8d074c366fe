//! Everybody who may ask something of a running tunnel: signals, clients of the UAPI socket, whoever
//! takes its file away, and those who change its interface or the machine's network.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use config::uapi::{Errno, Request, Requests, write_result, write_told};
use engine::Handle;
use host::news::{Bell, News, Sight};
use host::signals::{Signal, Signals};
use host::watch::Watch;
use proto::DeviceState;
use sys::poll::{Epoll, Event};

use super::broker::Broker;
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
    pub const LINK: u64 = 4;
    pub const PATHS: u64 = 5;
    pub const BROKER: u64 = 6;
}

/// Listens on behalf of one tunnel.
pub struct Door<'a> {
    frame: Frame<'a>,
    closed: Event,
    epoll: Epoll,
    whom: Whom,
    /// Every thread with a client holds one more of it.
    clients: Arc<()>,
}

/// Those whom everybody comes for.
#[derive(Clone)]
pub struct Whom {
    pub handle: Handle,
    pub broker: Arc<Broker>,
    pub log: Arc<Log>,
    pub ledger: Arc<Ledger>,
}

/// What is opened while there is the right to.
pub struct Frame<'a> {
    socket: &'a Socket,
    signals: Signals,
    /// None where nobody may watch any more files.
    watch: Option<Watch>,
    paths: Bell,
}

impl<'a> Frame<'a> {
    /// For those who come by these. All programs of a user share the files that they may watch: where
    /// the others have taken them all, the tunnel goes on, and its link or a signal ends it.
    ///
    /// # Errors
    ///
    /// Those of netlink.
    pub fn new(socket: &'a Socket, signals: Signals, log: &Log) -> io::Result<Self> {
        let watch = Watch::new(socket.file.path()).inspect_err(|error| {
            let text = format!(
                "Would not notice that its socket is taken away: {}; raise \
                 fs.inotify.max_user_instances by sysctl",
                words(error)
            );
            log.say(Level::Error, &text);
        });
        let paths = Bell::open(News::Paths)?;
        Ok(Self { socket, signals, watch: watch.ok(), paths })
    }
}

impl<'a> Door<'a> {
    /// Begins to listen. Nobody is answered before [`Door::keep`].
    ///
    /// # Errors
    ///
    /// Those of epoll.
    pub fn new(frame: Frame<'a>, whom: Whom) -> io::Result<Self> {
        let Frame { socket, signals, watch, paths } = &frame;
        let (epoll, closed) = (Epoll::new()?, Event::new()?);
        epoll.add(signals, token::SIGNALS)?;
        watch.as_ref().map_or(Ok(()), |watch| epoll.add(watch, token::WATCH))?;
        epoll.add(&socket.listener, token::CLIENT)?;
        epoll.add(&closed, token::CLOSED)?;
        epoll.add(&*whom.broker.links(), token::LINK)?;
        epoll.add(paths, token::PATHS)?;
        // Whoever asks takes the answers; here it is heard when nobody gives any more.
        epoll.add_for_end(whom.broker.line(), token::BROKER)?;
        let clients = Arc::default();
        Ok(Self { frame, closed, epoll, whom, clients })
    }

    /// Answers until [`Door::close`]; stops the tunnel when that is asked for.
    pub fn keep(&self) {
        // The file may have gone before it was watched, and the interface may be up.
        self.check_file();
        self.follow_link();
        while !self.closed.drain() {
            let events = match self.epoll.wait(None) {
                Ok(events) => events,
                Err(error) => {
                    let why = format!("Cannot wait for clients: {}", words(&error));
                    self.whom.log.say(Level::Error, &why);
                    return self.whom.handle.stop();
                }
            };
            for token in events {
                match token {
                    token::SIGNALS => self.obey(),
                    token::WATCH if self.frame.watch.as_ref().is_some_and(Watch::drain) => {
                        self.check_file();
                    }
                    token::CLIENT => self.admit(),
                    token::LINK => self.follow_link(),
                    token::PATHS => {
                        self.frame.paths.drain();
                        self.whom.handle.follow_paths();
                    }
                    token::BROKER => {
                        self.whom.log.say(Level::Error, "The broker is gone, and the tunnel ends");
                        return self.whom.handle.stop();
                    }
                    _ => {}
                }
            }
        }
    }

    /// Lets [`Door::keep`] return.
    pub fn close(&self) {
        self.closed.signal();
    }

    fn obey(&self) {
        while let Some(signal) = self.frame.signals.read() {
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
        if !self.whom.broker.has_file() {
            self.stop("its socket was taken away");
        }
    }

    /// Something about the interface may have changed.
    fn follow_link(&self) {
        let news = self.whom.broker.links();
        news.drain();
        if let Err(error) = self.whom.look_at_link() {
            self.stop(&format!("its interface is not there: {}", words(&error)));
        }
    }

    fn stop(&self, why: &str) {
        self.whom.log.say(Level::Debug, &format!("The tunnel ends: {why}"));
        self.whom.handle.stop();
        // What is wrong now would be found wrong again and again until the last packet is sent.
        self.close();
    }

    fn admit(&self) {
        let stream = match self.frame.socket.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return, // it has gone again
            Err(error) => {
                let text = format!("Cannot admit a client: {}", words(&error));
                self.whom.log.say(Level::Error, &text);
                // It waits in front of the door, and so must we, or this would be said for ever.
                return thread::sleep(PAUSE);
            }
        };
        if Arc::strong_count(&self.clients) > MAX_CLIENTS {
            let text = format!("{MAX_CLIENTS} clients are connected; one more was turned away");
            return self.whom.log.say(Level::Error, &text);
        }
        let (whom, place) = (self.whom.clone(), Arc::clone(&self.clients));
        let thread = thread::Builder::new().name("client".into());
        let started = thread.spawn(move || {
            // A client that has gone needs no answer.
            let _ = serve(&stream, &whom);
            drop(place);
        });
        if let Err(error) = started {
            let text = format!("Cannot serve a client: {}", words(&error));
            self.whom.log.say(Level::Error, &text);
        }
    }
}

impl Whom {
    /// Tells the tunnel how its interface is.
    fn look_at_link(&self) -> io::Result<()> {
        let Sight { up, mtu, moved } = self.broker.look().or_else(|why| {
            // As far as that goes without the broker: perhaps the interface is gone.
            let up = self.broker.is_up()?;
            let text = format!("Cannot see the interface well: {}", words(&why));
            self.log.say(Level::Error, &text);
            Ok::<_, io::Error>(Sight { up, mtu: None, moved: false })
        })?;
        self.handle.follow_link(up, mtu);
        if moved {
            self.log.say(Level::Debug, "Interface is in another network namespace");
        }
        Ok(())
    }

    /// Has the tunnel know what has happened to its interface before now: who sets it up and then asks
    /// something shall find a port open.
    fn catch_up(&self) {
        // While the door holds the bell, it has not told yet what it was rung for.
        let news = self.broker.links();
        if news.rings() {
            // It rings on, and whatever is wrong is the door's to say.
            let _ = self.look_at_link();
        }
    }
}

/// Answers one client until it goes, or says something that nobody understands.
fn serve(mut stream: &UnixStream, whom: &Whom) -> io::Result<()> {
    let Whom { handle, broker, ledger, .. } = whom;
    for request in Requests::new(stream, |name: &str| broker.zone(name)) {
        whom.catch_up();
        match request {
            Ok(Request::Get) => {
                let last_discard = ledger.last_discard();
                let state = DeviceState { last_discard, ..handle.state() };
                let troubles = ledger.told(&state);
                write_told(&mut stream, &state, &troubles)?;
            }
            Ok(Request::Set(change)) => {
                let moves = change.listen_port.is_some() || change.fwmark.is_some();
                let result = handle.configure(change);
                write_result(&mut stream, result.map_err(|error| Errno::from(&error)))?;
                if moves {
                    // Their packet filters go by these.
                    broker.tell_keepers();
                }
            }
            Err(errno) => write_result(&mut stream, Err(errno))?,
        }
    }
    Ok(())
}
