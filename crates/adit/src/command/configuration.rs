//! `adit config`: what is wrong with a configuration file, what it means, and how it is written.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use config::file::{self, Explanation, Problem, Severity, Surroundings};
use lexopt::Arg;
use serde_json::json;

use super::source::{self, Source};
use super::words;

const USAGE: &str = "\
Usage: adit config check [--json] FILE
       adit config explain [--json] FILE
       adit config fmt [--write] FILE

  check     Tells everything that is wrong with FILE: `FILE:LINE: what is wrong; what to write instead'
  explain   Says beside each line what it does, without showing a secret
  fmt       Prints FILE written tidily, which changes nothing else; --write puts that into its place

FILE may be the name of an interface, whose file is /etc/wireguard/INTERFACE.conf, or `-' for stdin.
Ends with 0 if there is no error, warnings or not; with 1 if there is one, or FILE cannot be read; with
2 if the command line is wrong.
";

/// What was asked for.
struct Options {
    verb: Verb,
    file: OsString,
}

#[derive(Clone, Copy)]
enum Verb {
    Check { as_json: bool },
    Explain { as_json: bool },
    Tidy { write: bool },
}

/// Runs `adit config` with the words that follow it.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let options = match parse(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => return super::say(USAGE),
        Err(error) => {
            eprintln!("adit config: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let outcome = match options.verb {
        Verb::Check { as_json } => check(&options.file, as_json),
        Verb::Explain { as_json } => explain(&options.file, as_json),
        Verb::Tidy { write } => tidy(&options.file, write),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("adit config: {error}");
        ExitCode::FAILURE
    })
}

/// None asks for help.
fn parse(arguments: Vec<OsString>) -> Result<Option<Options>, lexopt::Error> {
    let (mut verb, mut file) = (None, None);
    let mut words = lexopt::Parser::from_args(arguments);
    while let Some(word) = words.next()? {
        match word {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long("json")
                if let Some(Verb::Check { as_json } | Verb::Explain { as_json }) = &mut verb =>
            {
                *as_json = true;
            }
            Arg::Long("write") if let Some(Verb::Tidy { write }) = &mut verb => *write = true,
            Arg::Value(word) if verb.is_none() => {
                verb = Some(match word.to_str() {
                    Some("check") => Verb::Check { as_json: false },
                    Some("explain") => Verb::Explain { as_json: false },
                    Some("fmt") => Verb::Tidy { write: false },
                    _ => return Err(Arg::Value(word.as_os_str().into()).unexpected()),
                });
            }
            Arg::Value(word) if file.is_none() => file = Some(word),
            word => return Err(word.unexpected()),
        }
    }
    match (verb, file) {
        (Some(verb), Some(file)) => Ok(Some(Options { verb, file })),
        (None, _) => Err("check, explain or fmt?".into()),
        (_, None) => Err("FILE is missing".into()),
    }
}

