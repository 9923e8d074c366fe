//! adit beside its peers on one machine, in one table. `bench/README.md` has the method.

mod candidate;
mod isolation;
mod lab;
mod measure;
mod options;
mod parts;
mod report;
mod run;
mod traffic;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use options::{Options, USAGE};

/// Everything that can go wrong is said in one sentence, to a person.
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1).peekable();
    if words.next_if(|word| word == "parts").is_some() {
        return parts::main(words).unwrap_or_else(|error| failed(&*error));
    }
    match Options::parse(words) {
        Ok(None) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Some(options)) => bench(&options).unwrap_or_else(|error| failed(&*error)),
        Err(error) => failed(&*error),
    }
}

fn bench(options: &Options) -> Outcome<ExitCode> {
    if !options.inside {
        return isolation::outside();
    }
    isolation::settle()?;
    let report = run::run(options)?;
    if options.json {
        // A measurement takes too long to be done again for the table.
        eprint!("{report}");
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(error: &dyn Error) -> ExitCode {
    eprintln!("adit-bench: {error}");
    ExitCode::FAILURE
}
