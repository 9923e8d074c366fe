//! What an opened packet means to its neighbours: whether it may be joined, and with which.

use proto::inner_packet;
use sys::tun::Offload;

use super::checksum::Sum;
use super::{FlowKey, Outline, Shape, Version, bytes_at, protocol, tcp, u16_at, udp};

/// A packet among others.
pub enum Kind<'p> {
    /// It may be joined.
    Joinable(Part<'p>),
    /// It travels alone, and ends the run of its flow, if there can be one: of its kind, nothing may be
    /// joined.
    Single(Option<FlowKey>),
    /// It may be part of any flow.
    Obscure,
}

/// A packet that may be joined: TCP with data and no flags but ACK and PSH, or UDP with data, with
/// nothing unusual in its IP header and all checksums right.
pub struct Part<'p> {
    pub flow: FlowKey,
    pub shape: Shape,
    pub headers: &'p [u8],
    /// Bytes of payload, at least one.
    pub payload: usize,
    /// TCP's PSH, which ends a run.
    pub pushes: bool,
}

impl<'p> Kind<'p> {
    pub fn of(packet: &'p [u8], joins: Offload) -> Self {
        let Some(outline) = Outline::of(packet) else { return Kind::Obscure };
        let may_join = match outline.protocol {
            protocol::TCP => joins.tcp,
            protocol::UDP => joins.udp,
            _ => false,
        };
        if !may_join {
            return Kind::Single(None);
        }
        Self::of_flow(packet, outline).unwrap_or(Kind::Obscure)
    }

    /// `None` unless the headers are complete and plain: no fragment, no IP options, no extension
    /// headers, no padding.
    fn of_flow(packet: &'p [u8], outline: Outline) -> Option<Self> {
        let shape = Shape::of(packet, outline)?;
        let is_unpadded = inner_packet(packet)?.length == packet.len();
        if shape.transport != shape.version.header() || !is_unpadded {
            return None;
        }
        let flow = FlowKey::of(packet)?;
        let (headers, payload) = packet.split_at_checked(shape.payload)?;
        let segment = packet.get(shape.transport..)?;
        let (is_plain, pushes) = if shape.is_tcp {
            let [flags] = bytes_at(segment, tcp::FLAGS)?;
            (flags & !tcp::PSH == tcp::ACK, flags & tcp::PSH != 0)
        } else {
            let is_whole = usize::from(u16_at(segment, udp::LENGTH)?) == segment.len();
            (is_whole && u16_at(segment, udp::CHECKSUM)? != 0, false)
        };
        if !is_plain || payload.is_empty() || !is_intact(packet, shape)? {
            return Some(Kind::Single(Some(flow)));
        }
        let payload = payload.len();
        Some(Kind::Joinable(Part { flow, shape, headers, payload, pushes }))
    }
}

/// Whether all checksums of a packet are right. Joining computes new ones, which must not hide
/// damage from before the tunnel.
fn is_intact(packet: &[u8], shape: Shape) -> Option<bool> {
    let (ip, segment) = packet.split_at_checked(shape.transport)?;
    let pseudo = shape.pseudo_header(packet, u16::try_from(segment.len()).ok()?)?;
    let is_header_intact = shape.version == Version::V6 || Sum::of(ip).is_intact();
    Some(is_header_intact && (pseudo + Sum::of(segment)).is_intact())
}
