//! What the example programs share: their arguments, `--help`, and how they end.
//! Examples only; the library knows nothing of it.

#![allow(dead_code, reason = "every example compiles all of it and uses its own part")]

pub(crate) mod process;

use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;
use std::str::FromStr;

/// Why a program ends before its work is done.
pub(crate) enum Failure {
    /// `--help` was asked for.
    Help,
    /// The arguments make no sense; the text names the one at fault. The exit code is 2.
    Usage(String),
    /// The work failed. The exit code is 1.
    Run(Box<dyn Error>),
}

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Run(error.into())
    }
}

/// Runs a program and says on standard error why it failed.
pub(crate) fn run(usage: &str, program: impl FnOnce(&mut Args) -> Result<ExitCode, Failure>) -> ExitCode {
    match program(&mut Args { parser: lexopt::Parser::from_env(), current: String::new() }) {
        Ok(code) => code,
        Err(Failure::Help) => {
            print!("{usage}");
            ExitCode::SUCCESS
        }
        Err(Failure::Usage(text)) => {
            eprintln!("{text}\n\n{usage}");
            ExitCode::from(2)
        }
        Err(Failure::Run(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments, one after the other.
pub(crate) struct Args {
    parser: lexopt::Parser,
    /// The option at hand, which errors name.
    current: String,
}

impl Args {
    /// The next argument: an option with its dashes, or a word.
    pub(crate) fn next(&mut self) -> Result<Option<String>, Failure> {
        use lexopt::Arg::{Long, Short, Value};

        self.current = match self.parser.next().map_err(|error| Failure::Usage(error.to_string()))? {
            None => return Ok(None),
            Some(Long("help") | Short('h')) => return Err(Failure::Help),
            Some(Long(name)) => format!("--{name}"),
            Some(Short(name)) => format!("-{name}"),
            Some(Value(word)) => word.to_string_lossy().into_owned(),
        };
        Ok(Some(self.current.clone()))
    }

    /// The value of the option at hand.
    pub(crate) fn value<T: FromStr<Err: Display>>(&mut self) -> Result<T, Failure> {
        let current = &self.current;
        let value = self.parser.value().map_err(|_| Failure::Usage(format!("{current}: its value is missing")))?;
        let text = value.to_string_lossy();
        text.parse().map_err(|error| Failure::Usage(format!("{current} {text}: {error}")))
    }

    /// What to say to an argument that nobody knows.
    pub(crate) fn unknown(&self) -> Failure {
        Failure::Usage(format!("{}: no such argument", self.current))
    }
}

/// Bytes from their hexadecimal digits.
pub(crate) fn read_hex(text: &str) -> Result<Vec<u8>, String> {
    let digit = |c: char| c.to_digit(16).ok_or_else(|| format!("{c:?} is no hexadecimal digit"));
    let digits: Vec<u32> = text.chars().map(digit).collect::<Result<_, _>>()?;
    match digits.as_chunks::<2>() {
        // Two digits make a byte.
        (pairs, []) => Ok(pairs.iter().map(|[high, low]| (high * 16 + low) as u8).collect()),
        _ => Err("an odd number of hexadecimal digits".into()),
    }
}
