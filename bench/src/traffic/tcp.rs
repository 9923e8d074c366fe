//! TCP streams that never end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::net::sockopt::set_tcp_congestion;

use super::Load;
use crate::Outcome;
use crate::lab::Machine;

/// Bytes per write and per read, as iperf3 does it.
const PIECE: usize = 128 << 10;
/// What Linux does unless told otherwise; machines are told otherwise.
const CONGESTION_CONTROL: &str = "cubic";

impl Load {
    /// Adds a stream from one machine to the other.
    pub fn add_tcp(&mut self, from: &Machine, to: &Machine) -> Outcome<()> {
        let listener = to.within(|| TcpListener::bind((to.inside, 0)))??;
        let target = listener.local_addr()?;
        let mut sender = from.within(|| TcpStream::connect(target))??;
        set_tcp_congestion(&sender, CONGESTION_CONTROL)?;
        let mut receiver = listener.accept()?.0;
        self.streams.extend([sender.try_clone()?, receiver.try_clone()?]);
        self.spawn("tcp sender", move |shared| {
            let piece = vec![0x5a; PIECE];
            while !shared.stopped() && sender.write_all(&piece).is_ok() {}
        })?;
        self.spawn("tcp receiver", move |shared| {
            let mut piece = vec![0; PIECE];
            while let Ok(length @ 1..) = receiver.read(&mut piece) {
                shared.add_received(0, length);
            }
        })?;
        Ok(())
    }
}
