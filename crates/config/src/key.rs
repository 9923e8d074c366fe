//! Keys as text: base64 as `wg` writes it, hexadecimal as the UAPI socket speaks it.
//!
//! Coding and decoding take the same time and the same memory accesses whatever the key is, and
//! every copy is wiped.

use base64ct::{Base64, Encoding};
use proto::PublicKey;
use zeroize::Zeroizing;

/// Characters of a key in base64, the final `=` included.
pub const BASE64_LEN: usize = 32_usize.div_ceil(3) * 4;
const _: () = assert!(BASE64_LEN == 44);

/// Characters of a key in hexadecimal.
pub const HEX_LEN: usize = 32 * 2;

/// A key in base64.
#[must_use]
pub fn to_base64(key: &[u8; 32]) -> Zeroizing<String> {
    Zeroizing::new(Base64::encode_string(key))
}

/// Reads exactly what [`to_base64`] writes: 44 characters of the standard alphabet, the last one
/// `=`, the unused bits zero (spec §3.4).
#[must_use]
pub fn from_base64(text: impl AsRef<[u8]>) -> Option<Zeroizing<[u8; 32]>> {
    let text: &[u8; BASE64_LEN] = text.as_ref().try_into().ok()?;
    let mut key = Zeroizing::new([0; 32]);
    let length = Base64::decode(text, &mut *key).ok()?.len();
    (length == key.len()).then_some(key)
}

