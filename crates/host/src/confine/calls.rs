//! The system calls of a process that has started, by what they are for. Those of glibc and of musl.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::process;

use libc::*;
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{self, Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::Work;

/// Two filters, in the order in which they are installed: of what they say, the stricter holds.
pub fn filters(work: Work<'_>) -> Result<[BpfProgram; 2], BackendError> {
    // What clone3(2) is to make stands in memory, where no filter looks. A library that is told that
    // there is no such call makes clone(2) instead.
    let missing = SeccompAction::Errno(ENOSYS as u32);
    let clone3 = filter([(SYS_clone3, vec![])], missing, SeccompAction::Allow)?;
    // A library may try something that is not on the list, and must go on.
    let refused = SeccompAction::Errno(EPERM as u32);
    let always = ALWAYS.iter().copied().flatten().map(|call| (*call, vec![]));
    let its_own = match work {
        Work::Carry => carrying(),
        Work::Serve(_) => serving(),
    };
    let calls = always.chain(sometimes()).chain(its_own);
    let all = filter(calls, SeccompAction::Allow, refused)?;
    Ok([clone3, all])
}

/// Whatever their arguments.
const ALWAYS: &[&[c_long]] = &[
    // Packets, letters, bells and clients: what is open is read and written.
    &[SYS_read, SYS_readv, SYS_write, SYS_writev],
    &[SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg, SYS_sendto, SYS_sendmsg, SYS_sendmmsg],
    &[SYS_accept4, SYS_getsockname, SYS_getpeername, SYS_getsockopt, SYS_shutdown, SYS_close],
    // Where datagrams would leave from is asked by connecting a socket. No others are there to connect.
    &[SYS_connect],
    // Waiting for it.
    &[SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_ppoll, SYS_eventfd2],
    #[cfg(target_arch = "x86_64")]
    &[SYS_epoll_wait, SYS_poll],
    // Time, and chance.
    &[SYS_timerfd_create, SYS_timerfd_settime, SYS_clock_gettime, SYS_clock_nanosleep],
    &[SYS_nanosleep, SYS_getrandom],
    // Threads: how they begin (clone3 has the answer of the first filter), wait for each other, and end.
    &[SYS_clone3, SYS_set_robust_list, SYS_rseq, SYS_sigaltstack],
    &[SYS_futex, SYS_sched_yield, SYS_sched_getaffinity],
    &[SYS_exit, SYS_exit_group],
    // Signals that come, and a call that one of them has interrupted.
    &[SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall],
    // Memory, but for what is below.
    &[SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise],
    // Who and where this is. They cannot fail, and whoever asks does not look whether they have.
    &[SYS_getpid, SYS_gettid, SYS_getppid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid],
    &[SYS_uname],
    // The end of a process that was started before.
    &[SYS_wait4, SYS_waitid],
];

/// Only with some arguments: each line is a way in which a call is allowed.
fn sometimes() -> Vec<(c_long, Vec<Condition>)> {
    let mut calls = vec![
        // Threads, and no processes: those could have namespaces of their own.
        (SYS_clone, vec![has(0, CLONE_THREAD as u32)]),
        // Memory that cannot be executed.
        (SYS_mmap, vec![lacks(2, PROT_EXEC as u32)]),
        (SYS_mprotect, vec![lacks(2, PROT_EXEC as u32)]),
        // Its own end (abort(3)).
        (SYS_tgkill, vec![is(0, process::id())]),
    ];
    // Names of threads and of memory.
    calls.extend([PR_SET_NAME, PR_SET_VMA].map(|what| (SYS_prctl, vec![is(0, what as u32)])));
    // Descriptors, but not whom the kernel signals about them.
    let what = [F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC];
    calls.extend(what.map(|what| (SYS_fcntl, vec![is(1, what as u32)])));
    // A TUN that there is (`sys::tun`).
    let what = [TUNGETIFF, TUNSETVNETHDRSZ, TUNSETOFFLOAD, TUNGETDEVNETNS];
    calls.extend(what.map(|what| (SYS_ioctl, vec![is(1, what as u32)])));
    // A client whose reader does not wait.
    calls.push((SYS_ioctl, vec![is(1, FIONBIO as u32)]));
    calls
}

/// Of a data plane alone.
fn carrying() -> Vec<(c_long, Vec<Condition>)> {
    // A socket that cannot join datagrams.
    [(SOL_UDP, UDP_GRO)].map(option).into()
}

/// Of whoever opens sockets for a data plane, and follows its interface.
fn serving() -> Vec<(c_long, Vec<Condition>)> {
    // Files, of which Landlock knows which, and a socket's name.
    let mut calls = vec![SYS_openat, SYS_getdents64, SYS_unlinkat, SYS_bind];
    calls.extend([SYS_fstat, SYS_newfstatat, SYS_statx]);
    #[cfg(target_arch = "x86_64")]
    calls.extend([SYS_open, SYS_unlink, SYS_stat, SYS_lstat]);
    let mut calls: Vec<_> = calls.into_iter().map(|call| (call, vec![])).collect();
    // Another network, and no other namespace.
    calls.push((SYS_setns, vec![is(1, CLONE_NEWNET as u32)]));
    // Datagrams, what comes by ICMP, a keeper, and how links are. Nothing that knows of packet filters.
    calls.extend(
        [
            (AF_INET, SOCK_DGRAM, 0),
            (AF_INET6, SOCK_DGRAM, 0),
            (AF_INET, SOCK_RAW, IPPROTO_ICMP),
            (AF_INET6, SOCK_RAW, IPPROTO_ICMPV6),
            (AF_UNIX, SOCK_STREAM, 0),
            (AF_NETLINK, SOCK_RAW, NETLINK_ROUTE),
        ]
        .map(|(family, kind, protocol)| {
            let kind = (1, MaskedEq(!(SOCK_CLOEXEC | SOCK_NONBLOCK) as u64), kind as u64);
            (SYS_socket, vec![is(0, family as u32), kind, is(2, protocol as u32)])
        }),
    );
    // Their options (`sys::udp`, `sys::option`): some others replace packet filters.
    calls.extend(
        [
            (SOL_SOCKET, SO_MARK),
            (SOL_SOCKET, SO_RCVBUF),
            (SOL_SOCKET, SO_RCVBUFFORCE),
            (SOL_SOCKET, SO_SNDBUF),
            (SOL_SOCKET, SO_SNDBUFFORCE),
            (SOL_SOCKET, SO_REUSEPORT),
            (SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF),
            (SOL_UDP, UDP_GRO),
            (SOL_IP, IP_PKTINFO),
            (SOL_IP, IP_RECVTOS),
            (SOL_IP, IP_MTU_DISCOVER),
            (SOL_IPV6, IPV6_V6ONLY),
            (SOL_IPV6, IPV6_RECVPKTINFO),
            (SOL_IPV6, IPV6_RECVTCLASS),
            (SOL_IPV6, IPV6_MTU_DISCOVER),
            (SOL_RAW, ICMP_FILTER),
            (SOL_ICMPV6, ICMP_FILTER),
            (SOL_NETLINK, NETLINK_LISTEN_ALL_NSID),
            (SOL_NETLINK, NETLINK_GET_STRICT_CHK),
        ]
        .map(option),
    );
    calls
}

/// That of raw(7), and the same number of the same thing for IPv6.
const ICMP_FILTER: c_int = 1;

fn option((level, name): (c_int, c_int)) -> (c_long, Vec<Condition>) {
    (SYS_setsockopt, vec![is(1, level as u32), is(2, name as u32)])
}

/// An argument of a call, the first of which is 0, and what its lower half must be.
type Condition = (u8, SeccompCmpOp, u64);

fn is(argument: u8, value: u32) -> Condition {
    (argument, Eq, value.into())
}

fn has(argument: u8, bit: u32) -> Condition {
    (argument, MaskedEq(bit.into()), bit.into())
}

fn lacks(argument: u8, bit: u32) -> Condition {
    (argument, MaskedEq(bit.into()), 0)
}

/// A filter that says `listed` to these calls, and `others` to the others.
fn filter(
    calls: impl IntoIterator<Item = (c_long, Vec<Condition>)>,
    listed: SeccompAction,
    others: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let mut rules = BTreeMap::<_, Vec<_>>::new();
    for (call, conditions) in calls {
        let ways = rules.entry(call).or_default();
        if !conditions.is_empty() {
            let each = conditions.into_iter().map(|(argument, operation, value)| {
                SeccompCondition::new(argument, Dword, operation, value)
            });
            ways.push(SeccompRule::new(each.collect::<Result<_, _>>()?)?);
        }
    }
    SeccompFilter::new(rules, others, listed, ARCH.try_into()?)?.try_into()
}
