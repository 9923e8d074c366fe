//! `wg-quick up` (spec §4.3).

use std::env;
use std::os::unix::process::CommandExt;
use std::path::Path;

use config::quick::{is_v6, prefix};
use host::{Change, Network, Prefix};

use super::transcript::{child, is_there, run};
use super::{Failure, Outcome, Quick, Transcript, dns, down, mtu, route};
use crate::command::wg::kernel::{KIND, MODULE};

/// Does everything, or leaves nothing behind.
pub(super) fn up(quick: &Quick) -> Outcome {
    let mut network = Network::open()?;
    if network.has_link(&quick.interface)? {
        return Err(Failure::new(format!("`{}' already exists", quick.interface)));
    }
    let transcript = Transcript::interruptible()?;
    let mut up = Up { quick, network, transcript, has_dns: false };
    up.every_step().map_err(|failure| {
        failure.tell();
        up.undo();
        Failure::told(failure.status)
    })
}

/// A tunnel that is coming up.
struct Up<'a> {
    quick: &'a Quick,
    network: Network,
    transcript: Transcript,
    /// Name servers are on record.
    has_dns: bool,
}

impl Up<'_> {
    fn every_step(&mut self) -> Outcome {
        let Quick { interface, file, .. } = self.quick;
        self.create()?;
        self.transcript.hooks(&file.hooks.pre_up, interface)?;
        self.configure()?;
        self.addresses()?;
        mtu::set_and_up(self.quick, &mut self.network, &self.transcript)?;
        dns::set(self.quick, &self.transcript)?;
        self.has_dns = true;
        route::add_all(self.quick, &mut self.network, &self.transcript)?;
        self.transcript.hooks(&file.hooks.post_up, interface)?;
        self.transcript.unless_interrupted()
    }

    /// In the kernel, or else in user space.
    fn create(&mut self) -> Outcome {
        let name = &self.quick.interface;
        self.transcript.step(format!("ip link add dev {name} type {KIND}"))?;
        match self.network.apply(Change::CreateLink(name, KIND)) {
            Err(refused) if !Path::new(MODULE).exists() => self.create_in_user_space(refused),
            outcome => Ok(outcome?),
        }
    }

    /// By the program that the user prefers, or by ourselves.
    fn create_in_user_space(&self, refused: host::Error) -> Outcome {
        let name = &self.quick.interface;
        let preferred = env::var_os("WG_QUICK_USERSPACE_IMPLEMENTATION");
        let preferred = preferred.filter(|program| !program.is_empty());
        if let Some(program) = preferred.as_ref().filter(|program| !is_there(program)) {
            let text = format!("{refused}, and there is no program {}", program.display());
            return Err(Failure { text: Some(text), ..refused.into() });
        }
        // Whoever reads this looks for wg-quick's own words.
        eprintln!(
            "[!] Missing WireGuard kernel module. Falling back to slow userspace implementation."
        );
        match preferred {
            Some(program) => {
                self.transcript.step(format!("{} {name}", program.display()))?;
                run(child(program).arg(name), None)
            }
            None => {
                self.transcript.step(format!("adit daemon {name}"))?;
                // It is soon there; a Ctrl-C meanwhile must not leave it in between.
                run(ourselves().args(["daemon", "--", name]).process_group(0), None)
            }
        }
    }

    /// In a process of its own: while it waits for the names of hosts, a signal must be able to end
    /// it.
    fn configure(&self) -> Outcome {
        let Quick { interface, file, .. } = self.quick;
        self.transcript.step(format!("wg addconf {interface} /dev/fd/63"))?;
        run(ourselves().args(["wg", "addconf", interface, "/dev/stdin"]), Some(&file.rest))
    }

    fn addresses(&mut self) -> Outcome {
        for word in &self.quick.file.addresses {
            let name = &self.quick.interface;
            let family = if is_v6(word) { 6 } else { 4 };
            self.transcript.step(format!("ip -{family} address add {word} dev {name}"))?;
            let (address, length) =
                prefix(word).ok_or_else(|| Failure::new(format!("`{word}' is not an address")))?;
            self.network.apply(Change::AddAddress(name, Prefix { address, length }))?;
        }
        Ok(())
    }

    /// Takes back what was done, as far as that goes.
    fn undo(&mut self) {
        let transcript = Transcript::new();
        let quick = self.quick;
        let mut outcomes = Vec::new();
        if self.has_dns {
            outcomes.push(dns::unset(quick, &transcript));
        }
        outcomes.push(down::remove_firewall(quick, &transcript));
        outcomes.push(down::remove_rules(quick, &mut self.network, &transcript));
        if !matches!(self.network.has_link(&quick.interface), Ok(false)) {
            outcomes.push(down::delete_link(quick, &mut self.network, &transcript));
        }
        for failure in outcomes.into_iter().filter_map(Result::err) {
            failure.tell();
        }
    }
}

/// This program, whatever it was called and wherever its file is by now.
pub(in crate::command) fn ourselves() -> std::process::Command {
    let mut command = child("/proc/self/exe");
    command.arg0("adit");
    command
}
