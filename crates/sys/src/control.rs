//! Control messages (cmsg(3)): what travels beside a datagram, written and read as plain bytes.

use std::iter;

/// Length (`size_t`), level and type (`int` each). The kernel's layout needs no padding after them.
const HEADER: usize = size_of::<usize>() + 4 + 4;

/// Room for the control messages of one datagram.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Control([u8; Control::LEN]);

impl Control {
    /// Every message that our sockets ask for, and that we send: IPV6_PKTINFO with its 20 bytes, a
    /// traffic class and a segment size with 4 bytes each, all of them aligned. The rest is
    /// reserve.
    pub const LEN: usize = 128;
    pub const EMPTY: Control = Control([0; Control::LEN]);

    /// Writes a message at `end`, where the last one ended, and returns where this one ends. A
    /// message that does not fit is left out.
    pub fn push(&mut self, end: usize, level: i32, kind: i32, data: &[u8]) -> usize {
        self.try_push(end, level, kind, data).unwrap_or(end)
    }

    fn try_push(&mut self, end: usize, level: i32, kind: i32, data: &[u8]) -> Option<usize> {
        let length = HEADER + data.len();
        let next = end + length.next_multiple_of(size_of::<usize>());
        let (length_field, rest) = self.0.get_mut(end..next)?.split_first_chunk_mut()?;
        let (level_field, rest) = rest.split_first_chunk_mut()?;
        let (kind_field, rest) = rest.split_first_chunk_mut()?;
        *length_field = length.to_ne_bytes();
        *level_field = level.to_ne_bytes();
        *kind_field = kind.to_ne_bytes();
        rest.get_mut(..data.len())?.copy_from_slice(data);
        Some(next)
    }

    /// The messages in the first `length` bytes: level, type, data.
    pub fn messages(&self, length: usize) -> impl Iterator<Item = (i32, i32, &[u8])> {
        let mut rest = self.0.get(..length).unwrap_or_default();
        iter::from_fn(move || {
            let (length, header) = rest.split_first_chunk()?;
            let (level, header) = header.split_first_chunk()?;
            let (kind, _) = header.split_first_chunk()?;
            let length = usize::from_ne_bytes(*length);
            let data = rest.get(HEADER..length)?;
            rest = rest.get(length.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
            Some((i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let mut control = Control::EMPTY;
        let end = control.push(0, 1, 2, &[3, 4, 5]);
        let end = control.push(end, 6, 7, &[8; 20]);
        let read: Vec<_> = control.messages(end).collect();
        assert_eq!(read, [(1, 2, &[3, 4, 5][..]), (6, 7, &[8; 20])]);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut control = Control::EMPTY;
        let end = control.push(0, 1, 2, &[9; 96]);
        assert_eq!(control.push(end, 1, 2, &[9; 4]), end);
        assert_eq!(control.messages(end).count(), 1);
    }

    #[test]
    fn nonsense_ends_the_messages() {
        // A length shorter than the header, one beyond the end, and a header cut short.
        for length in [HEADER - 1, 1000, usize::MAX] {
            let mut control = Control::EMPTY;
            control.0[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(control.messages(Control::LEN).count(), 0, "length {length}");
        }
        assert_eq!(Control::EMPTY.messages(HEADER - 1).count(), 0);
        assert_eq!(Control::EMPTY.messages(Control::LEN + 1).count(), 0);
    }
}