/// A key in lower-case hexadecimal.
#[must_use]
pub fn to_hex(key: &[u8; 32]) -> Zeroizing<String> {
    // With room for all, no copy is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(HEX_LEN));
    for byte in key {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

/// Reads 64 hexadecimal digits of either case (spec §2.2).
#[must_use]
pub fn from_hex(text: impl AsRef<[u8]>) -> Option<Zeroizing<[u8; 32]>> {
    let text: &[u8; HEX_LEN] = text.as_ref().try_into().ok()?;
    let (pairs, _) = text.as_chunks();
    // Where it stays: what is moved leaves a copy behind.
    let mut key = Some(Zeroizing::new([0; 32]));
    let mut all = 0;
    for (byte, [high, low]) in key.iter_mut().flat_map(|key| key.iter_mut()).zip(pairs) {
        let value = nibble(*high) << 4 | nibble(*low);
        *byte = value as u8;
        all |= value;
    }
    key.take_if(|_| all < 0);
    key
}

/// A public key as logs name it: its first and last four characters.
#[must_use]
pub fn abbreviated(key: &PublicKey) -> String {
    let text = to_base64(&key.0);
    let without_padding = text.trim_end_matches('=');
    let (first, _) = without_padding.split_at(4);
    let (_, last) = without_padding.split_at(without_padding.len() - 4);
    format!("{first}…{last}")
}

/// The digit for a value below 16. Chosen by arithmetic: a table would be read at a secret place.
fn digit(nibble: u8) -> char {
    let beyond_nine = ((9 - i16::from(nibble)) >> 8) as u8;
    char::from(b'0' + nibble + (beyond_nine & (b'a' - b'9' - 1)))
}

/// The value of a digit; negative if it is none.
fn nibble(digit: u8) -> i16 {
    let digit = i16::from(digit);
    [(b'0', b'9', 0), (b'A', b'F', 10), (b'a', b'f', 10)].into_iter().fold(
        -1,
        |value, (first, last, worth)| {
            let (first, last) = (i16::from(first), i16::from(last));
            // All ones if both differences are negative, which is to say: inside this range.
            let inside = ((first - 1 - digit) & (digit - last - 1)) >> 8;
            value + (inside & (digit - first + worth + 1))
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Pairs of hexadecimal and base64 made by an independent implementation.
    const KEYS: [(&str, &str); 12] = [
        (
            "8099d2a05c074fa3205b6dede909037cb3acc35636970bc4a15595229e6b6e87",
            "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rboc=",
        ),
        (
            "8099d2a05c074fa3205b6dede909037cb3acc35636970bc4a15595229e6b6e47",
            "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbkc=",
        ),
        (
            "e241fe9e40c6a83bb08499697a1bbaa4b98311513f9b0834bba56a4935eabd6c",
            "4kH+nkDGqDuwhJlpehu6pLmDEVE/mwg0u6VqSTXqvWw=",
        ),
        (
            "9189508fbf20783a9de30d7865ff3678e8c93c278da8378eb1a9ea376005bb3a",
            "kYlQj78geDqd4w14Zf82eOjJPCeNqDeOsanqN2AFuzo=",
        ),
        (
            "aa70432b3c3be36fb46467fb66f9e211dcc99d0f4da228a5686cf8e93f7fc924",
            "qnBDKzw742+0ZGf7ZvniEdzJnQ9NoiilaGz46T9/ySQ=",
        ),
        (
            "d3cf6921d149b9f094f08230ae9a86b69a2976870287ab96a83d3a257a70af9a",
            "089pIdFJufCU8IIwrpqGtpopdocCh6uWqD06JXpwr5o=",
        ),
        (
            "f63ebad2fff868621f0b40da26a5b78dde8c973365d5f4dc1cbd6881e305347d",
            "9j660v/4aGIfC0DaJqW3jd6MlzNl1fTcHL1ogeMFNH0=",
        ),
        (
            "0000000000000000000000000000000000000000000000000000000000000000",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ),
        (
            "0100000000000000000000000000000000000000000000000000000000000000",
            "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ),
        (
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA=",
        ),
        (
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc=",
        ),
        (
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "7P///////////////////////////////////////38=",
        ),
    ];

    #[test]
    fn a_key_reads_the_same_in_both_spellings() {
        for (hex, base64) in KEYS {
            let key = from_hex(hex).unwrap();
            assert_eq!(from_base64(base64).unwrap(), key);
            assert_eq!(*to_base64(&key), base64);
            assert_eq!(*to_hex(&key), hex);
            assert_eq!(from_hex(hex.to_uppercase()).unwrap(), key);
        }
    }

    #[test]
    fn only_canonical_base64_of_32_bytes_is_a_key() {
        for (why, text) in [
            ("43 characters, no padding", "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rboc"),
            ("45 characters", "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rboc=="),
            ("padding replaced", "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbocA"),
            ("31 bytes", "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbg=="),
            ("url-safe alphabet", "-_nSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rboc="),
            ("space inside", "gJnSoFwHT6 gW23t6QkDfLOsw1Y2lwvEoVWVIp5rboc="),
            ("padding inside", "gJnSoFwHT6=gW23t6QkDfLOsw1Y2lwvEoVWVIp5rboc="),
            (
                "non-zero trailing bits in character 43",
                "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbod=",
            ),
            ("empty", ""),
        ] {
            assert_eq!(from_base64(text), None, "{why}");
        }
    }

    /// Each of the 256 bytes in place of each of the 44 characters, judged by the alphabet alone.
    #[test]
    fn every_byte_outside_the_alphabet_spoils_base64() {
        let good = b"gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rboc=";
        for place in 0..BASE64_LEN {
            for byte in 0..=u8::MAX {
                let mut text = *good;
                *text.get_mut(place).unwrap() = byte;
                let in_alphabet = byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
                let expected = match place {
                    43 => byte == b'=',
                    // Four of its six bits count; the other two must be zero.
                    42 => b"AEIMQUYcgkosw048".contains(&byte),
                    _ => in_alphabet,
                };
                assert_eq!(from_base64(text).is_some(), expected, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn only_64_hexadecimal_digits_are_a_key() {
        let (good, _) = KEYS[0];
        for place in 0..HEX_LEN {
            for byte in 0..=u8::MAX {
                let mut text = good.as_bytes().to_vec();
                *text.get_mut(place).unwrap() = byte;
                assert_eq!(from_hex(&text).is_some(), byte.is_ascii_hexdigit());
            }
        }
        for text in ["", "0", good.trim_start_matches("8"), &format!("{good}0")] {
            assert_eq!(from_hex(text), None);
        }
    }

    #[test]
    fn logs_show_both_ends_of_a_public_key() {
        let key = PublicKey(*from_base64(KEYS[2].1).unwrap());
        assert_eq!(abbreviated(&key), "4kH+…qvWw");
    }
}
