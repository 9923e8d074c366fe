//! A flood of small datagrams, one system call each.

use std::net::UdpSocket;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::{Load, PATIENCE};
use crate::Outcome;
use crate::lab::Machine;

/// Room for what arrives while the receiver waits for a processor.
const RECEIVE_BUFFER: usize = 4 << 20;

impl Load {
    /// Adds a sender that is never slower than it can, and a receiver.
    pub fn add_udp(&mut self, from: &Machine, to: &Machine, payload: usize) -> Outcome<()> {
        let receiver = to.within(|| UdpSocket::bind((to.inside, 0)))??;
        receiver.set_read_timeout(Some(PATIENCE))?;
        // Without the capability it stays as it is, and loses more.
        let _ = set_socket_recv_buffer_size_force(&receiver, RECEIVE_BUFFER);
        let sender = from.within(|| UdpSocket::bind((from.inside, 0)))??;
        sender.connect(receiver.local_addr()?)?;
        self.spawn("udp sender", move |shared| {
            let datagram = vec![0x5a; payload];
            while !shared.stopped() {
                // A full queue is a loss like any other.
                let _ = sender.send(&datagram);
                shared.add_sent(1);
            }
        })?;
        self.spawn("udp receiver", move |shared| {
            let mut datagram = vec![0; payload];
            while !shared.stopped() {
                if let Ok(length) = receiver.recv(&mut datagram) {
                    shared.add_received(1, length);
                }
            }
        })?;
        Ok(())
    }
}
