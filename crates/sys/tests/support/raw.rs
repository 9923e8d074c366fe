//! System calls that no safe function makes, to see whether the kernel would.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::*;

/// What is asked of the kernel.
pub enum Call<'a> {
    /// Memory that can be executed.
    MapExecutable,
    /// Memory made so that it can be executed.
    MakeExecutable,
    /// Likewise, with a key.
    MakeExecutableWithKey,
    /// A process instead of a thread.
    Clone,
    /// Whatever that is, from memory.
    Clone3,
    /// A program for the kernel itself.
    Bpf,
    /// Calls by way of a ring.
    IoUring,
    /// A look at what the machine does.
    PerfEvent,
    /// Page faults, to answer them.
    UserFaultFd,
    /// Keys of the kernel.
    Keyctl,
    /// Another way for calls to be made (`READ_IMPLIES_EXEC` and such).
    Personality,
    /// A part of the kernel.
    InitModule,
    /// A new interface for an open `/dev/net/tun`.
    SetInterface(BorrowedFd<'a>),
    /// The MTU of an interface.
    SetMtu(BorrowedFd<'a>),
    /// Signals about a descriptor, for another process.
    SetOwner(BorrowedFd<'a>, i32),
    /// The calls of another process.
    Trace(i32),
    /// The memory of another process.
    ReadMemory(i32),
    /// A signal, which is none, to the first thread of another process.
    SignalThread(i32),
    /// Likewise, as it was before processes had threads.
    SignalTask(i32),
}

/// Makes the call, with nothing behind its pointers.
pub fn make(call: Call<'_>) -> io::Result<()> {
    let mut arguments = [0; 6];
    let (number, given): (_, &[c_long]) = match call {
        Call::MapExecutable => {
            let (access, kind) = (PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS);
            (SYS_mmap, &[0, 4096, access.into(), kind.into(), -1])
        }
        Call::MakeExecutable => (SYS_mprotect, &[0, 0, PROT_EXEC as c_long]),
        Call::MakeExecutableWithKey => (SYS_pkey_mprotect, &[0, 0, PROT_EXEC as c_long, -1]),
        // The kernel would say that signal handlers can only be shared together with memory.
        Call::Clone => (SYS_clone, &[CLONE_SIGHAND as c_long]),
        Call::Clone3 => (SYS_clone3, &[]),
        Call::Bpf => (SYS_bpf, &[]),
        Call::IoUring => (SYS_io_uring_setup, &[1]),
        Call::PerfEvent => (SYS_perf_event_open, &[0, 0, -1, -1]),
        Call::UserFaultFd => (SYS_userfaultfd, &[O_CLOEXEC as c_long]),
        Call::Keyctl => (SYS_keyctl, &[]),
        // It only asks.
        Call::Personality => (SYS_personality, &[0xffff_ffff]),
        Call::InitModule => (SYS_init_module, &[]),
        Call::SetInterface(tun) => (SYS_ioctl, &[tun.as_raw_fd().into(), TUNSETIFF as c_long]),
        Call::SetMtu(socket) => (SYS_ioctl, &[socket.as_raw_fd().into(), SIOCSIFMTU as c_long]),
        Call::SetOwner(fd, process) => {
            (SYS_fcntl, &[fd.as_raw_fd().into(), F_SETOWN.into(), process.into()])
        }
        Call::Trace(process) => (SYS_ptrace, &[PTRACE_SEIZE as c_long, process.into()]),
        Call::ReadMemory(process) => (SYS_process_vm_readv, &[process.into()]),
        Call::SignalThread(process) => (SYS_tgkill, &[process.into(), process.into()]),
        Call::SignalTask(process) => (SYS_tkill, &[process.into()]),
    };
    arguments.iter_mut().zip(given).for_each(|(argument, given)| *argument = *given);
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: none of the calls above touches memory of ours: every pointer is null or has a length
    // of zero behind it, and a new mapping replaces none.
    match unsafe { syscall(number, a, b, c, d, e, f) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
