//! The system's bus (D-Bus specification): one method is called at a time, and its answer awaited.

mod value;

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::geteuid;

use value::{Decoder, Encoder};

pub(super) use value::Value;

use super::Patience;

/// Where the bus listens on every system (D-Bus specification, "System message bus").
const SOCKET: &str = "/run/dbus/system_bus_socket";
/// Far above the longest answer to what is asked here.
const LONGEST: usize = 1 << 20;

// Kinds of messages, and the numbers of their header's fields.
const VERSION: u8 = 1;
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A service's object, and one of its interfaces.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    pub(super) service: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
}

impl Object<'_> {
    const BUS: Object<'static> = Object {
        service: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
    };
    const PROPERTIES: &'static str = "org.freedesktop.DBus.Properties";
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The service refused: the name of the error, and its words.
    Refused(String, String),
    /// There is no bus, or no sensible answer.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(name, words) if words.is_empty() => f.write_str(name),
            Self::Refused(_, words) => f.write_str(words),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Io(error) => error,
            refused @ Failure::Refused(..) => io::Error::other(refused.to_string()),
        }
    }
}

/// A connection to the bus.
pub(super) struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
    /// How long all answers together are waited for, and until when.
    patience: Duration,
    end: Instant,
}

impl Bus {
    /// Says who we are; the kernel vouches for it (D-Bus specification, "EXTERNAL").
    pub(super) fn connect() -> Result<Self, Failure> {
        Self::connect_for(Patience::Telling.time())
    }

    /// The same, with as much patience as there is.
    pub(super) fn connect_for(patience: Duration) -> Result<Self, Failure> {
        let flags = SocketFlags::CLOEXEC;
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let stream = BufReader::new(UnixStream::from(stream.map_err(io::Error::from)?));
        let end = Instant::now() + patience;
        let mut bus = Self { stream, serial: 0, patience, end };
        bus.dial()?;
        let digits = geteuid().as_raw().to_string();
        let identity: String = digits.bytes().map(|digit| format!("{digit:02x}")).collect();
        bus.send(format!("\0AUTH EXTERNAL {identity}\r\n").as_bytes())?;
        let mut answer = String::new();
        bus.hurry()?;
        let read = bus.stream.by_ref().take(1024).read_line(&mut answer);
        read.map_err(|error| bus.patiently(error))?;
        if !answer.starts_with("OK ") {
            let cause = format!("the bus does not let us in: {}", answer.trim_end());
            return Err(io::Error::other(cause).into());
        }
        bus.send(b"BEGIN\r\n")?;
        bus.call(Object::BUS, "Hello", &[])?;
        Ok(bus)
    }

    /// The same, if somebody has this name now. Nobody is started, and without a bus there is none.
    pub(super) fn connect_to(service: &str, patience: Duration) -> Option<Self> {
        let mut bus = Self::connect_for(patience).ok()?;
        bus.has(service).unwrap_or(false).then_some(bus)
    }

    /// Whether somebody has this name now. Starts nobody.
    pub(super) fn has(&mut self, service: &str) -> Result<bool, Failure> {
        let answer = self.call(Object::BUS, "NameHasOwner", &[Value::text(service)])?;
        Ok(answer.first() == Some(&Value::Bool(true)))
    }

