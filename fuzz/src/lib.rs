//! Every reader of foreign bytes, tried with bytes that nobody would send.
//!
//! A target takes any bytes and panics when something that must hold does not: not only that nothing
//! panics, but what the reader promises. `tests/short.rs` tries each with its seeds, with what
//! campaigns have found worth keeping (`corpus/`), and with some thousand random edits of these;
//! `./fuzz/campaign` with what libFuzzer learns from the code that is reached.

pub mod corpus;
pub mod edits;
mod targets;

/// One reader, or several that are to agree.
pub struct Target {
    /// Of the target, and of its folder in `corpus/`.
    pub name: &'static str,
    /// Tries one input.
    pub run: fn(&[u8]),
    /// Inputs that make sense, for edits to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many edits the short form tries, by what one costs.
    pub rounds: u32,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "messages",
        run: targets::messages::run,
        seeds: targets::messages::seeds,
        rounds: 5_000,
    },
    Target {
        name: "sessions",
        run: targets::sessions::run,
        seeds: targets::sessions::seeds,
        rounds: 20_000,
    },
    Target { name: "story", run: targets::story::run, seeds: targets::story::seeds, rounds: 1_000 },
    Target {
        name: "segments",
        run: targets::segments::run,
        seeds: targets::segments::seeds,
        rounds: 50_000,
    },
    Target {
        name: "neighbours",
        run: targets::neighbours::run,
        seeds: targets::neighbours::seeds,
        rounds: 20_000,
    },
    Target { name: "file", run: targets::file::run, seeds: targets::file::seeds, rounds: 10_000 },
    Target {
        name: "words",
        run: targets::words::run,
        seeds: targets::words::seeds,
        rounds: 50_000,
    },
    Target { name: "uapi", run: targets::uapi::run, seeds: targets::uapi::seeds, rounds: 10_000 },
    Target {
        name: "answers",
        run: targets::answers::run,
        seeds: targets::answers::seeds,
        rounds: 20_000,
    },
    Target {
        name: "netlink",
        run: targets::netlink::run,
        seeds: targets::netlink::seeds,
        rounds: 50_000,
    },
    Target {
        name: "resolvers",
        run: targets::resolvers::run,
        seeds: targets::resolvers::seeds,
        rounds: 50_000,
    },
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
