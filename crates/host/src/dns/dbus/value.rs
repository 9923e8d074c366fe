//! Values as they travel (D-Bus specification, "Marshaling").

/// A value of one of the types that are asked for or answered here.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::dns) enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `i`
    Int(i32),
    /// `u`
    Unsigned(u32),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a` and the type of its elements, of which there may be none. A dictionary is one of pairs.
    Array(String, Vec<Value>),
    /// `(…)`
    Struct(Vec<Value>),
    /// `{…}`
    Pair(Box<(Value, Value)>),
    /// `v`
    Variant(Box<Value>),
    /// Of a type that is never asked for, left out.
    Other,
}

impl Value {
    pub(in crate::dns) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(in crate::dns) fn array(elements: &str, items: impl IntoIterator<Item = Self>) -> Self {
        Self::Array(elements.into(), items.into_iter().collect())
    }

    pub(in crate::dns) fn variant(value: Self) -> Self {
        Self::Variant(Box::new(value))
    }

    /// An entry of a dictionary whose values are of any type.
    pub(in crate::dns) fn named(name: &str, value: Self) -> Self {
        Self::Pair(Box::new((Self::text(name), Self::variant(value))))
    }

    /// What a text, a path or a variant of one says.
    pub(in crate::dns) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            Self::Variant(value) => value.as_str(),
            _ => None,
        }
    }

    /// What is in an array, a structure or a variant of one; nothing in any other.
    pub(in crate::dns) fn items(&self) -> &[Self] {
        match self {
            Self::Array(_, items) | Self::Struct(items) => items,
            Self::Variant(value) => value.items(),
            _ => &[],
        }
    }

    /// The value of a dictionary under a name, out of its variant.
    pub(in crate::dns) fn get(&self, name: &str) -> Option<&Self> {
        self.items().iter().find_map(|item| match item {
            Self::Pair(pair) if pair.0.as_str() == Some(name) => Some(match &pair.1 {
                Self::Variant(value) => value,
                value => value,
            }),
            _ => None,
        })
    }

    /// The type, as it is written.
    fn signature(&self) -> String {
        let joined = |items: &[Self]| items.iter().map(Self::signature).collect::<String>();
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::Int(_) => "i".into(),
            Self::Unsigned(_) => "u".into(),
            Self::Text(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Array(elements, _) => format!("a{elements}"),
            Self::Struct(items) => format!("({})", joined(items)),
            Self::Pair(pair) => format!("{{{}{}}}", pair.0.signature(), pair.1.signature()),
            Self::Variant(_) => "v".into(),
            Self::Other => String::new(),
        }
    }
}

/// The types of several values.
pub(super) fn signature(values: &[Value]) -> String {
    values.iter().map(Value::signature).collect()
}

/// The boundary that values of a type begin at, in bytes.
fn alignment(signature: &[u8]) -> usize {
    match signature.first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// Writes values, little-endian.
#[derive(Default)]
pub(super) struct Encoder(pub(super) Vec<u8>);

impl Encoder {
    pub(super) fn align(&mut self, boundary: usize) {
        self.0.resize(self.0.len().next_multiple_of(boundary), 0);
    }

    pub(super) fn values(&mut self, values: &[Value]) {
        values.iter().for_each(|value| self.value(value));
    }

    fn value(&mut self, value: &Value) {
        self.align(alignment(value.signature().as_bytes()));
        match value {
            Value::Byte(byte) => self.0.push(*byte),
            Value::Bool(flag) => self.u32((*flag).into()),
            Value::Int(number) => self.0.extend(number.to_le_bytes()),
            Value::Unsigned(number) => self.u32(*number),
            Value::Text(text) | Value::Path(text) => {
                self.u32(text.len() as u32);
                self.terminated(text);
            }
            Value::Signature(text) => self.short(text),
            Value::Array(elements, items) => self.array(elements, items),
            Value::Struct(items) => self.values(items),
            Value::Pair(pair) => {
                self.value(&pair.0);
                self.value(&pair.1);
            }
            Value::Variant(inner) => {
                self.short(&inner.signature());
                self.value(inner);
            }
            Value::Other => {}
        }
    }

    /// Its length counts neither itself nor what aligns the first element.
    fn array(&mut self, elements: &str, items: &[Value]) {
        let before = self.0.len();
        self.u32(0);
        self.align(alignment(elements.as_bytes()));
        let start = self.0.len();
        self.values(items);
        let length = (self.0.len() - start) as u32;
        let place = self.0.get_mut(before..before + 4).expect("it was just written");
        place.copy_from_slice(&length.to_le_bytes());
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn short(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.terminated(text);
    }

    fn terminated(&mut self, text: &str) {
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }
}

/// Reads values. What is cut off or means nothing is `None`.
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    position: usize,
    big_endian: bool,
}

impl<'a> Decoder<'a> {
    /// How deep values may lie in each other. The specification allows more; nothing here needs it.
    const DEEPEST: usize = 16;

    /// The bytes begin at a boundary of eight.
    pub(super) fn new(bytes: &'a [u8], big_endian: bool) -> Self {
        Self { bytes, position: 0, big_endian }
    }

    /// One value for each of the types.
    pub(super) fn values(&mut self, signature: &str) -> Option<Vec<Value>> {
        self.list(signature.as_bytes(), 0)
    }

    fn list(&mut self, mut signature: &[u8], depth: usize) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        while !signature.is_empty() {
            let (kind, rest) = signature.split_at_checked(length_of_one(signature)?)?;
            values.push(self.value(kind, depth)?);
            signature = rest;
        }
        Some(values)
    }

    /// A value of the one type that the signature is.
    fn value(&mut self, signature: &[u8], depth: usize) -> Option<Value> {
        if depth > Self::DEEPEST {
            return None;
        }
        self.align(alignment(signature))?;
        let (kind, inner) = signature.split_first()?;
        Some(match kind {
            b'y' => Value::Byte(self.byte()?),
            b'b' => Value::Bool(self.u32()? == 1),
            b'i' => Value::Int(self.u32()?.cast_signed()),
            b'u' => Value::Unsigned(self.u32()?),
            b's' => Value::Text(self.text()?),
            b'o' => Value::Path(self.text()?),
            b'g' => Value::Signature(self.short()?),
            b'a' => self.array(inner, depth)?,
            b'(' => Value::Struct(self.list(inner.strip_suffix(b")")?, depth + 1)?),
            b'{' => {
                let pair = self.list(inner.strip_suffix(b"}")?, depth + 1)?;
                let [key, value] = pair.try_into().ok()?;
                Value::Pair(Box::new((key, value)))
            }
            b'v' => {
                let signature = self.short()?;
                let [value] = self.list(signature.as_bytes(), depth + 1)?.try_into().ok()?;
                Value::variant(value)
            }
            b'n' | b'q' | b'h' | b'x' | b't' | b'd' => {
                let length = alignment(signature);
                self.take(length)?;
                Value::Other
            }
            _ => return None,
        })
    }

    fn array(&mut self, elements: &[u8], depth: usize) -> Option<Value> {
        let length = self.u32()? as usize;
        self.align(alignment(elements))?;
        let end = self.position.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut items = Vec::new();
        while self.position < end {
            let before = self.position;
            items.push(self.value(elements, depth + 1)?);
            (self.position > before).then_some(())?;
        }
        let elements = str::from_utf8(elements).ok()?;
        (self.position == end).then(|| Value::array(elements, items))
    }

    fn align(&mut self, boundary: usize) -> Option<()> {
        self.take(self.position.next_multiple_of(boundary) - self.position).map(drop)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes = *self.take(4)?.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    fn short(&mut self) -> Option<String> {
        let length = self.byte()?.into();
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Option<String> {
        let text = str::from_utf8(self.take(length)?).ok()?.to_owned();
        self.take(1)?;
        Some(text)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.position..)?.get(..length)?;
        self.position += length;
        Some(taken)
    }
}

/// How long the first of several types is, as it is written.
fn length_of_one(signature: &[u8]) -> Option<usize> {
    let until = |end: u8| {
        let mut length = 1;
        loop {
            match signature.get(length)? {
                byte if *byte == end => return (length > 1).then_some(length + 1),
                _ => length += length_of_one(signature.get(length..)?)?,
            }
        }
    };
    match signature.first()? {
        b'a' => Some(1 + length_of_one(signature.get(1..)?)?),
        b'(' => until(b')'),
        b'{' => until(b'}'),
        b')' | b'}' => None,
        _ => Some(1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    /// One of everything, in each other.
    fn everything() -> Vec<Value> {
        let address = Value::array("y", [10, 0, 0, 1].map(Value::Byte));
        vec![
            Value::Byte(7),
            Value::array("(iay)", [Value::Struct(vec![Value::Int(-2), address])]),
            Value::array("(sb)", []),
            Value::Path("/a".into()),
            Value::array(
                "{sv}",
                [
                    Value::named("domains", Value::array("s", [Value::text("corp.example")])),
                    Value::named("flag", Value::Bool(true)),
                    Value::named("kind", Value::Signature("a(iay)".into())),
                ],
            ),
            Value::Unsigned(3),
        ]
    }

    fn encoded(values: &[Value]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.values(values);
        encoder.0
    }

    #[test]
    fn what_is_written_is_read_back() {
        let values = everything();
        let types = signature(&values);
        assert_eq!(types, "ya(iay)a(sb)oa{sv}u");
        let bytes = encoded(&values);
        assert_eq!(Decoder::new(&bytes, false).values(&types), Some(values));
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        // Its own example of an array: one 64-bit number would be aligned to eight; so is a structure.
        let value = Value::array("(u)", [Value::Struct(vec![Value::Unsigned(5)])]);
        assert_eq!(encoded(&[value]), [4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(encoded(&[Value::text("foo")]), b"\x03\0\0\0foo\0");
        assert_eq!(encoded(&[Value::variant(Value::Bool(true))]), b"\x01b\0\0\x01\0\0\0");
    }

    #[test]
    fn other_types_are_passed_over_and_other_byte_orders_read() {
        let bytes = [0, 9, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 7];
        let values = Decoder::new(&bytes, true).values("qdu").unwrap();
        assert_eq!(values, [Value::Other, Value::Other, Value::Unsigned(7)]);
    }

    #[test]
    fn nothing_that_is_cut_off_or_changed_panics() {
        let values = everything();
        let (bytes, types) = (encoded(&values), signature(&values));
        for end in 0..bytes.len() {
            assert_eq!(Decoder::new(&bytes[..end], false).values(&types), None, "{end}");
        }
        for place in 0..bytes.len() {
            for byte in 0..=255 {
                let mut changed = bytes.clone();
                changed[place] = byte;
                drop(Decoder::new(&changed, false).values(&types));
            }
        }
        for types in ["(", "()", "a", "a()", ")", "{s}", "a{", "z", "(s", "v)", "a{sv"] {
            assert_eq!(Decoder::new(&bytes, false).values(types), None, "{types}");
        }
        let deep = "a".repeat(100) + "y";
        assert_eq!(Decoder::new(&[0; 1000], false).values(&deep).map(|it| it.len()), Some(1));
        let deep = "(".repeat(100) + "y" + &")".repeat(100);
        assert_eq!(Decoder::new(&[0; 1000], false).values(&deep), None);
    }
}