    /// Makes of the connection one that brings nothing but word of services that come or go, without
    /// waiting.
    pub(super) fn into_word_of(mut self, services: &[&str]) -> Result<UnixStream, Failure> {
        for service in services {
            let rule = format!(
                "type='signal',sender='{}',member='NameOwnerChanged',arg0='{service}'",
                Object::BUS.service
            );
            self.call(Object::BUS, "AddMatch", &[Value::text(&rule)])?;
        }
        let stream = self.stream.into_inner();
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// A property's value.
    pub(super) fn get(&mut self, object: Object<'_>, name: &str) -> Result<Value, Failure> {
        let properties = Object { interface: Object::PROPERTIES, ..object };
        let arguments = [Value::text(object.interface), Value::text(name)];
        match self.call(properties, "Get", &arguments)?.into_iter().next() {
            Some(Value::Variant(value)) => Ok(*value),
            _ => Err(nonsense().into()),
        }
    }

    /// Gives a property a value.
    pub(super) fn set(
        &mut self,
        object: Object<'_>,
        name: &str,
        value: Value,
    ) -> Result<(), Failure> {
        let properties = Object { interface: Object::PROPERTIES, ..object };
        let arguments = [Value::text(object.interface), Value::text(name), Value::variant(value)];
        self.call(properties, "Set", &arguments).map(drop)
    }

    /// Calls a method, and waits for what it answers.
    pub(super) fn call(
        &mut self,
        object: Object<'_>,
        method: &str,
        arguments: &[Value],
    ) -> Result<Vec<Value>, Failure> {
        self.serial += 1;
        self.send(&message(self.serial, object, method, arguments))?;
        loop {
            let answer = self.receive()?;
            // Others are signals to everybody.
            if answer.reply_serial != Some(self.serial) {
                continue;
            }
            return match (answer.kind, answer.error) {
                (METHOD_RETURN, _) => Ok(answer.body),
                (ERROR, Some(name)) => {
                    let words = answer.body.first().and_then(Value::as_str).unwrap_or_default();
                    Err(Failure::Refused(name, words.into()))
                }
                _ => Err(nonsense().into()),
            };
        }
    }

    /// At the door of one that hangs, callers wait as soon as there are many.
    fn dial(&mut self) -> io::Result<()> {
        self.hurry()?;
        let connected = connect(self.stream.get_ref(), &SocketAddrUnix::new(SOCKET)?);
        connected.map_err(|errno| self.patiently(errno.into()))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hurry()?;
        let written = self.stream.get_mut().write_all(bytes);
        written.map_err(|error| self.patiently(error))
    }

    /// Waits no longer for the next word than there is patience left.
    fn hurry(&self) -> io::Result<()> {
        // None at all would be for ever.
        const LEAST: Duration = Duration::from_millis(1);
        let left = self.end.saturating_duration_since(Instant::now()).max(LEAST);
        self.stream.get_ref().set_read_timeout(Some(left))?;
        self.stream.get_ref().set_write_timeout(Some(left))
    }

    /// A timeout, in words.
    fn patiently(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let words = format!("no answer in {} seconds", self.patience.as_secs());
                io::Error::new(io::ErrorKind::TimedOut, words)
            }
            _ => error,
        }
    }

    fn receive(&mut self) -> io::Result<Answer> {
        let mut start = [0; 16];
        self.hurry()?;
        self.stream.read_exact(&mut start).map_err(|error| self.patiently(error))?;
        let sizes = Sizes::of(&start).ok_or_else(nonsense)?;
        let mut bytes = start.to_vec();
        bytes.resize(sizes.whole, 0);
        let rest = bytes.get_mut(start.len()..).unwrap_or_default();
        self.stream.read_exact(rest).map_err(|error| self.patiently(error))?;
        Answer::read(&bytes, sizes).ok_or_else(nonsense)
    }
}

/// A call as it is sent: a fixed part, the fields of the header, the arguments.
fn message(serial: u32, object: Object<'_>, method: &str, arguments: &[Value]) -> Vec<u8> {
    let mut body = Encoder::default();
    body.values(arguments);
    let mut fields = vec![
        (PATH, Value::Path(object.path.into())),
        (INTERFACE, Value::text(object.interface)),
        (MEMBER, Value::text(method)),
        (DESTINATION, Value::text(object.service)),
    ];
    if !arguments.is_empty() {
        fields.push((SIGNATURE, Value::Signature(value::signature(arguments))));
    }
    let fields = fields
        .into_iter()
        .map(|(number, value)| Value::Struct(vec![Value::Byte(number), Value::variant(value)]));
    let mut message = Encoder(vec![b'l', METHOD_CALL, 0, VERSION]);
    message.u32(body.0.len() as u32);
    message.u32(serial);
    message.values(&[Value::array("(yv)", fields)]);
    message.align(8);
    message.0.extend(body.0);
    message.0
}

