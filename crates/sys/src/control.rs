//! Control messages (cmsg(3)): what travels beside a datagram, written and read as plain bytes.

use std::iter;

/// Length (`size_t`), level and type (`int` each). The kernel's layout needs no padding after them.
const HEADER: usize = size_of::<usize>() + 4 + 4;

/// The control messages of one datagram.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Control {
    pub bytes: [u8; Control::LEN],
    /// How many of the bytes the kernel may read, or write.
    pub length: usize,
}

impl Control {
    /// Every message that our sockets ask for, and that we send: IPV6_PKTINFO with its 20 bytes, a
    /// traffic class and a segment size with 4 bytes each, all of them aligned. The rest is
    /// reserve.
    pub const LEN: usize = 128;
    pub const EMPTY: Control = Control { bytes: [0; Control::LEN], length: 0 };

    /// Adds a message. `None` if it does not fit: then it is left out.
    pub fn push(&mut self, level: i32, kind: i32, data: &[u8]) -> Option<()> {
        let length = HEADER + data.len();
        let end = self.length + length.next_multiple_of(size_of::<usize>());
        let (length_field, rest) = self.bytes.get_mut(self.length..end)?.split_first_chunk_mut()?;
        let (level_field, rest) = rest.split_first_chunk_mut()?;
        let (kind_field, rest) = rest.split_first_chunk_mut()?;
        *length_field = length.to_ne_bytes();
        *level_field = level.to_ne_bytes();
        *kind_field = kind.to_ne_bytes();
        rest.get_mut(..data.len())?.copy_from_slice(data);
        self.length = end;
        Some(())
    }

    /// The messages in the first `length` bytes: level, type, data.
    pub fn messages(&self, length: usize) -> impl Iterator<Item = (i32, i32, &[u8])> {
        let mut rest = self.bytes.get(..length).unwrap_or_default();
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
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let mut control = Control::EMPTY;
        control.push(1, 2, &[3, 4, 5]).unwrap();
        control.push(6, 7, &[8; 20]).unwrap();
        let read: Vec<_> = control.messages(control.length).collect();
        assert_eq!(read, [(1, 2, &[3, 4, 5][..]), (6, 7, &[8; 20])]);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut control = Control::EMPTY;
        control.push(1, 2, &[9; 96]).unwrap();
        assert_eq!(control.push(1, 2, &[9; 4]), None);
        assert_eq!(control.messages(control.length).count(), 1);
    }

    #[test]
    fn nonsense_ends_the_messages() {
        // A length shorter than the header, one beyond the end, and a header cut short.
        for length in [HEADER - 1, 1000, usize::MAX] {
            let mut control = Control::EMPTY;
            control.bytes[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(control.messages(Control::LEN).count(), 0, "length {length}");
        }
        assert_eq!(Control::EMPTY.messages(HEADER - 1).count(), 0);
        assert_eq!(Control::EMPTY.messages(Control::LEN + 1).count(), 0);
    }
}