/// What is around a file matters as much as what is in it.
fn with_surroundings<T>(source: &Source, run: impl FnOnce(&Surroundings<'_>) -> T) -> T {
    let name = source.path.file_name().filter(|name| *name != "-").map(OsStr::to_string_lossy);
    let writable = source.writable_by_others();
    run(&Surroundings {
        name: name.as_deref(),
        writable: writable.as_deref(),
        readable: source.is_readable_by_others(),
        shared: source.is_written_by_others(),
    })
}

fn check(file: &OsStr, as_json: bool) -> Result<ExitCode, String> {
    let source = Source::read(file)?;
    let problems = with_surroundings(&source, |around| file::check(&source.content, around));
    let is_error = |problem: &&Problem| problem.severity == Severity::Error;
    let errors = problems.iter().filter(is_error).count();
    let path = source.path.display();
    let text = if as_json {
        let warnings = problems.len() - errors;
        let problems: Vec<_> = problems.iter().map(problem_as_json).collect();
        let path = path.to_string();
        let report = json!({
            "v": 1, "file": path, "errors": errors, "warnings": warnings, "problems": problems,
        });
        format!("{report:#}\n")
    } else {
        problems.iter().map(|problem| format!("{path}:{}: {problem}\n", problem.line)).collect()
    };
    let said = super::say(&text);
    Ok(if errors == 0 { said } else { ExitCode::FAILURE })
}

/// The errors in a file, each as `LINE: what; instead'.
pub struct Errors {
    /// The first that keeps `wg' and `wg-quick' from using it, too, or that there is no interface, of
    /// which they make an empty one.
    pub fatal: Option<String>,
    /// Those that they take, though something else comes of it than is written.
    pub taken: Vec<String>,
}

impl Errors {
    /// Looks for them.
    pub fn of(content: &[u8]) -> Self {
        const TAKEN: [&str; 4] = ["allowed-ips-taken", "key-zero", "own-key", "peer-repeated"];
        let problems = file::check(content, &Surroundings::default()).into_iter();
        let errors = problems.filter(|problem| problem.severity == Severity::Error);
        let (taken, fatal): (Vec<_>, Vec<_>) =
            errors.partition(|problem| TAKEN.contains(&problem.code));
        let line = |problem: &Problem| format!("{}: {problem}", problem.line);
        Self { fatal: fatal.first().map(line), taken: taken.iter().map(line).collect() }
    }
}

fn problem_as_json(problem: &Problem) -> serde_json::Value {
    json!({
        "line": problem.line,
        "severity": problem.severity.name(),
        "code": problem.code,
        "what": problem.what,
        "instead": problem.instead,
    })
}

fn explain(file: &OsStr, as_json: bool) -> Result<ExitCode, String> {
    let source = Source::read(file)?;
    let lines = with_surroundings(&source, |around| file::explain(&source.content, around));
    let text = if as_json {
        let path = source.path.display().to_string();
        let lines: Vec<_> = lines
            .iter()
            .map(|one| {
                let severity = one.severity.map(Severity::name);
                json!({
                    "line": one.line, "text": one.text, "meaning": one.meaning,
                    "severity": severity,
                })
            })
            .collect();
        format!("{:#}\n", json!({ "v": 1, "file": path, "lines": lines }))
    } else {
        columns(&lines)
    };
    Ok(super::say(&text))
}

/// Lines at the left, what they mean at the right, below the line if that is long.
fn columns(lines: &[Explanation]) -> String {
    const WIDEST: usize = 48;
    let width = |one: &Explanation| one.text.chars().count();
    let widest = lines.iter().map(width).filter(|width| *width <= WIDEST).max().unwrap_or(0);
    let mut text = String::new();
    for one in lines {
        // Nothing fails that is written into a string.
        let _ = match (one.meaning.as_str(), width(one) > widest) {
            ("", _) => writeln!(text, "{}", one.text),
            (meaning, true) => writeln!(text, "{}\n{:widest$}  # {meaning}", one.text, ""),
            (meaning, false) => writeln!(text, "{:widest$}  # {meaning}", one.text),
        };
    }
    text
}

fn tidy(file: &OsStr, write: bool) -> Result<ExitCode, String> {
    let source = Source::read(file)?;
    let path = source.path.display();
    let text = file::tidy(&source.content).map_err(|problems| {
        let told = problems.iter().map(|problem| format!("\n{path}:{}: {problem}", problem.line));
        format!(
            "{path} is left as it is, since not all of it is understood:{}",
            told.collect::<String>()
        )
    })?;
    if !write {
        return Ok(super::say_as("adit config", &text));
    }
    let written = if source.path == Path::new("-") {
        return Err("stdin cannot be written to; leave out --write".to_owned());
    } else if *text == *source.content {
        Ok(())
    } else {
        source::replace(&source.path, &text)
    };
    let failed = |error| format!("{path} cannot be written: {}", words(&error));
    written.map(|()| ExitCode::SUCCESS).map_err(failed)
}
