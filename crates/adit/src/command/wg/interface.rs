//! Interfaces of both kinds: those in user space by their sockets (spec §2.1), and those of the
//! kernel, which are all others.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufReader, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::trouble::Troubles;
use config::wg::{Settings, read_result, read_told, write_settings};
use host::resolve::{interface_index, interface_name};
use proto::DeviceState;
use zeroize::Zeroizing;

use super::kernel;

/// Where every program looks for the sockets of tunnels in user space.
pub(in crate::command) const DIRECTORY: &str = "/var/run/wireguard";
const SUFFIX: &[u8] = b".sock";
/// How long a daemon may take to say something: one that was stopped never does. What it is told may be
/// long: it takes a mebibyte in much less than a second.
const PATIENCE: Duration = Duration::from_secs(10);
const MEBIBYTE: usize = 1 << 20;

/// All interfaces: those of the kernel first, as it lists them, then as the directory lists them.
pub(in crate::command) fn names() -> io::Result<Vec<OsString>> {
    let mut names = kernel::names()?;
    let entries = match fs::read_dir(DIRECTORY) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(names),
        entries => entries?,
    };
    for entry in entries {
        let file = entry?.file_name();
        let name = file.as_bytes().strip_suffix(SUFFIX).filter(|name| !name.is_empty());
        if let Some(name) = name.map(OsStr::from_bytes)
            && !matches!(connect(name), Ok(None))
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// All about one interface.
///
/// # Errors
///
/// With the number that the other side sent, or that connecting to it gave; ETIMEDOUT if it says
/// nothing.
pub(in crate::command) fn state(name: &OsStr) -> io::Result<DeviceState> {
    told(name).map(|(state, _)| state)
}

/// As [`state`], and what our daemon knows of failures.
///
/// # Errors
///
/// As for [`state`].
pub(in crate::command) fn told(name: &OsStr) -> io::Result<(DeviceState, Troubles)> {
    let Some(mut stream) = connect(name)? else {
        return Ok((kernel::state(name)?, Troubles::default()));
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"get=1\n\n")?;
    let told = read_told(BufReader::new(stream), interface_index);
    told.map_err(io::Error::from_raw_os_error).map_err(by_its_name)
}

/// Applies settings to an interface, of whose name the first 15 bytes count.
///
/// # Errors
///
/// As for [`state`].
pub(in crate::command) fn configure(name: &OsStr, settings: &Settings) -> io::Result<()> {
    let name = short(name);
    let Some(mut stream) = connect(name)? else { return kernel::configure(name, settings) };
    let mut request = Zeroizing::new(Vec::new());
    write_settings(&mut *request, settings, interface_name)?;
    let patience = PATIENCE + Duration::from_secs((request.len() / MEBIBYTE) as u64);
    stream.set_write_timeout(Some(patience))?;
    stream.set_read_timeout(Some(patience))?;
    let answer = stream
        .write_all(&request)
        .and_then(|()| read_result(BufReader::new(stream)).map_err(io::Error::from_raw_os_error));
    answer.map_err(by_its_name)
}

/// The end of our patience, which the kernel calls as if trying again might help.
fn by_its_name(error: io::Error) -> io::Error {
    const ETIMEDOUT: i32 = 110;
    let has_ended = error.kind() == ErrorKind::WouldBlock;
    if has_ended { io::Error::from_raw_os_error(ETIMEDOUT) } else { error }
}

/// A name as the kernel would cut it.
pub(super) fn short(name: &OsStr) -> &OsStr {
    /// IFNAMSIZ, less the zero byte.
    const LONGEST: usize = 16 - 1;
    OsStr::from_bytes(name.as_bytes().get(..LONGEST).unwrap_or(name.as_bytes()))
}

/// Where the daemon of an interface listens.
pub(in crate::command) fn socket(name: &OsStr) -> PathBuf {
    let mut file = name.to_owned();
    file.push(OsStr::from_bytes(SUFFIX));
    Path::new(DIRECTORY).join(file)
}

/// None if nobody stands behind the name. A socket that was left behind is removed.
pub(in crate::command) fn connect(name: &OsStr) -> io::Result<Option<UnixStream>> {
    let path = socket(name);
    let is_socket = fs::metadata(&path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket || name.as_bytes().contains(&b'/') {
        return Ok(None);
    }
    match UnixStream::connect(&path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            // If it cannot be removed it will be refused again.
            let _ = fs::remove_file(&path);
            Ok(None)
        }
        connected => connected.map(Some),
    }
}
