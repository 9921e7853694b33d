//! What the example programs share: their arguments, `--help`, and how they end.
//! Examples only; the library knows nothing of it.

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

/// What to say when a needed option is missing.
pub(crate) fn missing(option: &str) -> Failure {
    Failure::Usage(format!("{option}: needed here"))
}
