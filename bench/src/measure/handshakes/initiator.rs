//! An initiator: the protocol itself, in a time of its own that jumps when it wants to wait.

use std::net::SocketAddr;
use std::time::Duration;

use proto::{Change, Device, Endpoint, Event, Now, PeerChange, Progress, PublicKey, Time};

use crate::Outcome;
use crate::lab::private_key;

/// One peer of the responder, that wants a session with it.
pub struct Initiator {
    pub public_key: PublicKey,
    device: Device,
    now: Now,
    responder: Endpoint,
    initiation: Vec<u8>,
    response: Vec<u8>,
}

impl Initiator {
    /// One with a new key, whose first initiation is ready.
    pub fn new(responder: PublicKey, to: SocketAddr) -> Outcome<Self> {
        let private_key = private_key()?;
        let mut initiator = Self {
            public_key: private_key.public_key(),
            device: Device::new(Box::new(sys::random::fill)),
            now: Now {
                time: Time::from_start(Duration::from_secs(1)),
                wall: sys::clock::realtime(),
            },
            responder: Endpoint::new(to),
            initiation: Vec::new(),
            response: Vec::new(),
        };
        let peer = PeerChange {
            endpoint: Some(to),
            // It is due at once, and needs a session.
            persistent_keepalive: Some(u16::MAX),
            ..PeerChange::new(responder)
        };
        let change =
            Change { private_key: Some(Some(private_key)), peers: vec![peer], ..Change::default() };
        initiator.device.configure(initiator.now, &change).map_err(|_| "one peer is too many")?;
        initiator.device.up(initiator.now);
        initiator.take_initiation()?;
        Ok(initiator)
    }

    /// What it has to say.
    pub fn initiation(&self) -> &[u8] {
        &self.initiation
    }

    /// Makes the next initiation, as if nothing had been answered in time.
    pub fn try_again(&mut self) -> Outcome<()> {
        let (deadline, _) = self.device.poll_timeout().ok_or("no deadline")?;
        self.now.wall += deadline.since(self.now.time);
        self.now.time = deadline;
        self.device.handle_timeout(self.now);
        self.take_initiation()
    }

    /// Makes the next initiation with this proof of its address.
    pub fn take_cookie(&mut self, cookie_reply: &[u8]) -> Outcome<()> {
        self.device
            .handle_handshake(self.now, self.responder, cookie_reply)
            .map_err(|reason| format!("a cookie reply is wrong: {reason:?}"))?;
        self.try_again()
    }

    /// Keeps a response for [`Self::verify`].
    pub fn keep_response(&mut self, response: &[u8]) {
        self.response = response.to_owned();
    }

    /// Whether the response completes the handshake.
    pub fn verify(&mut self) -> Outcome<()> {
        self.device
            .handle_handshake(self.now, self.responder, &self.response)
            .map_err(|reason| format!("a response is wrong: {reason:?}"))?;
        while let Some(event) = self.device.poll_event() {
            if let Event::Handshake(_, Progress::Completed) = event {
                return Ok(());
            }
        }
        Err("a response completes no handshake".into())
    }

    fn take_initiation(&mut self) -> Outcome<()> {
        while let Some(event) = self.device.poll_event() {
            if let Event::Transmit(transmit) = event {
                self.initiation = transmit.bytes;
                return Ok(());
            }
        }
        Err("no initiation".into())
    }
}
