//! What the words of `wg` need of this machine.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::thread;
use std::time::Duration;

use config::key::{self, BASE64_LEN};
use config::wg::{Machine, Refusal, Secret, find_peer, is_space};
use host::resolve;
use proto::PublicKey;
use zeroize::Zeroizing;

use super::interface::short;
use super::{Failure, complain, names, words};

/// This one.
pub(in crate::command) struct Here<'a> {
    /// The interface that the words are about.
    pub interface: &'a OsStr,
}

impl Machine for Here<'_> {
    fn port(&mut self, service: &[u8]) -> Result<u16, Refusal> {
        let name = service_name(service, service)?;
        resolve::port(name).map_err(|failure| Refusal::of(&failure.text, service))
    }

    fn resolve(
        &mut self,
        host: &[u8],
        service: &[u8],
        endpoint: &[u8],
    ) -> Result<SocketAddr, Refusal> {
        let host = text(host).ok_or_else(|| Refusal::of("Name or service not known", endpoint))?;
        let service = service_name(service, endpoint)?;
        let mut retries = Retries::from_environment()?;
        let mut delay = FIRST_DELAY;
        loop {
            let failure = match resolve::host(host, service) {
                Ok(address) => return Ok(address),
                Err(failure) => failure,
            };
            let refusal = Refusal::of(&failure.text, endpoint);
            if failure.permanent || !retries.take() {
                return Err(refusal);
            }
            let seconds = format!(". Trying again in {:.2} seconds...\n", delay.as_secs_f64());
            complain(&[refusal.into_text(), seconds.into_bytes()].concat());
            thread::sleep(delay);
            delay = LONGEST_DELAY.min(delay * 6 / 5);
        }
    }

    fn can_resolve(&mut self) -> Result<(), Refusal> {
        Retries::from_environment().map(drop)
    }

    fn key_file(&mut self, path: &[u8]) -> Result<Secret, Refusal> {
        const BAD_LENGTH: &str = "Invalid length key in key file";
        let mut file =
            File::open(OsStr::from_bytes(path)).map_err(|error| because("fopen", &error))?;
        let mut text = Zeroizing::new(Vec::with_capacity(BASE64_LEN));
        let read = file.by_ref().take(BASE64_LEN as u64).read_to_end(&mut text);
        if read.map_err(|_| BAD_LENGTH)? < BASE64_LEN {
            // An empty file stands for no key, but a pipe that ends early is an accident.
            let is_empty_file = text.is_empty() && file.stream_position().is_ok();
            return if is_empty_file { Ok(Secret::default()) } else { Err(BAD_LENGTH.into()) };
        }
        for byte in BufReader::new(file).bytes() {
            let byte = byte.map_err(|error| because("getc", &error))?;
            if !is_space(byte) {
                return Err(Refusal::of("Found trailing character in key file", &[byte]));
            }
        }
        let bad_key = || Refusal::of("Key is not the correct length or format", until_zero(&text));
        key::from_base64(&*text).map(Secret).ok_or_else(bad_key)
    }

    fn peer(&mut self, name: &[u8]) -> Option<PublicKey> {
        find_peer(&names::of(&short(self.interface).to_string_lossy()), name).ok()
    }

    fn warn(&mut self, text: &[u8]) {
        complain(&Failure::line(text).lines);
    }
}

/// Before the first attempt that follows another.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(20);

/// How often a name may be asked for again; none is without end.
struct Retries(Option<u32>);

impl Retries {
    fn from_environment() -> Result<Self, Refusal> {
        const VARIABLE: &str = "WG_ENDPOINT_RESOLUTION_RETRIES";
        const DEFAULT: u32 = 15;
        const MOST: i64 = i32::MAX as i64;
        let Some(value) = env::var_os(VARIABLE) else {
            return Ok(Self(Some(DEFAULT)));
        };
        match value.to_str().map(|value| (value, value.trim_ascii_start())) {
            Some(("infinity", _)) => Ok(Self(None)),
            Some(("", _)) => Ok(Self(Some(0))),
            // "-0" is zero, as for strtoul(3).
            Some((_, number)) if let Ok(number @ 0..=MOST) = number.parse() => {
                Ok(Self(Some(number as u32)))
            }
            _ => {
                let reason = format!("Unable to parse {VARIABLE}");
                let text = Refusal::of(&reason, value.as_encoded_bytes()).into_text();
                Err(Refusal::Environment(text))
            }
        }
    }

    /// Whether there is one left; it is used up.
    fn take(&mut self) -> bool {
        match &mut self.0 {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// For the C library, which would let a number that is too large wrap around.
fn service_name<'a>(service: &'a [u8], whole: &[u8]) -> Result<&'a str, Refusal> {
    let is_number = service.iter().all(u8::is_ascii_digit);
    text(service)
        .filter(|text| !is_number || text.parse::<u16>().is_ok())
        .ok_or_else(|| Refusal::of("Servname not supported for ai_socktype", whole))
}

/// What the C library could know.
fn text(name: &[u8]) -> Option<&str> {
    str::from_utf8(name).ok().filter(|text| !text.contains('\0'))
}

/// What perror(3) says.
fn because(what: &str, error: &io::Error) -> Refusal {
    Refusal::Words(format!("{what}: {}", words(error)).into_bytes())
}

/// As far as C sees it.
fn until_zero(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}