/// What the first sixteen bytes of a message tell of the rest.
struct Sizes {
    big_endian: bool,
    /// Where the body begins, and where it ends with the message.
    body: usize,
    whole: usize,
}

impl Sizes {
    fn of(start: &[u8; 16]) -> Option<Self> {
        let [order, _, _, _, b0, b1, b2, b3, _, _, _, _, f0, f1, f2, f3] = *start;
        let big_endian = order == b'B';
        let number = if big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        let (body, fields) = (number([b0, b1, b2, b3]), number([f0, f1, f2, f3]));
        let start = start.len().checked_add(fields as usize)?.checked_next_multiple_of(8)?;
        let whole = start.checked_add(body as usize)?;
        (whole <= LONGEST).then_some(Self { big_endian, body: start, whole })
    }
}

/// What matters of a message that came in.
struct Answer {
    kind: u8,
    reply_serial: Option<u32>,
    error: Option<String>,
    body: Vec<Value>,
}

impl Answer {
    fn read(bytes: &[u8], Sizes { big_endian, body, .. }: Sizes) -> Option<Self> {
        let header = Decoder::new(bytes, big_endian).values("yyyyuua(yv)")?;
        let [_, Value::Byte(kind), _, _, _, _, fields] = header.as_slice() else { return None };
        let mut answer = Self { kind: *kind, reply_serial: None, error: None, body: Vec::new() };
        let mut signature = String::new();
        for field in fields.items() {
            let [Value::Byte(number), Value::Variant(value)] = field.items() else { return None };
            match (*number, &**value) {
                (REPLY_SERIAL, Value::Unsigned(serial)) => answer.reply_serial = Some(*serial),
                (ERROR_NAME, Value::Text(name)) => answer.error = Some(name.clone()),
                (SIGNATURE, Value::Signature(types)) => signature.clone_from(types),
                _ => {}
            }
        }
        // The body of a signal is nothing to us.
        if answer.reply_serial.is_some() {
            answer.body = Decoder::new(bytes.get(body..)?, big_endian).values(&signature)?;
        }
        Some(answer)
    }
}

/// What a whole message says.
fn read(bytes: &[u8]) -> Option<Answer> {
    let sizes = Sizes::of(bytes.first_chunk()?)?;
    (sizes.whole == bytes.len()).then(|| Answer::read(bytes, sizes))?
}

/// Whether some bytes are a message.
pub(super) fn is_message(bytes: &[u8]) -> bool {
    read(bytes).is_some()
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an answer without sense came from the bus")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    /// As the bus sends it: an error with its words.
    fn refusal() -> Vec<u8> {
        let fields = [
            (ERROR_NAME, Value::text("org.example.Error")),
            (REPLY_SERIAL, Value::Unsigned(7)),
            (SIGNATURE, Value::Signature("s".into())),
        ];
        let fields = fields
            .map(|(number, value)| Value::Struct(vec![Value::Byte(number), Value::variant(value)]));
        let mut message = Encoder(vec![b'l', ERROR, 1, VERSION, 7, 0, 0, 0, 9, 0, 0, 0]);
        message.values(&[Value::array("(yv)", fields)]);
        message.align(8);
        message.0.extend(b"\x02\0\0\0no\0");
        message.0
    }

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = read(&refusal()).unwrap();
        assert_eq!((answer.kind, answer.reply_serial), (ERROR, Some(7)));
        assert_eq!(answer.error.as_deref(), Some("org.example.Error"));
        assert_eq!(answer.body, [Value::text("no")]);
    }

    #[test]
    fn no_bytes_make_it_panic_or_wait_for_gigabytes() {
        let bytes = refusal();
        for place in 0..bytes.len() {
            assert!(read(&bytes[..place]).is_none(), "{place}");
            for byte in 0..=255 {
                let mut changed = bytes.clone();
                changed[place] = byte;
                drop(read(&changed));
            }
        }
        let mut endless = *bytes.first_chunk().unwrap();
        endless[4..8].fill(0xff);
        assert!(Sizes::of(&endless).is_none());
    }
}
